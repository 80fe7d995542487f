"""Two classifiers as one: their log-odds added, each with a weight that validation reviews decide.

What a linear model sees of a review (which grams are there, all of it at once) and what a fine-tuned one sees err in
different reviews, so that their sum is right more often than either: stacked generalisation (Wolpert, 1992) with two
weights, and a linear model as the second one (Wang and Manning, 2012, find the like of bags of words and neighbours).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

Logits = NDArray[np.float32]
_LARGEST = 20.0
_PRIOR_DEVIATION = 1.0  # of both, around (1, 0): the weight of a review or two


def fit_weights(logits: Logits, evidence: Logits, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Weights of a classifier's logits and of another's under which the labels are most likely.

    Args:
        logits: of reviews that neither was trained on, shape (rows, classes).
        evidence: the other's, of the same shape.
        labels: true class ids, shape (rows,).
    Returns:
        Both at least 0, the first above it; sums of logits so weighted are calibrated, too.
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

    found: Any = minimize(loss, x0=[1.0, 0.5], bounds=[(0.05, _LARGEST), (0.0, _LARGEST)])
    first, second = (round(float(weight), 4) for weight in found.x)
    return first, second
