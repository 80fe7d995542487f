"""Blend two classifiers: add their log-odds with weights fitted on validation reviews.

A linear model, which sees all grams of a review at once, and a fine-tuned model err on different reviews, so their sum
is correct more often than either. This is stacked generalisation (Wolpert, 1992) with two weights, and a linear model
as the second classifier (Wang and Manning, 2012, find the like of bags of words and neighbours).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

Logits = NDArray[np.float32]
_LARGEST = 20.0
_PRIOR_DEVIATION = 1.0  # of both weights, around (1, 0); weighs as much as one or two reviews


def fit_weights(logits: Logits, evidence: Logits, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Fit the weights of a classifier's logits and of another's that make the labels most likely.

    Args:
        logits: logits of reviews that neither was trained on, shape (rows, classes).
        evidence: the other classifier's logits, of the same shape.
        labels: true class ids, shape (rows,).
    Returns:
        The first weight, above 0, and the second, at least 0. The weighted sum of logits is also calibrated.
    Raises:
        ValueError: no rows, or shapes that do not match.
    """
    if not len(labels) or logits.shape != evidence.shape or len(logits) != len(labels):
        raise ValueError(f"{logits.shape}, {evidence.shape} and {labels.shape} do not match")
    one, other = logits.astype(np.float64), evidence.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(weights: NDArray[np.float64]) -> float:
        likelihood = log_softmax(weights[0] * one + weights[1] * other, axis=1)[rows, labels].sum()
        prior = ((weights - np.array([1.0, 0.0])) / _PRIOR_DEVIATION) ** 2
        return float(0.5 * prior.sum() - likelihood) / len(labels)

    result: Any = minimize(loss, x0=[1.0, 0.5], bounds=[(0.05, _LARGEST), (0.0, _LARGEST)])
    first, second = (round(float(weight), 4) for weight in result.x)
    return first, second
