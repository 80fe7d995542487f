"""What the trials of a sweep say: which count, which is the best, which are begun again; and the table of them.

A sweep is an Optuna study, and its trials are Optuna's own `FrozenTrial`s; what Optuna does not know of them (why one
failed, whose it is, where its model lies) is in their user attributes, under the names below.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tasks.core.training.params import TrainingParams
from tasks.core.training.tuning.params import Metric, SpaceParams
from tasks.core.training.tuning.sweep import DIGITS, direction, distributions, training_of

# User attributes of a trial.
PROCESS = "nightshift.process"  # host:pid:start of the process that asked for it,
FLOW_RUN = "nightshift.flow_run"  # and its flow run
REASON = "nightshift.reason"  # why it failed
DIED = "nightshift.died"  # it failed with the run that had asked for it, and is begun again
MODEL = "nightshift.model"  # where its model lies

RUN_IS_OVER = "The run that had begun it is over"  # the reason of one that died without a word


_TIMES_DEAD = 4  # a trial that has died so often is not begun again


def died(trial: FrozenTrial) -> bool:
    """True of a trial that went down with the run that had asked for it: it counts as none."""
    return DIED in trial.user_attrs


def settled(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that are over and count."""
    return [t for t in trials if t.state.is_finished() and not died(t)]


def failures_to_forget(trials: Sequence[FrozenTrial]) -> set[int]:
    """Trials that failed in earlier runs, where not one came to a result: then something else was wrong than they."""
    if any(t.state == TrialState.COMPLETE for t in trials):
        return set()
    return {t.number for t in trials if t.state == TrialState.FAIL}


def drawn(trials: Sequence[FrozenTrial]) -> int:
    """How many were begun, a trial that was begun again counted once: what `sampler` is seeded by."""
    return sum(t.state != TrialState.WAITING and not died(t) for t in trials)


def asked_for(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters of a trial that may have died before all were chosen."""
    return dict(trial.system_attrs.get("fixed_params", {})) | trial.params


def best(trials: Sequence[FrozenTrial], metric: Metric) -> FrozenTrial | None:
    """The best of those that ran to their end, the earliest of equals; None where there is none."""
    sign = -1.0 if direction(metric) == "maximize" else 1.0
    over = [t for t in trials if t.state == TrialState.COMPLETE]
    return min(over, key=lambda t: (sign * value_of(t), t.number)) if over else None


def value_of(trial: FrozenTrial) -> float:
    """The metric of a trial; not a number where it has none."""
    return trial.values[0] if trial.values else math.nan


def is_hopeless(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    """True of a trial whose settings have gone down with their run so often that they are likely what kills it."""
    with_their_run = [t for t in trials if t.user_attrs.get(DIED) == RUN_IS_OVER]
    before = sum(t.params == trial.params for t in with_their_run)
    return before + 1 >= _TIMES_DEAD


def state_of(trial: FrozenTrial) -> str:
    """In a word."""
    if died(trial):
        return "died"
    names = {TrialState.COMPLETE: "done", TrialState.FAIL: "failed"}
    return names.get(trial.state, trial.state.name.lower())


def settings_text(values: Mapping[str, Any]) -> str:
    """Settings on one line."""
    return ", ".join(
        f"{name} {value:.{DIGITS}g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def rows(
    trials: Sequence[FrozenTrial], metric: Metric, training: TrainingParams, space: SpaceParams
) -> list[dict[str, Any]]:
    """The table that people see, the best first, those without a figure last."""
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
        **{name: getattr(tried, name) for name in distributions(space)},
        "reason": str(trial.user_attrs.get(REASON) or trial.user_attrs.get(DIED) or ""),
    }
