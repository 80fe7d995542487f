"""Temperature scaling: calibrate probabilities with one number, fitted on validation reviews.

Guo et al., 2017, "On Calibration of Modern Neural Networks". Dividing all logits by a temperature above 1 lowers the
confidence of answers without changing their labels; `classifier.with_temperature` puts it into the head. The fit is
maximum a posteriori with a weak prior around 1: if validation reviews are few, or all answered correctly, maximum
likelihood alone would give certainty.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_BOUNDS = (0.2, 20.0)
_PRIOR_DEVIATION = 0.5  # of the temperature's logarithm; weighs as much as one or two reviews


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Fit the temperature, between 0.2 and 20.

    Args:
        logits: logits of reviews that were not trained on, shape (rows, classes).
        labels: their true class ids, shape (rows,).
    Raises:
        ValueError: no rows, or shapes that do not match.
    """
    if len(labels) == 0 or logits.ndim != 2 or len(labels) != len(logits):
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} do not match")
    exact = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        likelihood = log_softmax(exact / np.exp(log_temperature), axis=1)[rows, labels].sum()
        return float(0.5 * (log_temperature / _PRIOR_DEVIATION) ** 2 - likelihood)

    low, high = np.log(_BOUNDS)
    result = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return round(float(np.exp(result.x)), 4)
