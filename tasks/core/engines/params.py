"""The form for choosing a model's scoring engine, in a module of its own so that it imports quickly."""

import logging
from typing import Any, Literal

from pydantic import Field, field_validator

from tasks.core.engines.registry import EngineName
from tasks.core.forms import Form

logger = logging.getLogger(__name__)

_REMOVED = {"onnx", "onnx-int8", "cascade-torch"}


class EngineChoiceParams(Form):
    """The settings for choosing a model's engine. Installed engines are compared when the model is registered."""

    measure: bool = Field(
        default=True,
        description="Compare them. Without, where nothing beside torch is installed, and on a GPU, it is torch.",
    )
    candidates: list[EngineName] = Field(
        default=["torch", "openvino", "openvino-int8", "cascade", "cascade-bf16"],
        max_length=10,
        description="Which are compared, where they are installed. cascade-bf16 begins in bf16.",
    )
    minimum_agreement: float = Field(
        default=0.999,
        ge=0.9,
        le=1.0,
        description="Share of reviews that an engine must be shown to give the label that the model gives in fp32, at "
        "a confidence of 95%. A cascade scores again in full precision what it must to keep to it.",
    )
    maximum_change: float = Field(
        default=0.05,
        gt=0.0,
        le=1.0,
        description="A review in which a probability differs from fp32's by more than this counts as one with another "
        "label. 1: labels alone count.",
    )
    cascade: Literal["exact", "labels", "fast", "blended"] = Field(
        default="exact",
        description="exact: int8 or bf16 first, and in fp32 what lies near the line. labels: a linear model before "
        "them, where its labels are sure to be the model's, which takes 2,995 reviews to say that were not trained on "
        "(judged_rows), at a minimum_agreement of 0.999; its probabilities are its own. "
        "fast: a linear model first, then int8, then what is more precise, so that accuracy is not lower, though "
        "labels differ. blended: a linear model first, whose evidence is added to int8's or bf16's: more accurate on "
        "IMDb than the model, and chosen where it is on the validation reviews, too.",
    )
    accuracy_margin: float = Field(
        default=0.005,
        gt=0.0,
        le=0.1,
        description="How much lower the accuracy of a fast cascade may be, at a risk of 5%; on the validation reviews "
        "it is not lower at all.",
    )
    judged_rows: int = Field(
        default=5000,
        ge=20,
        le=100_000,
        description="Reviews whose answers are compared, at most: those that the model's versions have scored, then "
        "validation and training reviews. From 2,995 on they can show an agreement of 99.9%; where there are fewer, "
        "the model scores in fp32.",
    )
    timed_rows: int = Field(
        default=128,
        ge=1,
        le=100_000,
        description="Of these, how many are scored against the clock.",
    )
    rounds: int = Field(default=3, ge=1, le=50, description="How often, in turns; medians count.")
    keep: Literal["chosen", "all"] = Field(
        default="chosen",
        description="Whose files are registered with the model: what the chosen one needs, or all that were built, so "
        "that a scoring run may name another one.",
    )

    @field_validator("candidates", mode="before")
    @classmethod
    def _leave_out_removed(cls, given: Any) -> Any:
        """Leave out engines that Nightshift no longer has: stored parameters may name them."""
        if not isinstance(given, list):
            return given
        for name in (removed := [n for n in given if n in _REMOVED]):
            logger.warning("The engine %s is no longer part of Nightshift, and is left out", name)
        return [name for name in given if name not in removed]

    @property
    def keeps_labels(self) -> bool:
        """True if a cascade must give the labels that the model gives in fp32."""
        return self.cascade in ("exact", "labels")
