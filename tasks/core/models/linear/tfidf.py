"""The baseline: TF-IDF and logistic regression, trained in seconds on the same rows.

On small data a fine-tuned transformer often does no better, and then it is not worth its cost.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tasks.core.data.texts import both_ends, without_markup

NAME = "TF-IDF (1-2 grams) + logistic regression"
_MOST_CHARACTERS = 200_000  # only both ends of a longer text are counted
_GRAMS: dict[str, Any] = {
    "preprocessor": lambda text: without_markup(both_ends(text, _MOST_CHARACTERS)).lower(),
    "token_pattern": r"(?u)\b\w+\b",
    "ngram_range": (1, 2),
}


def vectorizer(least_documents: int = 1, most_features: int | None = None) -> TfidfVectorizer:
    """Return a vectorizer from reviews to sparse TF-IDF features, shape (rows, features). It uses no labels.

    Args:
        least_documents: features in fewer reviews are left out.
        most_features: keep this many of the most frequent features; None for all.
    """
    return TfidfVectorizer(
        **_GRAMS, sublinear_tf=True, min_df=least_documents, max_features=most_features
    )


def counter(least_documents: int = 1) -> CountVectorizer:
    """Return a vectorizer that counts the same grams, shape (rows, features)."""
    return CountVectorizer(**_GRAMS, min_df=least_documents)


def classifier() -> LogisticRegression:
    """Return the logistic regression that is fitted on these features. Deterministic."""
    return LogisticRegression(C=10.0, max_iter=1000)


def predict(
    train_texts: Sequence[str],
    train_labels: NDArray[np.int64],
    test_texts: Sequence[str],
    classes: int,
) -> NDArray[np.float64]:
    """Return the baseline's probabilities for the test texts, shape (rows, classes). Deterministic.

    Args:
        train_texts: the texts that the fine-tuned model was trained on.
        train_labels: class ids, shape (rows,), at least two distinct ones.
        test_texts: the texts that both models are judged on.
        classes: the number of classes; one without training rows gets probability 0.
    """
    model = make_pipeline(vectorizer(), classifier())
    model.fit(list(train_texts), train_labels)
    probabilities = np.zeros((len(test_texts), classes))
    probabilities[:, model.classes_] = model.predict_proba(list(test_texts))
    return probabilities
