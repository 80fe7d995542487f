"""The decision rule: from a model's answers to labels. Scoring, gate, report, engines and checks all use this one.

If errors differ in their costs, the label is the class of least expected cost, not the most likely one: that with the
largest product of its probability and the cost of missing it (Elkan, 2001, "The Foundations of Cost-Sensitive
Learning"). A model with class costs has their logarithms in the bias of its head, so that every engine gives these
products, and the rule stays the same. Probabilities that people read, and measures of them, are without the costs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def predict_labels(answers: Any) -> NDArray[np.int64]:
    """Return the class id of each row: the class with the largest value, the first of equal ones.

    Args:
        answers: probabilities or logits, shape (rows, classes); an array, or a tensor on the CPU.
    """
    return np.asarray(answers).argmax(axis=1)


def log_costs(class_costs: Sequence[float]) -> NDArray[np.float32]:
    """Return what class costs add to logits, shape (classes,)."""
    return np.log(np.asarray(class_costs, dtype=np.float32))


def with_costs(
    probabilities: NDArray[np.float64], class_costs: Sequence[float]
) -> NDArray[np.float64]:
    """Multiply probabilities, shape (rows, classes), by the class costs, and normalize each row.

    Args:
        probabilities: as a model without class costs gives them.
        class_costs: the cost of missing each class; empty: all the same.
    """
    if not class_costs:
        return probabilities
    products = probabilities * np.asarray(class_costs)
    return products / products.sum(axis=1, keepdims=True)


def without_costs(
    answers: NDArray[np.float64], class_costs: Sequence[float]
) -> NDArray[np.float64]:
    """Return the probabilities of a model with class costs: the inverse of `with_costs`."""
    return with_costs(answers, [1 / cost for cost in class_costs])
