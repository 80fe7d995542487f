"""Figures of an evaluation as PNG files, drawn without a display and without matplotlib's global state.

They work for two classes or two hundred: where names, cells or lines would overlap, a figure shows the most important
ones (the most frequent confusions, the hardest classes) instead of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tasks.core.decision import predict_labels, with_costs
from tasks.core.evaluation.plots import curves
from tasks.core.evaluation.plots.style import INK, OTHER, QUIET, figure_of, save, shown
from tasks.core.evaluation.records import Interval

_CELLS_WITH_FIGURES = 12  # most classes for which each cell of a confusion matrix shows its count
_CELLS_WITH_NAMES = 40  # most classes for which its rows and columns are named
_LISTED = 15  # confusions listed beside a large matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SliceRow:
    """One slice of the test set: results of candidate and champion, and whether the difference is within the margin."""

    name: str
    rows: int
    candidate: Interval  # accuracy
    champion: Interval | None = None
    difference: Interval | None = None  # candidate less champion, on the same rows
    margin: float | None = None  # how much lower the candidate may be
    passed: bool | None = None  # None if no margin applies


def draw_all(
    folder: Path,
    labels: Ints,
    probabilities: Floats,
    label_names: Sequence[str],
    title: str,
    bins: int,
    uncalibrated: Floats | None = None,
    class_costs: Sequence[float] = (),
) -> list[Path]:
    """Write confusion.png, roc.png, precision_recall.png, reliability.png and scores.png; return their paths.

    Args:
        folder: folder to write to.
        labels: true class ids, shape (rows,).
        probabilities: shape (rows, classes).
        label_names: in order of their ids.
        title: of every picture.
        bins: of the reliability diagram.
        uncalibrated: probabilities before temperature scaling, same shape; the reliability diagram shows them too.
        class_costs: the cost of missing each class; the confusion matrix counts the labels of least cost.
    """
    predicted = predict_labels(with_costs(probabilities, class_costs))
    figures = {
        "confusion": _confusion(labels, predicted, label_names),
        "roc": curves.draw_curves(curves.ROC, labels, probabilities, label_names),
        "precision_recall": curves.draw_curves(
            curves.PRECISION_RECALL, labels, probabilities, label_names
        ),
        "reliability": _reliability(labels, probabilities, uncalibrated, bins),
        "scores": _scores(labels, probabilities, predicted),
    }
    return [save(figure, folder / f"{name}.png", title) for name, figure in figures.items()]


def draw_slices(path: Path, rows: Sequence[SliceRow], title: str = "") -> Path:
    """Write a forest plot: accuracy of candidate and champion on each slice, with intervals; failed slices are marked.

    Raises:
        ValueError: no slices.
    """
    if not rows:
        raise ValueError("no slices to draw")
    figure = Figure(figsize=(7.2, 1.4 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    heights = np.arange(len(rows))[::-1].astype(np.float64)
    with_champion = any(row.champion for row in rows)
    shift = 0.14 if with_champion else 0.0
    _whiskers(axes, heights + shift, [row.candidate for row in rows], INK, "o", "candidate")
    if with_champion:
        intervals = [(height, row.champion) for height, row in zip(heights, rows, strict=True)]
        champions = [(height, interval) for height, interval in intervals if interval is not None]
        where = np.array([height for height, _ in champions]) - shift
        _whiskers(axes, where, [interval for _, interval in champions], OTHER, "s", "champion")
    names = [
        f"{'✗ ' if row.passed is False else ''}{shown(row.name, 34)}  ({row.rows:,})"
        for row in rows
    ]
    axes.set_yticks(heights, names)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.passed is False else "normal")
    axes.set_xlabel("accuracy, with its interval")
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if with_champion:
        figure.legend(frameon=False, ncols=2, loc="outside lower right", fontsize=9)
    return save(figure, path, title)


def _whiskers(
    axes: Axes, heights: Floats, intervals: Sequence[Interval], colour: str, marker: str, label: str
) -> None:
    values = np.array([i.value for i in intervals])
    reach = np.abs([[i.value - i.low for i in intervals], [i.high - i.value for i in intervals]])
    axes.errorbar(
        values, heights, xerr=reach, fmt=marker, color=colour, label=label, markersize=5, capsize=2
    )


def _confusion(labels: Ints, predicted: Ints, names: Sequence[str]) -> Figure:
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    if len(names) > _CELLS_WITH_FIGURES:
        return _large_confusion(counts, names)
    growth = max(0.0, 0.45 * (len(names) - 5))
    figure = figure_of(
        "Confusion matrix", "predicted", "true", width=4.6 + growth, height=4.0 + growth
    )
    axes = figure.axes[0]
    shares = _heat(axes, counts)
    short = [shown(name) for name in names]
    slanted: dict[str, Any] = (
        {} if len(names) < 5 else {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    )
    axes.set_xticks(range(len(names)), short, **slanted)
    axes.set_yticks(range(len(names)), short)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column,
            row,
            f"{count:,}\n{shares[row, column]:.0%}",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
            fontsize=10 if len(names) < 6 else 7,
        )
    return figure


def _large_confusion(counts: Ints, names: Sequence[str]) -> Figure:
    """Draw the matrix without counts, and list the most frequent confusions beside it."""
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    matrix, listed = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _heat(matrix, counts)
    matrix.set_title("Confusion matrix", fontsize=11)
    matrix.set_xlabel("predicted")
    matrix.set_ylabel("true")
    if len(names) <= _CELLS_WITH_NAMES:
        short = [shown(name) for name in names]
        size = 7 if len(names) <= 25 else 5
        matrix.set_xticks(range(len(names)), short, rotation=90, fontsize=size)
        matrix.set_yticks(range(len(names)), short, fontsize=size)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]
    order = order[wrong.ravel()[order] > 0]
    listed.set_title("Most frequent confusions (true → predicted)", fontsize=11)
    pairs = [(int(cell) // len(names), int(cell) % len(names)) for cell in order]
    listed.barh(range(len(pairs)), [wrong[pair] for pair in pairs], color=OTHER)
    shown_pairs = [f"{shown(names[true])} → {shown(names[named])}" for true, named in pairs]
    listed.set_yticks(range(len(pairs)), shown_pairs, fontsize=8)
    listed.invert_yaxis()
    listed.set_xlabel("reviews")
    listed.spines[["top", "right"]].set_visible(False)
    return figure


def _heat(axes: Axes, counts: Ints) -> Floats:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.spines[:].set_visible(False)
    return shares


def _binned(labels: Ints, probabilities: Floats, bins: int) -> tuple[Floats, Floats, Ints]:
    """Return mean confidence and accuracy of each bin that has rows, and the number of rows of every bin."""
    confidence, correct = probabilities.max(axis=1), predict_labels(probabilities) == labels
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    rows = np.bincount(index, minlength=bins)
    filled = rows > 0
    mean_confidence = np.bincount(index, confidence, bins)[filled] / rows[filled]
    return mean_confidence, np.bincount(index, correct, bins)[filled] / rows[filled], rows


def _reliability(
    labels: Ints, probabilities: Floats, uncalibrated: Floats | None, bins: int
) -> Figure:
    confidence, right, rows = _binned(labels, probabilities, bins)
    note = f"confidence (bars: reviews a bin, {rows.max():,} at most)"
    figure = figure_of("Reliability", note, "share that is right")
    axes = figure.axes[0]
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--")
    edges = np.arange(bins) / bins
    axes.bar(edges, rows / rows.max() * 0.2, 1 / bins, align="edge", color="0.88")
    if uncalibrated is not None:
        before = _binned(labels, uncalibrated, bins)
        axes.plot(
            *before[:2], marker="s", color=OTHER, linestyle="--", label="before the temperature"
        )
    after = "after the temperature" if uncalibrated is not None else None
    axes.plot(confidence, right, marker="o", color=INK, label=after)
    axes.set_xlim(1 / probabilities.shape[1] - 0.05, 1.02)
    axes.set_ylim(0, 1.03)
    if uncalibrated is not None:
        axes.legend(frameon=False, loc="best", fontsize=9)
    return figure


def _scores(labels: Ints, probabilities: Floats, predicted: Ints) -> Figure:
    figure = figure_of("Confidence of right and wrong answers", "confidence", "reviews")
    axes = figure.axes[0]
    confidence, correct = probabilities[np.arange(len(labels)), predicted], predicted == labels
    least = min(1 / probabilities.shape[1], float(confidence.min()))
    edges = np.linspace(least, 1, 26).tolist()
    axes.hist(
        [confidence[correct], confidence[~correct]],
        edges,
        stacked=True,
        color=[INK, OTHER],
        label=["right", "wrong"],
    )
    axes.legend(frameon=False, loc="best")
    return figure
