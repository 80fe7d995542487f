"""Test-set metrics with bootstrap intervals, computed for many resamples at once.

A bootstrap resample of n rows is a vector of n counts (how often each row was drawn), so every metric is written as a
function of a weight matrix of shape (resamples, rows); weights of one give the point estimate. Most metrics are sums
over rows, hence one matrix product. The two areas need the rows in order of their score, which resampling does not
change, so the rows are sorted once. Nothing is approximated. Percentile intervals: Efron and Tibshirani, 1993, "An
Introduction to the Bootstrap", chapter 13. Intervals of metrics that repeated rows bias upwards are shifted. Bootstrap
does not work for the calibration error, which has an interval of its own (`calibration_error`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.decision import predict_labels, with_costs
from tasks.core.evaluation.calibration_error import calibration_interval
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.evaluation.records import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Weights held at a time: a few megabytes, so that they stay in the processor's cache.
_CHUNK_CELLS = 400_000
_EPSILON = 1e-12
# Metrics biased by rows drawn twice.
_MOVED_BY_TIES = frozenset({"pr_auc", "quadratic_weighted_kappa"})


@dataclass(frozen=True)
class Measured:
    """The metrics of one set of predictions: over all rows, and by class id."""

    overall: dict[str, Interval]
    per_class: list[dict[str, Interval]]


def confusion_matrix(labels: Ints, predicted: Ints, classes: int) -> Ints:
    """Return counts, shape (true class, predicted class)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def macro_f1(labels: Ints, predicted: Ints, classes: int) -> float:
    """Return the mean of the classes' F1. A class that is neither a label nor predicted does not count."""
    cells = confusion_matrix(labels, predicted, classes).astype(np.float64)
    return float(_macro_f1(np.diagonal(cells), cells.sum(axis=1), cells.sum(axis=0)))


def on_a_scale(
    labels: Ints, predicted: Ints, scale: Sequence[float], weights: Ints | None = None
) -> dict[str, Floats]:
    """Mean absolute error in the unit of the scale, and Cohen's kappa with quadratic weights, both as in scikit-learn.

    Kappa uses the ranks of the classes on the scale (Cohen, 1968). It is nan if all labels and predictions are of one
    class.

    Args:
        labels, predicted: class ids, shape (rows,).
        scale: the value of each class.
        weights: how often each row counts, shape (resamples, rows); None: once.
    """
    weights = np.ones((1, len(labels)), np.int64) if weights is None else weights
    values = np.asarray(scale, dtype=np.float64)
    ranks = values.argsort().argsort().astype(np.float64)
    true, answer = ranks[labels], ranks[predicted]
    errors = np.abs(values[labels] - values[predicted])
    table = np.stack([errors, true, answer, true**2, answer**2, true * answer], axis=1)
    error, x, y, xx, yy, xy = (weights.astype(np.float64) @ table / weights.sum(axis=1)[:, None]).T
    by_chance = xx + yy - 2 * x * y
    return {
        "mean_absolute_error": error,
        "quadratic_weighted_kappa": 1 - _ratio(xx + yy - 2 * xy, by_chance, np.nan),
    }


def evaluate(
    labels: Ints,
    probabilities: Floats,
    params: EvaluationParams,
    scale: Sequence[float] | None = None,
    class_costs: Sequence[float] = (),
) -> Measured:
    """Compute all metrics, each with its interval.

    Overall: accuracy, macro_f1, log_loss (nats), roc_auc, pr_auc (average precision, as scikit-learn defines it) and
    calibration_error. With two classes, the two areas are of the last class against the other; otherwise they are the
    mean over classes, one against the rest. They are left out if a class does not occur. By class: precision and
    recall, left out if they are not defined (a class that is never predicted, or never a label). For labels on a scale
    also the metrics of `on_a_scale`. A resample in which a metric is not defined does not count for its interval.

    Args:
        labels: true class ids, shape (rows,).
        probabilities: shape (rows, classes), rows summing to one.
        params: resamples, confidence, bins, seed.
        scale: the value of each class, if the labels are a scale.
        class_costs: the cost of missing each class, on which the predicted labels depend; empty: none.
    Raises:
        ValueError: no rows, or shapes that do not match.
    """
    _check(labels, probabilities)
    areas = _Areas(labels, probabilities)  # sorts the rows; everything below uses this order
    labels, probabilities = labels[areas.order], probabilities[areas.order]
    predicted = predict_labels(with_costs(probabilities, class_costs))
    sums = _Sums(labels, probabilities, predicted)

    def at(weights: Ints) -> dict[_Key, Floats]:
        ordered = {} if scale is None else on_a_scale(labels, predicted, scale, weights)
        named: dict[_Key, Floats] = {(name, None): values for name, values in ordered.items()}
        return sums.at(weights) | areas.at(weights) | named

    intervals = _intervals(at, len(labels), params)
    overall = {name: interval for (name, owner), interval in intervals.items() if owner is None}
    return Measured(
        overall=overall | _calibration(labels, probabilities, params),
        per_class=[
            {name: interval for (name, owner), interval in intervals.items() if owner == class_id}
            for class_id in range(probabilities.shape[1])
        ],
    )


def uncalibrated(
    labels: Ints, probabilities: Floats, params: EvaluationParams
) -> dict[str, Interval]:
    """Compute log_loss and calibration_error alone, as in `evaluate`: the metrics that a temperature changes.

    Raises:
        ValueError: as `evaluate`.
    """
    _check(labels, probabilities)
    sums = _Sums(labels, probabilities, predict_labels(probabilities))
    intervals = _intervals(sums.at, len(labels), params)
    return {"log_loss": intervals["log_loss", None]} | _calibration(labels, probabilities, params)


def _calibration(
    labels: Ints, probabilities: Floats, params: EvaluationParams
) -> dict[str, Interval]:
    bins, confidence = params.calibration_bins, params.confidence
    return {"calibration_error": calibration_interval(labels, probabilities, bins, confidence)}


def resample_counts(rows: int, resamples: int, seed: int) -> Iterator[Ints]:
    """Yield bootstrap weights in chunks of shape (some resamples, rows): how often each row was drawn."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // rows)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, rows, (count, rows))
        yield np.stack([np.bincount(row, minlength=rows) for row in drawn])


_Key = tuple[str, int | None]  # name of the metric, and the class id for a metric of one class


def _check(labels: Ints, probabilities: Floats) -> None:
    if len(labels) == 0 or probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} do not match"
        )


def _intervals(
    at: Callable[[Ints], dict[_Key, Floats]], rows: int, params: EvaluationParams
) -> dict[_Key, Interval]:
    """Return each metric with its percentile interval. Metrics that are defined nowhere are left out.

    A resample has some rows twice, and such ties alone increase average precision and change kappa. Their intervals are
    shifted so that the median is the estimate; otherwise they might not contain it.
    """
    point = at(np.ones((1, rows), dtype=np.int64))
    drawn = [at(weights) for weights in resample_counts(rows, params.resamples, params.seed)]
    tail = (1 - params.confidence) / 2
    intervals: dict[_Key, Interval] = {}
    for key, (value,) in point.items():
        values = np.concatenate([chunk[key] for chunk in drawn])
        if np.isnan(value) or np.isnan(values).all():
            continue
        low, middle, high = np.nanquantile(values, [tail, 0.5, 1 - tail])
        if key[0] in _MOVED_BY_TIES:
            low, high = low + value - middle, min(high + value - middle, 1.0)
        intervals[key] = Interval(value=float(value), low=float(low), high=float(high))
    return intervals


class _Sums:
    """The metrics that are sums over rows, for any weights."""

    def __init__(self, labels: Ints, probabilities: Floats, predicted: Ints) -> None:
        self._classes = classes = probabilities.shape[1]
        right = (predicted == labels).astype(np.float64)
        true_probability = np.take_along_axis(probabilities, labels[:, None], axis=1)
        named = _one_hot(predicted, classes)
        parts = {
            "hits": named * right[:, None],
            "named": named,
            "meant": _one_hot(labels, classes),
            "loss": -np.log(np.clip(true_probability, _EPSILON, 1.0)),
        }
        self._table = np.hstack(list(parts.values()))
        self._names = list(parts)
        self._cuts = np.cumsum([part.shape[1] for part in parts.values()])[:-1]

    def at(self, weights: Ints) -> dict[_Key, Floats]:
        """Return the values of each metric, one per row of `weights`; nan if it is not defined."""
        total = weights.sum(axis=1)
        columns = np.split(weights.astype(np.float64) @ self._table, self._cuts, axis=1)
        sums = dict(zip(self._names, columns, strict=True))
        hits = sums["hits"]
        metrics: dict[_Key, Floats] = {
            ("accuracy", None): hits.sum(axis=1) / total,
            ("macro_f1", None): _macro_f1(hits, sums["meant"], sums["named"]),
            ("log_loss", None): sums["loss"][:, 0] / total,
        }
        for name, of in (("precision", sums["named"]), ("recall", sums["meant"])):
            share = _ratio(hits, of, np.nan)
            metrics |= {(name, class_id): share[:, class_id] for class_id in range(self._classes)}
        return metrics


class _Areas:
    """The metrics that rank rows, for weights in the order of `order`; none if a class does not occur."""

    def __init__(self, labels: Ints, probabilities: Floats) -> None:
        classes = probabilities.shape[1]
        scored = [classes - 1] if classes == 2 else list(range(classes))
        self.order = np.argsort(probabilities[:, scored[0]], kind="stable")
        labels, probabilities = labels[self.order], probabilities[self.order]
        rankings = [_Ranking(labels == c, probabilities[:, c]) for c in scored]
        self._rankings = rankings if all(ranking.defined for ranking in rankings) else []

    def at(self, weights: Ints) -> dict[_Key, Floats]:
        if not self._rankings:
            return {}
        areas = np.array([ranking.areas(weights) for ranking in self._rankings])
        defined = ~np.isnan(areas)
        mean = _ratio(np.where(defined, areas, 0.0).sum(axis=0), defined.sum(axis=0), np.nan)
        return {("roc_auc", None): mean[0], ("pr_auc", None): mean[1]}


class _Ranking:
    """Areas under the ROC and precision-recall curves of one class, in one sweep from the lowest score to the highest.

    ROC-AUC is the probability that a positive row is ranked above a negative one, ties counting half. Average precision
    is the mean over positive rows of the precision at their score. Both depend only on scores that a positive row has.
    """

    def __init__(self, positive: NDArray[np.bool_], scores: Floats) -> None:
        order = np.argsort(scores, kind="stable")
        self._order = None if (np.diff(order) == 1).all() else order
        ordered = scores[order]
        self._positive = np.flatnonzero(positive[order])
        score, self._starts = np.unique(ordered[self._positive], return_index=True)
        self._below = np.searchsorted(ordered, score, side="left")
        self._through = np.searchsorted(ordered, score, side="right")
        self.defined = bool(0 < len(self._positive) < len(scores))

    def areas(self, weights: Ints) -> tuple[Floats, Floats]:
        """Return ROC-AUC and average precision, each of shape (len(weights),); nan if a resample lacks a side."""
        ordered = weights if self._order is None else weights[:, self._order]
        counted = np.zeros((len(weights), weights.shape[1] + 1), dtype=np.int64)
        np.cumsum(ordered, axis=1, out=counted[:, 1:])
        below = counted[:, self._below]
        tied = counted[:, self._through] - below
        hits = np.add.reduceat(ordered[:, self._positive], self._starts, axis=1)
        hits_below = hits.cumsum(axis=1) - hits
        positives, total = hits.sum(axis=1), counted[:, -1]
        wins = (hits * (below - hits_below + (tied - hits) / 2)).sum(axis=1)
        # If no row at or above a score was drawn, there are no hits either, so the divisor does not matter.
        above = np.maximum(total[:, None] - below, 1)
        precision_sum = (hits * (positives[:, None] - hits_below) / above).sum(axis=1)
        pairs = positives * (total - positives)
        both_sides = np.where(pairs > 0, positives, 0)
        return _ratio(wins, pairs, np.nan), _ratio(precision_sum, both_sides, np.nan)


def _macro_f1(hits: Floats, meant: Floats, named: Floats) -> Floats:
    """Compute macro-F1 from counts by class, shape (..., classes)."""
    present = np.maximum((meant + named > 0).sum(axis=-1), 1)
    return _ratio(2 * hits, meant + named, 0.0).sum(axis=-1) / present


def _ratio(counts: Floats | Ints, of: Floats | Ints, otherwise: float) -> Floats:
    return np.divide(counts, of, out=np.full(np.shape(counts), otherwise), where=of > 0)


def _one_hot(ids: Ints, classes: int) -> Floats:
    table = np.zeros((len(ids), classes))
    table[np.arange(len(ids)), ids] = 1.0
    return table
