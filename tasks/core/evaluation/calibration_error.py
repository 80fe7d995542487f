"""The expected calibration error, its interval, and the error that few rows show by chance.

Guo et al., 2017, "On Calibration of Modern Neural Networks": rows are put into bins of equal width by the probability
of their answer. Each bin's accuracy less its mean confidence is its gap, and the error is the sum of the absolute gaps,
each weighted by the fraction of rows in its bin.

With few rows the measured error is too large, because it adds the size of each deviation, whatever its sign; Kumar,
Liang and Ma, 2019, "Verified Uncertainty Calibration", say by how much. A bootstrap adds the same bias once more, so
its interval may lie above the estimate. `calibration_interval` uses the noise of the gaps instead.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tasks.core.decision import predict_labels
from tasks.core.evaluation.records import Interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_HALF_NORMAL_MEAN = float(np.sqrt(2 / np.pi))
_HALF_NORMAL_VARIANCE = 1 - 2 / np.pi
_HALF_NORMAL_THIRD = _HALF_NORMAL_MEAN * (4 / np.pi - 1)  # its third cumulant


def calibration_error(labels: Ints, probabilities: Floats, bins: int) -> float:
    """Compute the error over bins of equal width.

    Args:
        labels: true class ids, shape (rows,).
        probabilities: shape (rows, classes).
        bins: their number.
    """
    return float(np.abs(_gaps(labels, probabilities, bins)[0]).sum())


def calibration_noise(probabilities: Floats, bins: int, risk: float) -> float:
    """Return the calibration error that a perfectly calibrated model exceeds by chance with probability `risk`.

    For a perfect model, a bin deviates about normally, with variance sum p (1 - p) / n^2 over its rows, and the size of
    the deviation is half-normal. The sum over bins is taken as a gamma distribution of the same mean and variance,
    whose tail is a little heavier. (Broecker and Smith, 2007, "Increasing the Reliability of Reliability Diagrams",
    resample.) A model whose true error is e is measured above e plus this value about as rarely, or more rarely.
    """
    confidence = confidence_of(probabilities)
    variances = np.bincount(bins_of(probabilities, bins), confidence * (1 - confidence))
    mean = np.sqrt(variances).sum() * _HALF_NORMAL_MEAN
    variance = _HALF_NORMAL_VARIANCE * variances.sum()
    if not variance:
        return 0.0
    quantile = stats.gamma.isf(risk, mean**2 / variance, scale=variance / mean)
    return float(quantile / len(probabilities))


def calibration_interval(
    labels: Ints, probabilities: Floats, bins: int, confidence: float
) -> Interval:
    """Return the error with an interval that contains it, and the true error at least as often as `confidence` says.

    A bin is measured with the gap m = g + e, where g is true and e about normal.

    Upper bound: with the signs s of the true gaps, the true error is the sum of s g = s m - s e, so at most the
    measured error less the sum of s e, which is normal, whatever the signs. Lower bound: |m| exceeds |g| by at most
    |e|, so the measured error exceeds the true one by at most a sum of half-normals. If a gap exceeds its noise by more
    than sqrt(ln n) of its deviations, its sign is known and e counts with it, as a normal: the moment selection of
    Andrews and Soares, 2010, "Inference for Parameters Defined by Moment Inequalities Using Generalized Moment
    Selection". The sum of both is taken as a Pearson distribution of type III of the same first three cumulants.
    """
    gaps, variances = _gaps(labels, probabilities, bins)
    tail = (1 - confidence) / 2
    error, deviations = float(np.abs(gaps).sum()), np.sqrt(variances)
    clear = np.abs(gaps) > deviations * np.sqrt(np.log(max(len(labels), 2)))
    unclear = deviations[~clear]
    spread = float(
        np.sqrt(_HALF_NORMAL_VARIANCE * (unclear**2).sum() + (deviations[clear] ** 2).sum())
    )
    skew = _HALF_NORMAL_THIRD * float((unclear**3).sum()) / spread**3
    excess = _HALF_NORMAL_MEAN * float(unclear.sum()) + spread * float(
        stats.pearson3.isf(tail, skew)
    )
    above = float(stats.norm.isf(tail) * np.sqrt(variances.sum()))
    return Interval(
        value=error,
        low=max(0.0, error - max(excess, 0.0)),
        high=max(error, min(1.0, error + above)),
    )


def bins_of(probabilities: Floats, bins: int) -> Ints:
    """Return the bin of each row, by the probability of its predicted class."""
    return np.minimum((confidence_of(probabilities) * bins).astype(np.int64), bins - 1)


def confidence_of(probabilities: Floats) -> Floats:
    """Return the highest probability of each row, computed along columns because numpy is slow at many short rows."""
    return np.ascontiguousarray(probabilities.T).max(axis=0)


def _gaps(labels: Ints, probabilities: Floats, bins: int) -> tuple[Floats, Floats]:
    """Return the gap of each bin, weighted by its fraction of rows, and the variance of that: each of shape (bins,).

    For the variance, each bin that has rows gets one more row. Its confidence is the mean of those rows and a coin
    toss. Otherwise a few rows that are all right or all wrong would seem to leave no doubt.
    """
    confidence, row_bins = confidence_of(probabilities), bins_of(probabilities, bins)
    gaps = (predict_labels(probabilities) == labels) - confidence
    rows = np.bincount(row_bins, minlength=bins)
    sums = np.bincount(row_bins, gaps, bins)
    sure = (np.bincount(row_bins, confidence, bins) + 0.5) / (rows + 1)
    squares = np.bincount(row_bins, gaps**2, bins) + np.where(rows > 0, sure * (1 - sure), 0.0)
    return sums / len(labels), np.maximum(squares - sums**2 / len(labels), 0.0) / len(labels) ** 2
