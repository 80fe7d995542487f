"""Test-set metrics with bootstrap intervals, computed for all resamples at once.

A bootstrap resample of n rows is a vector of n counts (how often each row was drawn), so every metric is written as a
function of a weight matrix of shape (resamples, rows); weights of one give the point estimate. Percentile intervals:
Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 13.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.forms import Form
from tasks.core.records import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_CHUNK_CELLS = 8_000_000  # weights held at a time: 64 MB
_EPSILON = 1e-12


class EvaluationParams(Form):
    """How a model is judged on the test set."""

    resamples: int = Field(
        default=1000, ge=100, le=20_000, description="Bootstrap resamples behind each interval."
    )
    confidence: float = Field(
        default=0.95, ge=0.5, le=0.999, description="Coverage of the intervals."
    )
    calibration_bins: int = Field(
        default=15,
        ge=2,
        le=100,
        description="Bins of equal width for the expected calibration error.",
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Of the resampling.")


def confusion_matrix(labels: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts, shape (true class, predicted class)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def evaluate(labels: Ints, probabilities: Floats, params: EvaluationParams) -> dict[str, Interval]:
    """Accuracy, macro-F1, log-loss, ROC-AUC and expected calibration error, each with its interval.

    ROC-AUC is of the last class against the other when there are two, else the mean over classes, one against the
    rest; it is left out where a class does not occur. Log-loss is in nats.

    Args:
        labels: true class ids, shape (rows,).
        probabilities: shape (rows, classes), rows summing to one.
        params: resamples, confidence, bins, seed.
    Raises:
        ValueError: no rows, or shapes that do not match.
    """
    if len(labels) == 0 or probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} do not match"
        )
    measures = _Measures(labels, probabilities, params.calibration_bins)
    point = measures.at(np.ones((1, len(labels))))
    chunks = [measures.at(w) for w in resample_counts(len(labels), params.resamples, params.seed)]
    tail = (1 - params.confidence) / 2
    intervals: dict[str, Interval] = {}
    for name, value in point.items():
        drawn = np.concatenate([chunk[name] for chunk in chunks])
        low, high = np.nanquantile(drawn, [tail, 1 - tail])
        intervals[name] = Interval(value=float(value[0]), low=float(low), high=float(high))
    return intervals


def resample_counts(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Bootstrap weights, shape (some resamples, rows) at a time: how often each row was drawn."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // rows)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, rows, (count, rows))
        flat = (drawn + np.arange(count)[:, None] * rows).ravel()
        yield np.bincount(flat, minlength=count * rows).reshape(count, rows).astype(np.float64)


class _Measures:
    """All metrics of one set of predictions, for any weights."""

    def __init__(self, labels: Ints, probabilities: Floats, bins: int) -> None:
        rows, self._classes = probabilities.shape
        predicted = probabilities.argmax(axis=1)
        confidence = probabilities.max(axis=1)
        self._correct = (predicted == labels).astype(np.float64)
        true_probability = probabilities[np.arange(rows), labels]
        self._loss = -np.log(np.clip(true_probability, _EPSILON, 1.0))
        self._cells = _one_hot(labels * self._classes + predicted, self._classes**2)
        in_bin = _one_hot(np.minimum((confidence * bins).astype(np.int64), bins - 1), bins)
        self._bin_gaps = in_bin * (self._correct - confidence)[:, None]
        scored = [self._classes - 1] if self._classes == 2 else list(range(self._classes))
        self._ranked = [_Ranking(labels == c, probabilities[:, c]) for c in scored]

    def at(self, weights: Floats) -> dict[str, Floats]:
        """Metric name to values, one a row of `weights`."""
        total = weights.sum(axis=1)
        measured = {
            "accuracy": weights @ self._correct / total,
            "macro_f1": self._macro_f1(weights),
            "log_loss": weights @ self._loss / total,
            "calibration_error": np.abs(weights @ self._bin_gaps).sum(axis=1) / total,
        }
        if all(ranking.defined for ranking in self._ranked):
            measured["roc_auc"] = np.mean(
                [ranking.area(weights) for ranking in self._ranked], axis=0
            )
        return measured

    def _macro_f1(self, weights: Floats) -> Floats:
        cells = (weights @ self._cells).reshape(-1, self._classes, self._classes)
        hits = np.diagonal(cells, axis1=1, axis2=2)
        involved = cells.sum(axis=1) + cells.sum(axis=2)
        f1 = np.divide(2 * hits, involved, out=np.zeros_like(hits), where=involved > 0)
        present = np.maximum(
            (involved > 0).sum(axis=1), 1
        )  # a class nobody named or meant does not count
        return f1.sum(axis=1) / present


class _Ranking:
    """ROC-AUC as the chance that a positive row is ranked above a negative one, ties counting half."""

    def __init__(self, positive: NDArray[np.bool_], scores: Floats) -> None:
        self._order = np.argsort(scores, kind="stable")
        ordered = scores[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self._positive = positive[self._order]
        self.defined = bool(positive.any() and not positive.all())

    def area(self, weights: Floats) -> Floats:
        ordered = weights[:, self._order]
        positives = np.add.reduceat(ordered * self._positive, self._starts, axis=1)
        negatives = np.add.reduceat(ordered * ~self._positive, self._starts, axis=1)
        below = negatives.cumsum(axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        wins = (positives * below).sum(axis=1)
        return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _one_hot(ids: Ints, classes: int) -> Floats:
    table = np.zeros((len(ids), classes))
    table[np.arange(len(ids)), ids] = 1.0
    return table


def paired_difference(
    correct: NDArray[np.bool_], other_correct: NDArray[np.bool_], params: EvaluationParams
) -> Interval:
    """Difference in accuracy of two models on the same rows, with its paired bootstrap interval."""
    gap = correct.astype(np.float64) - other_correct.astype(np.float64)
    drawn = np.concatenate(
        [w @ gap / len(gap) for w in resample_counts(len(gap), params.resamples, params.seed)]
    )
    tail = (1 - params.confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value=float(gap.mean()), low=float(low), high=float(high))
