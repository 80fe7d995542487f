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


def searched_settings(space: SpaceParams) -> list[str]:
    """Return the settings that have more than one value."""
    return [name for name, ends in space.ends().items() if len(set(ends)) > 1]


def study_name(setting: str) -> str:
    """Return the name of a setting in Optuna's studies: its first one, so that earlier studies go on."""
    return SpaceParams.former_names.get(setting, setting)


def setting_of(name: str) -> str:
    """Return the setting that a parameter of an Optuna study is."""
    return next((n for n, former in SpaceParams.former_names.items() if former == name), name)


def distributions(space: SpaceParams) -> dict[str, BaseDistribution]:
    """Return the Optuna distributions of the settings that have more than one value, under the study's names."""
    ends = space.ends()
    return {
        study_name(name): _distribution(name, getattr(space, name), ends[name])
        for name in searched_settings(space)
    }


def _distribution(name: str, values: Any, ends: Sequence[float]) -> BaseDistribution:
    if isinstance(values, list):
        return CategoricalDistribution(sorted(set(ends)))
    if isinstance(values, IntRange):
        return IntDistribution(values.low, values.high)
    return FloatDistribution(values.low, values.high, log=name in _ON_A_LOGARITHMIC_SCALE)


def training_of(
    training: TrainingParams, space: SpaceParams, sampled: Mapping[str, Any]
) -> TrainingParams:
    """Return the settings of one trial: the form's, overridden by the space's fixed values and the sampled ones."""
    ends = space.ends()
    fixed = {name: values[0] for name, values in ends.items() if len(set(values)) == 1}
    by_setting = {setting_of(name): value for name, value in sampled.items()}
    chosen = {name: _rounded(value, ends[name]) for name, value in by_setting.items()}
    return TrainingParams.model_validate(training.model_dump() | fixed | chosen)


def _rounded(value: Any, ends: Sequence[float]) -> Any:
    if not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), min(ends)), max(ends))


def first_values(training: TrainingParams, space: SpaceParams) -> dict[str, Any]:
    """Return the settings of the first trial, under the study's names: the form's own, or the nearest in the space.

    The sweep therefore ends no worse than these.
    """
    ends = space.ends()
    first: dict[str, Any] = {}
    for name in searched_settings(space):
        value = getattr(training, name)
        if name == "batch_size":
            nearest = min(ends[name], key=lambda choice: abs(choice - value))
        else:
            nearest = min(max(value, min(ends[name])), max(ends[name]))
        first[study_name(name)] = nearest
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
