"""The sweep form: the search space, and the rule for pruning trials."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from tasks.core.forms import Form, problems_of
from tasks.core.parsing.patterns import STUDY
from tasks.core.training.params import TrainingParams

Metric: TypeAlias = Literal["accuracy", "loss"]


class TrialParams(Form):
    """The sweep trial that a training belongs to. It does not affect the weights."""

    study: Annotated[str, STUDY] = Field(description="Name of the study.")
    number: int = Field(ge=0, le=10**6, description="Number of the trial, from 0.")


class FloatRange(Form):
    """A range of numbers, both ends included. Equal ends fix the setting."""

    low: float = Field(ge=0, le=1, description="Lowest value.")
    high: float = Field(
        ge=0, le=1, description="Highest value. Equal to the lowest: the setting is fixed."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        return _in_order(self)


class IntRange(Form):
    """A range of whole numbers, both ends included. Equal ends fix the setting."""

    low: int = Field(ge=0, le=10_000, description="Lowest value.")
    high: int = Field(
        ge=0, le=10_000, description="Highest value. Equal to the lowest: the setting is fixed."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        return _in_order(self)


def _in_order(values: Any) -> Any:
    if values.low > values.high:
        raise ValueError(f"low is {values.low:g}, which is more than high, {values.high:g}")
    return values


class SpaceParams(Form):
    """Settings of `training` to search, each with a range or a list. Empty (null): use the value in `training`."""

    former_names: ClassVar = {"warmup_ratio": "warmup_share"}

    learning_rate: FloatRange | None = Field(
        default=FloatRange(low=2e-5, high=3e-4),
        description="Range of the learning rate, sampled on a logarithmic scale. Above 5e-4 a BERT diverges.",
    )
    batch_size: list[int] | None = Field(
        default=[8, 16, 32],
        min_length=1,
        max_length=20,
        description="Mini-batch sizes to try.",
    )
    warmup_ratio: FloatRange | None = Field(
        default=FloatRange(low=0, high=0.2),
        description="Range of the fraction of the steps used for warmup.",
    )
    weight_decay: FloatRange | None = Field(
        default=FloatRange(low=0, high=0.1), description="Range of the weight decay of AdamW."
    )
    epochs: IntRange | None = Field(
        default=None,
        description="Range of the number of epochs. Turn pruning off for a wide range: it compares trials epoch by "
        "epoch.",
    )
    frozen_layers: IntRange | None = Field(
        default=None,
        description="Range of the number of frozen layers. More frozen layers train faster.",
    )
    attention_dropout: FloatRange | None = Field(
        default=None, description="Range of the attention dropout. Values above 0 train slowly."
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
        ends: dict[str, tuple[float, ...]] = {}
        for name in SpaceParams.model_fields:
            values: Any = getattr(self, name)
            if values is not None:
                ends[name] = (
                    tuple(values) if isinstance(values, list) else (values.low, values.high)
                )
        return ends


class PruningParams(Form):
    """Stop a trial whose best epoch so far is worse than the median of the finished trials at that epoch."""

    enabled: bool = Field(
        default=True, description="Stop unpromising trials early. Off: run every trial to its end."
    )
    warm_up_epochs: int = Field(
        default=1, ge=0, le=50, description="Number of initial epochs in which no trial is stopped."
    )
    after_trials: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Number of trials that must finish before any is stopped.",
    )


class SweepParams(Form):
    """Hyperparameter search: number of trials, metric, pruning and search space."""

    trials: int = Field(
        default=20,
        ge=1,
        le=1000,
        description="Total number of trials. To continue a sweep, run the same form with a higher number.",
    )
    at_once: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of trials to train in parallel. Always 1 if NIGHTSHIFT_TRAINING_DEPLOYMENT is not set.",
    )
    timeout_hours: float | None = Field(
        default=None,
        gt=0,
        le=24 * 60,
        description="Start no trial after this many hours; running trials finish. Empty: no limit.",
    )
    metric: Metric = Field(
        default="accuracy",
        description="Validation metric. accuracy: maximized. loss: minimized; it tells trials apart better if "
        "validation reviews are few.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        le=2**31 - 1,
        description="Random seed of the search; trainings use training.seed.",
    )
    stop_after_failures: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="End the sweep after this many consecutive failed trials.",
    )
    pruning: PruningParams = Field(
        default=PruningParams(), description="Early stopping of unpromising trials."
    )
    space: SpaceParams = Field(default=SpaceParams(), description="Search space.")

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
                f"training.{name} is {value:g}, and sweep.space.{name} tries {_ends_text(name, ends)}: "
                "widen it, or empty it to have the value fixed"
            )


def _holds(ends: Sequence[float], name: str, value: float) -> bool:
    return value in ends if name == "batch_size" else min(ends) <= value <= max(ends)


def _ends_text(name: str, ends: Sequence[float]) -> str:
    if name == "batch_size":
        return ", ".join(f"{value:g}" for value in ends)
    return f"{ends[0]:g} to {ends[-1]:g}"
