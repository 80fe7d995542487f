"""The sweep form: the search space, and the rule for pruning trials."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from tasks.core.forms import Form, problems_of
from tasks.core.parsing.patterns import STUDY
from tasks.core.training.params import TrainingParams

Metric: TypeAlias = Literal["accuracy", "loss"]


class TrialParams(Form):
    """The trial of a sweep that a training belongs to. It has no influence on the weights."""

    study: Annotated[str, STUDY] = Field(description="Name of the study.")
    number: int = Field(ge=0, le=10**6, description="Number of the trial, from 0.")


class FloatRange(Form):
    """A range of numbers, both ends included. If they are equal, the setting is fixed."""

    low: float = Field(ge=0, le=1, description="Lowest value.")
    high: float = Field(ge=0, le=1, description="Highest value; equal to the lowest: fixed.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        return _in_order(self)


class IntRange(Form):
    """A range of whole numbers, both ends included. If they are equal, the setting is fixed."""

    low: int = Field(ge=0, le=10_000, description="Lowest value.")
    high: int = Field(ge=0, le=10_000, description="Highest value; equal to the lowest: fixed.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        return _in_order(self)


def _in_order(values: Any) -> Any:
    if values.low > values.high:
        raise ValueError(f"low is {values.low:g}, which is more than high, {values.high:g}")
    return values


class SpaceParams(Form):
    """The search space. Names and bounds are those of `training`; None keeps the value that `training` has."""

    former_names: ClassVar = {"warmup_ratio": "warmup_share"}

    learning_rate: FloatRange | None = Field(
        default=FloatRange(low=2e-5, high=3e-4),
        description="On a logarithmic scale. Beyond 5e-4 a BERT diverges.",
    )
    batch_size: list[int] | None = Field(
        default=[8, 16, 32],
        min_length=1,
        max_length=20,
        description="Each of these, as the memory allows.",
    )
    warmup_ratio: FloatRange | None = Field(
        default=FloatRange(low=0, high=0.2), description="Share of the steps."
    )
    weight_decay: FloatRange | None = Field(
        default=FloatRange(low=0, high=0.1), description="AdamW's."
    )
    epochs: IntRange | None = Field(
        default=None,
        description="Trials of other lengths fall at other rates; pruning compares them epoch by epoch all the same.",
    )
    frozen_layers: IntRange | None = Field(
        default=None, description="Fewer trained layers are faster."
    )
    attention_dropout: FloatRange | None = Field(
        default=None, description="Anything above 0 is slow."
    )

    @model_validator(mode="after")
    def _within_bounds(self) -> Self:
        """Check that a training accepts both ends of every range, and that something is left to search."""
        for name, ends in self.ends().items():
            for value in ends:
                try:
                    TrainingParams.model_validate({name: value})
                except ValidationError as error:
                    raise ValueError(
                        problems_of(error).replace(f"{name}: ", f"{name} of a training: ", 1)
                    ) from None
        if not any(len(set(ends)) > 1 for ends in self.ends().values()):
            raise ValueError("nothing is left to try: every setting has one value")
        return self

    def ends(self) -> dict[str, tuple[float, ...]]:
        """Return the settings that are set here, by name: both ends of a range, or all choices."""
        found: dict[str, tuple[float, ...]] = {}
        for name in SpaceParams.model_fields:
            given: Any = getattr(self, name)
            if given is not None:
                found[name] = tuple(given) if isinstance(given, list) else (given.low, given.high)
        return found


class PruningParams(Form):
    """The pruning rule: stop a trial whose best epoch so far is worse than the others' median at that epoch."""

    enabled: bool = Field(default=True, description="Off: every trial runs to its end.")
    warm_up_epochs: int = Field(
        default=1, ge=0, le=50, description="Epochs that every trial may have."
    )
    after_trials: int = Field(
        default=5, ge=1, le=1000, description="So many must have run to their end before."
    )


class SweepParams(Form):
    """The settings of a sweep: number of trials, metric, pruning and search space."""

    trials: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="In all: the same form with more of them goes on where the sweep ended.",
    )
    at_once: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Trainings at a time, on the pool of NIGHTSHIFT_TRAINING_DEPLOYMENT; without it, always one.",
    )
    timeout_hours: float | None = Field(
        default=None, gt=0, le=24 * 60, description="No trial begins later; those begun are ended."
    )
    metric: Metric = Field(
        default="accuracy", description="On the validation reviews, of the epoch that is kept."
    )
    seed: int = Field(
        default=42, ge=0, le=2**31 - 1, description="Of the choice of settings, not of a training."
    )
    stop_after_failures: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="The sweep ends when so many trials have failed one after the other.",
    )
    pruning: PruningParams = Field(
        default=PruningParams(), description="Stopping hopeless trials early."
    )
    space: SpaceParams = Field(default=SpaceParams(), description="What is tried.")

    def identity(
        self, include: Collection[str] | None = None, exclude: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the values that identify a sweep. The number of trials and the limits on their timing do not."""
        return super().identity(
            include, {"trials", "at_once", "timeout_hours", "stop_after_failures", *exclude}
        )


def require_agreement(training: TrainingParams, space: SpaceParams) -> None:
    """Raise ValueError if `training` sets a value that the space contradicts."""
    for name, ends in space.ends().items():
        value: float = getattr(training, name)
        chosen = value != TrainingParams.model_fields[name].default
        if chosen and not _holds(ends, name, value):
            raise ValueError(
                f"training.{name} is {value:g}, and sweep.space.{name} tries {_said(name, ends)}: "
                "widen it, or empty it to have the value fixed"
            )


def _holds(ends: Sequence[float], name: str, value: float) -> bool:
    return value in ends if name == "batch_size" else min(ends) <= value <= max(ends)


def _said(name: str, ends: Sequence[float]) -> str:
    if name == "batch_size":
        return ", ".join(f"{value:g}" for value in ends)
    return f"{ends[0]:g} to {ends[-1]:g}"
