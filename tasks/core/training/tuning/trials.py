"""Queries on the trials of a sweep: those that count, the best one, those to run again, and the results table.

A sweep is an Optuna study, and its trials are Optuna's `FrozenTrial`s. Facts that Optuna does not keep (why a trial
failed, which process owns it, where its model is) are user attributes under the names below.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tasks.core.training.params import TrainingParams
from tasks.core.training.tuning.params import Metric, SpaceParams
from tasks.core.training.tuning.sweep import (
    DIGITS,
    direction,
    searched_settings,
    setting_of,
    training_of,
)

# User attributes of a trial.
PROCESS = "nightshift.process"  # host:pid:start of the process that asked for it
FLOW_RUN = "nightshift.flow_run"  # the flow run of that process
REASON = "nightshift.reason"  # why it failed
DIED = "nightshift.died"  # it failed together with the run that asked for it, and is run again
MODEL = "nightshift.model"  # where its model is

RUN_IS_OVER = "The run that had begun it is over"  # the reason if a trial died without an error


_TIMES_DEAD = 4  # a trial that died this often is not run again


def died(trial: FrozenTrial) -> bool:
    """True if a trial failed together with the run that asked for it. Such a trial does not count."""
    return DIED in trial.user_attrs


def settled(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that are finished and count."""
    return [t for t in trials if t.state.is_finished() and not died(t)]


def failures_to_forget(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of failed trials of earlier runs that should not count: all, if no trial ever completed.

    The cause is then something other than their settings.
    """
    if any(t.state == TrialState.COMPLETE for t in trials):
        return set()
    return {t.number for t in trials if t.state == TrialState.FAIL}


def drawn(trials: Sequence[FrozenTrial]) -> int:
    """Return the number of trials started, counting a trial that was run again once. It seeds `sampler`."""
    return sum(t.state != TrialState.WAITING and not died(t) for t in trials)


def asked_for(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters of a trial, which may have died before all were sampled."""
    return dict(trial.system_attrs.get("fixed_params", {})) | trial.params


def best(trials: Sequence[FrozenTrial], metric: Metric) -> FrozenTrial | None:
    """Return the best complete trial, the earliest among equals, or None if there is none."""
    sign = -1.0 if direction(metric) == "maximize" else 1.0
    over = [t for t in trials if t.state == TrialState.COMPLETE]
    return min(over, key=lambda t: (sign * value_of(t), t.number)) if over else None


def value_of(trial: FrozenTrial) -> float:
    """Return the metric of a trial, or NaN if it has none."""
    return trial.values[0] if trial.values else math.nan


def is_hopeless(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    """True if trials of these settings died with their run so often that the settings are the likely cause."""
    with_their_run = [t for t in trials if t.user_attrs.get(DIED) == RUN_IS_OVER]
    before = sum(t.params == trial.params for t in with_their_run)
    return before + 1 >= _TIMES_DEAD


def state_of(trial: FrozenTrial) -> str:
    """Return the state of a trial as one word."""
    if died(trial):
        return "died"
    names = {TrialState.COMPLETE: "done", TrialState.FAIL: "failed"}
    return names.get(trial.state, trial.state.name.lower())


def settings_text(values: Mapping[str, Any]) -> str:
    """Format settings on one line."""
    return ", ".join(
        f"{setting_of(name)} {value:.{DIGITS}g}"
        if isinstance(value, float)
        else f"{setting_of(name)} {value}"
        for name, value in values.items()
    )


def rows(
    trials: Sequence[FrozenTrial], metric: Metric, training: TrainingParams, space: SpaceParams
) -> list[dict[str, Any]]:
    """Return the rows of the results table, the best first, trials without a metric last."""
    sign = -1.0 if direction(metric) == "maximize" else 1.0
    order = sorted(
        trials,
        key=lambda t: (
            t.state != TrialState.COMPLETE,
            math.isnan(value_of(t)),
            sign * (0.0 if math.isnan(value_of(t)) else value_of(t)),
            t.number,
        ),
    )
    return [_row(trial, metric, training, space) for trial in order]


def _row(
    trial: FrozenTrial, metric: Metric, training: TrainingParams, space: SpaceParams
) -> dict[str, Any]:
    tried = training_of(training, space, trial.params)
    value = value_of(trial)
    duration = trial.duration
    return {
        "trial": trial.number,
        "state": state_of(trial),
        metric: "" if math.isnan(value) else round(value, 4),
        "epochs": trial.last_step or "",
        "minutes": round(duration.total_seconds() / 60, 1) if duration else "",
        **{name: getattr(tried, name) for name in searched_settings(space)},
        "reason": str(trial.user_attrs.get(REASON) or trial.user_attrs.get(DIED) or ""),
    }
