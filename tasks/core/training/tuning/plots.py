"""Plots of a sweep as PNG files: its history, and the importance of its settings."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from tasks.core.training.tuning.params import Metric
from tasks.core.training.tuning.sweep import direction, setting_of
from tasks.core.training.tuning.trials import value_of

_INK = "#1f4e79"
_OTHER = "#b5651d"
_FEWEST = 4  # trials needed for importances; with fewer, they are noise


def draw_sweep(
    folder: Path, trials: Sequence[FrozenTrial], metric: Metric, title: str
) -> list[Path]:
    """Write sweep-history.png, sweep-settings.png and, with four complete trials or more, sweep-importance.png.

    Args:
        folder: where to write.
        trials: the trials of one sweep; at least one is complete.
        metric: the metric they were judged by.
        title: the title of every plot.
    Returns:
        The paths of the files.
    """
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    figures = {
        "sweep-history": _history(trials, done, metric),
        "sweep-settings": _settings(trials, done, metric),
    }
    if len(done) >= _FEWEST:
        figures["sweep-importance"] = _importance(importances(done, metric))
    paths: list[Path] = []
    for name, figure in figures.items():
        figure.suptitle(title, fontsize=9, color="0.4")
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110, metadata={"Software": None})
        paths.append(path)
    return paths


def importances(done: Sequence[FrozenTrial], metric: Metric) -> dict[str, float]:
    """Return the fraction of the metric's variance that each setting explains, the largest first.

    Computed by fANOVA (Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=direction(metric))
    study.add_trials(done)
    fractions = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in fractions.items()}


def _figure(title: str, x: str, y: str) -> Figure:
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _history(trials: Sequence[FrozenTrial], done: Sequence[FrozenTrial], metric: Metric) -> Figure:
    figure = _figure("Trials", "trial", f"validation {metric}")
    axes = figure.axes[0]
    numbers, values = [t.number for t in done], [value_of(t) for t in done]
    axes.scatter(numbers, values, color=_INK, label="to the end", zorder=3)
    so_far = np.maximum if metric == "accuracy" else np.minimum
    axes.step(numbers, so_far.accumulate(values), where="post", color=_INK, alpha=0.4, label="best")
    pruned = [t for t in trials if t.state == TrialState.PRUNED and not math.isnan(value_of(t))]
    if pruned:
        axes.scatter(
            [t.number for t in pruned],
            [value_of(t) for t in pruned],
            color=_OTHER,
            marker="v",
            label="stopped early",
        )
    failed = [t.number for t in trials if t.state == TrialState.FAIL]
    for index, number in enumerate(failed):
        label = None if index else "failed or died"
        axes.axvline(number, color="0.7", linestyle=":", zorder=0, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def _settings(trials: Sequence[FrozenTrial], done: Sequence[FrozenTrial], metric: Metric) -> Figure:
    """Draw one small plot per setting: its values against the metric."""
    names = list(done[0].params)
    columns = min(len(names), 4)
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.6 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    pruned = [t for t in trials if t.state == TrialState.PRUNED and not math.isnan(value_of(t))]
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        for group, colour, marker in ((pruned, _OTHER, "v"), (done, _INK, "o")):
            points = [(t.params[name], value_of(t)) for t in group if name in t.params]
            axes.scatter(
                [float(x) for x, _ in points], [y for _, y in points], color=colour, marker=marker
            )
        axes.set_title(setting_of(name), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        _mark(axes, done[0].distributions[name])
    for line in grid:
        line[0].set_ylabel(f"validation {metric}")
    return figure


def _mark(axes: Axes, kind: BaseDistribution) -> None:
    """Set the ticks of an axis to the choices, or to a logarithmic scale."""
    if isinstance(kind, CategoricalDistribution):
        choices = [float(str(choice)) for choice in kind.choices]
        axes.set_xticks(choices, [f"{choice:g}" for choice in choices])
    elif isinstance(kind, FloatDistribution) and kind.log:
        axes.set_xscale("log")
        ends = [kind.low, math.sqrt(kind.low * kind.high), kind.high]
        axes.set_xticks(ends, [f"{end:.1e}" for end in ends])
        axes.xaxis.set_minor_formatter(NullFormatter())


def _importance(shares: dict[str, float]) -> Figure:
    figure = _figure("Which settings mattered", "share of the variance (fANOVA)", "")
    axes = figure.axes[0]
    names = list(reversed(shares))
    axes.barh([setting_of(name) for name in names], [shares[name] for name in names], color=_INK)
    axes.set_xlim(0, 1)
    return figure
