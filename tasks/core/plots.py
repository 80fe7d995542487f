"""Pictures of an evaluation, as PNG files. Drawn without a display and without matplotlib's global state."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

_INK = "#1f4e79"
_OTHER = "#b5651d"


def draw_all(
    folder: Path,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    label_names: Sequence[str],
    title: str,
    bins: int,
) -> list[Path]:
    """Write confusion.png, roc.png, reliability.png and scores.png; returns their paths.

    Args:
        folder: where to.
        labels: true class ids, shape (rows,).
        probabilities: shape (rows, classes).
        label_names: in order of their ids.
        title: of every picture.
        bins: of the reliability diagram.
    """
    figures = {
        "confusion": _confusion(labels, probabilities.argmax(axis=1), label_names),
        "roc": _roc(labels, probabilities, label_names),
        "reliability": _reliability(labels, probabilities, bins),
        "scores": _scores(labels, probabilities),
    }
    paths: list[Path] = []
    for name, figure in figures.items():
        figure.suptitle(title, fontsize=9, color="0.4")
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110, metadata={"Software": None})
        paths.append(path)
    return paths


def _figure(title: str, x: str, y: str) -> Figure:
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _confusion(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], names: Sequence[str]
) -> Figure:
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    figure = _figure("Confusion matrix", "predicted", "true")
    axes = figure.axes[0]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=0 if len(names) < 5 else 60)
    axes.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(
            column,
            row,
            f"{count:,}\n{shares[row, column]:.0%}",
            ha="center",
            va="center",
            color=colour,
        )
    return figure


def _roc(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], names: Sequence[str]
) -> Figure:
    figure = _figure("ROC curve", "false positive rate", "true positive rate")
    axes = figure.axes[0]
    axes.plot([0, 1], [0, 1], color="0.8", linestyle="--")
    for index in [len(names) - 1] if len(names) == 2 else range(len(names)):
        if 0 < (labels == index).sum() < len(labels):
            false_rate, true_rate, _ = roc_curve(labels == index, probabilities[:, index])
            axes.plot(false_rate, true_rate, label=names[index])
    axes.legend(frameon=False, loc="lower right")
    return figure


def _reliability(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int
) -> Figure:
    figure = _figure("Reliability", "confidence", "share that is right")
    axes = figure.axes[0]
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    rows = np.bincount(index, minlength=bins)
    filled = rows > 0
    mean_confidence = np.bincount(index, confidence, bins)[filled] / rows[filled]
    share_right = np.bincount(index, correct, bins)[filled] / rows[filled]
    axes.plot([0, 1], [0, 1], color="0.8", linestyle="--")
    axes.bar(
        np.flatnonzero(filled) / bins,
        rows[filled] / rows.max() * 0.2,
        1 / bins,
        align="edge",
        color="0.88",
    )
    axes.plot(mean_confidence, share_right, marker="o", color=_INK)
    axes.set_xlim(1 / probabilities.shape[1] - 0.05, 1.02)
    axes.set_ylim(0, 1.03)
    return figure


def _scores(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Figure:
    figure = _figure("Confidence of right and wrong answers", "confidence", "reviews")
    axes = figure.axes[0]
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(1 / probabilities.shape[1], 1, 26).tolist()
    axes.hist(
        [confidence[correct], confidence[~correct]],
        edges,
        stacked=True,
        color=[_INK, _OTHER],
        label=["right", "wrong"],
    )
    axes.legend(frameon=False, loc="upper left")
    return figure
