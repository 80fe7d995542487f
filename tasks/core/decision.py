"""The decision rule: from a model's answers to labels. Scoring, gate, report, engines and checks all use this one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def predict_labels(answers: Any) -> NDArray[np.int64]:
    """Return the class id of each row: the class with the largest value, the first of equal ones.

    Args:
        answers: probabilities or logits, shape (rows, classes); an array, or a tensor on the CPU.
    """
    return np.asarray(answers).argmax(axis=1)
