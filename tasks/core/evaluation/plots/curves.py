"""ROC and precision-recall curves, one class against the rest, for few classes or many."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from tasks.core.evaluation.plots.style import INK, OTHER, QUIET, figure_of, shown

_LINES_WITH_NAMES = 6  # most classes for which each curve has its own colour
_GRID = np.linspace(0, 1, 201)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats, float]  # x, y, area below it


@dataclass(frozen=True)
class Kind:
    """A kind of curve: axes, legend position, the chance line, and the points of one class."""

    title: str
    x: str
    y: str
    legend: Literal["lower right", "lower left"]
    chance: Callable[[float], tuple[Floats, Floats]]  # from the fraction of positives
    curve: Callable[[NDArray[np.bool_], Floats], Curve]


def _roc_points(positive: NDArray[np.bool_], scores: Floats) -> Curve:
    false_rate, true_rate, _ = roc_curve(positive, scores)
    return false_rate, true_rate, float(auc(false_rate, true_rate))


def _precision_recall_points(positive: NDArray[np.bool_], scores: Floats) -> Curve:
    precision, recall, _ = precision_recall_curve(positive, scores, drop_intermediate=True)
    return recall[::-1], precision[::-1], float(average_precision_score(positive, scores))


ROC = Kind(
    "ROC curve",
    "false positive rate",
    "true positive rate",
    "lower right",
    lambda _share: (np.array([0.0, 1.0]), np.array([0.0, 1.0])),
    _roc_points,
)
PRECISION_RECALL = Kind(
    "Precision and recall",
    "recall",
    "precision",
    "lower left",
    lambda share: (np.array([0.0, 1.0]), np.array([share, share])),
    _precision_recall_points,
)


def draw_curves(kind: Kind, labels: Ints, probabilities: Floats, names: Sequence[str]) -> Figure:
    """Draw one line per class with its area; for many classes the mean and the three hardest, the others in grey."""
    figure = figure_of(kind.title, kind.x, kind.y)
    axes = figure.axes[0]
    drawn = [len(names) - 1] if len(names) == 2 else range(len(names))
    defined = [index for index in drawn if 0 < (labels == index).sum() < len(labels)]
    if defined:
        share = float(np.mean([(labels == index).mean() for index in defined]))
        axes.plot(*kind.chance(share), color=QUIET, linestyle="--")
    curves = {i: kind.curve(labels == i, probabilities[:, i]) for i in defined}
    if len(defined) <= _LINES_WITH_NAMES:
        for index, (x, y, area) in curves.items():
            colour = INK if len(names) == 2 else None
            axes.plot(x, y, color=colour, label=f"{shown(names[index])}, area {area:.3f}")
    else:
        _many_lines(axes, curves, names)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0, 1.03)
    axes.legend(frameon=False, loc=kind.legend, fontsize=9)
    return figure


def _many_lines(axes: Axes, curves: Mapping[int, Curve], names: Sequence[str]) -> None:
    on_grid = {index: np.interp(_GRID, x, y) for index, (x, y, _) in curves.items()}
    for y in on_grid.values():
        axes.plot(_GRID, y, color=QUIET, linewidth=0.5)
    mean = float(np.mean([area for _, _, area in curves.values()]))
    axes.plot(
        _GRID,
        np.mean(list(on_grid.values()), axis=0),
        color=INK,
        linewidth=2,
        label=f"mean of {len(curves)} classes, area {mean:.3f}",
    )
    for style, index in zip(
        ("-", "--", ":"), sorted(curves, key=lambda i: curves[i][2])[:3], strict=True
    ):
        label = f"{shown(names[index])}, area {curves[index][2]:.3f}"
        axes.plot(_GRID, on_grid[index], color=OTHER, linestyle=style, label=label)
