"""Hyperparameter search with Optuna: distributions, sampler and pruner of a sweep.

Every setting that can be searched is a training setting, with its name and its bounds.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from pydantic import Field

from tasks.core.records import Record
from tasks.core.training.params import TrainingParams
from tasks.core.training.tuning.params import IntRange, Metric, PruningParams, SpaceParams

_ON_A_LOGARITHMIC_SCALE = ("learning_rate",)
DIGITS = 4  # significant digits of a sampled number: short enough to type into a form


class PrunedTraining(Record):
    """A training that was pruned because it did worse than earlier trials. It leaves no model."""

    epochs: int
    steps: int
    validation: dict[str, float] = Field(description="loss and accuracy after the last epoch.")
    mlflow_run_id: str


def distributions(space: SpaceParams) -> dict[str, BaseDistribution]:
    """Return the Optuna distributions of the settings that have more than one value."""
    made: dict[str, BaseDistribution] = {}
    for name, ends in space.ends().items():
        given: Any = getattr(space, name)
        if len(set(ends)) == 1:
            continue
        if isinstance(given, list):
            made[name] = CategoricalDistribution(sorted(set(ends)))
        elif isinstance(given, IntRange):
            made[name] = IntDistribution(given.low, given.high)
        else:
            logarithmic = name in _ON_A_LOGARITHMIC_SCALE
            made[name] = FloatDistribution(given.low, given.high, log=logarithmic)
    return made


def training_of(
    training: TrainingParams, space: SpaceParams, sampled: Mapping[str, Any]
) -> TrainingParams:
    """Return the settings of one trial: the form's, overridden by the space's fixed values and the sampled ones."""
    ends = space.ends()
    fixed = {name: values[0] for name, values in ends.items() if len(set(values)) == 1}
    chosen = {name: _rounded(value, ends[name]) for name, value in sampled.items()}
    return TrainingParams.model_validate(training.model_dump() | fixed | chosen)


def _rounded(value: Any, ends: Sequence[float]) -> Any:
    if not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), min(ends)), max(ends))


def first_values(training: TrainingParams, space: SpaceParams) -> dict[str, Any]:
    """Return the settings of the first trial: the form's own, or the nearest in the space.

    The sweep therefore ends no worse than these.
    """
    ends = space.ends()
    first: dict[str, Any] = {}
    for name in distributions(space):
        value = getattr(training, name)
        if name == "batch_size":
            first[name] = min(ends[name], key=lambda choice: abs(choice - value))
        else:
            first[name] = min(max(value, min(ends[name])), max(ends[name]))
    return first


def most_demanding(training: TrainingParams, space: SpaceParams) -> TrainingParams:
    """Return the settings that need the most layers: a base model that has these has enough for every trial."""
    frozen = max(space.ends().get("frozen_layers", (training.frozen_layers,)))
    return training.model_copy(update={"frozen_layers": int(frozen)})


def sampler(seed: int, drawn: int) -> BaseSampler:
    """Return the sampler for one trial: random at first, then a tree-structured Parzen estimator.

    Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011), in Optuna's multivariate form, which takes
    running trials into account. Each trial seeds its sampler with the number of trials drawn before it, so that an
    interrupted sweep resumes with the same choices as an uninterrupted one.
    """
    own_seed = np.random.SeedSequence([seed, drawn]).generate_state(1)[0]
    return TPESampler(seed=int(own_seed))


def pruner(params: PruningParams) -> BasePruner:
    """Return the pruner: the median stopping rule (Golovin et al., "Google Vizier", 2017).

    It is asked after each epoch, counted from 1.
    """
    if not params.enabled:
        return NopPruner()
    return MedianPruner(
        n_startup_trials=params.after_trials, n_warmup_steps=params.warm_up_epochs + 1
    )


def direction(metric: Metric) -> Literal["maximize", "minimize"]:
    """Return the Optuna direction in which a metric improves."""
    return "maximize" if metric == "accuracy" else "minimize"
