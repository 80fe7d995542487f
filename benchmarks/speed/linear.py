"""The linear models that a fine-tuned model has to beat: TF-IDF with logistic regression, and NB-SVM."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from benchmarks.speed.data import Reviews
from tasks.core.data.texts import without_markup
from tasks.core.models.linear import tfidf

Predict = Callable[[Sequence[str]], NDArray[np.int64]]


def fitted(train: Reviews) -> dict[str, tuple[Predict, float]]:
    """Fit the linear models; return a prediction function and the fitting seconds by name."""
    made: dict[str, tuple[Predict, float]] = {}
    for name, fit in {"TF-IDF + logistic regression": _tfidf, "NB-SVM": NbSvm.fitted}.items():
        started = time.perf_counter()
        made[name] = (fit(train), time.perf_counter() - started)
    return made


def _tfidf(train: Reviews) -> Predict:
    model = make_pipeline(tfidf.vectorizer(), tfidf.classifier())
    model.fit(train.texts, train.labels)
    return lambda texts: np.asarray(model.predict(list(texts)))


class NbSvm:
    """NB-SVM (Wang and Manning, 2012, "Baselines and Bigrams"): a linear SVM on binary n-grams, weighted by their
    log-count ratio between the classes, with its weights interpolated towards their mean."""

    def __init__(self, strength: float = 0.25, smoothing: float = 1.0, c: float = 0.1) -> None:
        self._words = CountVectorizer(
            preprocessor=lambda text: without_markup(text).lower(),
            token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), binary=True, min_df=2,
        )  # fmt: skip
        self._strength, self._smoothing, self._c = strength, smoothing, c

    @classmethod
    def fitted(cls, train: Reviews) -> Predict:
        model = cls()
        counts: Any = sparse.csr_matrix(model._words.fit_transform(train.texts), dtype=np.float64)
        labels = np.asarray(train.labels)
        there, else_there = (
            model._smoothing + np.asarray(counts[labels == y].sum(axis=0)).ravel() for y in (1, 0)
        )
        ratio = np.log(there / there.sum()) - np.log(else_there / else_there.sum())
        svm = LinearSVC(C=model._c).fit(counts.multiply(ratio).tocsr(), labels)
        weights = svm.coef_[0]
        mean = np.abs(weights).mean()
        # interpolated between the mean and the SVM's own weights, as in the paper
        blended = ((1 - model._strength) * mean + model._strength * weights) * ratio
        words, offset = model._words, float(svm.intercept_[0])
        return lambda texts: (words.transform(list(texts)) @ blended + offset > 0).astype(np.int64)
