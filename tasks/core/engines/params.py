"""The form for choosing a model's scoring engine, in a module of its own so that it imports quickly."""

from typing import Any, Literal

from pydantic import Field, field_validator

from tasks.core.engines.registry import EngineName, warn_if_removed
from tasks.core.forms import Form


class EngineChoiceParams(Form):
    """Choice of the inference engine: installed engines are benchmarked before the model is registered."""

    measure: bool = Field(
        default=True,
        description="Benchmark the installed engines and use the best one. Off, and always on a GPU: use torch.",
    )
    candidates: list[EngineName] = Field(
        default=["torch", "openvino", "openvino-int8", "cascade", "cascade-bf16"],
        max_length=10,
        description="Engines to benchmark, if installed (see docs/engines.md). cascade starts in int8, cascade-bf16 "
        "in bf16.",
    )
    minimum_agreement: float = Field(
        default=0.999,
        ge=0.9,
        le=1.0,
        description="Minimum fraction of reviews that an engine labels as fp32 does, shown with 95% confidence.",
    )
    maximum_change: float = Field(
        default=0.05,
        gt=0.0,
        le=1.0,
        description="Count a review as a disagreement if a probability differs from fp32 by more than this. 1: "
        "compare labels only.",
    )
    cascade: Literal["exact", "labels", "fast", "blended"] = Field(
        default="exact",
        description="exact: score in int8/bf16, then re-score low-margin reviews in fp32. labels: like exact, but a "
        "linear model first labels reviews on which it is shown to agree with fp32 (needs 2,995 reviews outside "
        "training). fast: linear model, int8/bf16, then a more precise engine; labels may differ, but accuracy is not "
        "lower. blended: add the log-odds of a linear model to int8/bf16; preferred if more accurate on validation.",
    )
    accuracy_margin: float = Field(
        default=0.005,
        gt=0.0,
        le=0.1,
        description="Reject an engine that may be less accurate than fp32 by more than this (95% confidence).",
    )
    judged_rows: int = Field(
        default=5000,
        ge=20,
        le=100_000,
        description="Maximum number of reviews to compare engines on. With fewer than 2,995, 99.9% agreement cannot "
        "be shown and fp32 is used.",
    )
    timed_rows: int = Field(
        default=128,
        ge=1,
        le=100_000,
        description="Number of the compared reviews to measure throughput on.",
    )
    rounds: int = Field(
        default=3, ge=1, le=50, description="Number of timing rounds per engine. The median counts."
    )
    keep: Literal["chosen", "all"] = Field(
        default="chosen",
        description="chosen: register only the files of the chosen engine. all: register all engines, so that "
        "scoring can select another one.",
    )

    @field_validator("candidates", mode="before")
    @classmethod
    def _leave_out_removed(cls, names: Any) -> Any:
        """Leave out engines that Nightshift no longer has: stored parameters may name them."""
        if not isinstance(names, list | tuple):
            return names
        return [name for name in names if not warn_if_removed(name)]

    @property
    def keeps_labels(self) -> bool:
        """True if a cascade must give the labels that the model gives in fp32."""
        return self.cascade in ("exact", "labels")
