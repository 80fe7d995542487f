"""Linear classifiers on texts or token ids: TF-IDF with logistic regression, and NB-SVM.

They train in seconds and score thousands of reviews per second on one core. They serve as the baseline of fine-tuned
models and as the first stage of a cascade. They support any number of classes and are deterministic.

NB-SVM is Wang and Manning, 2012, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification": the presence
of grams, weighted by the log ratio of their frequency in one class and in the others, with a regularised linear model
whose weights are interpolated with their mean. The loss is logistic instead of hinge, so that margins are log-odds.
Regularisation and interpolation were chosen on a held-out fifth of IMDb's training reviews, not on its test set.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from tasks.core.errors import ModelError
from tasks.core.models import calibration
from tasks.core.models.linear import tfidf
from tasks.core.models.linear.ngrams import Grams, Ints, TokenGrams, WordGrams

Weighting = Literal["tfidf", "nb-svm"]
Floats = NDArray[np.float32]
LEAST_ROWS = 2  # rows that a gram must occur in, to say something about other rows
_SMOOTHING = 1.0
_STRENGTH = 1.0  # C of NB-SVM's logistic regression
_OWN_WEIGHTS = 0.5  # interpolation with the mean of the absolute weights: beta in the paper
_ABSENT = -30.0  # the logit of a class without training rows
_KINDS: dict[str, Any] = {kind.kind: kind for kind in (WordGrams, TokenGrams)}


@dataclass
class LinearClassifier:
    """A linear classifier: grams, their weighting, and a weight for each gram and class.

    On token ids it is an engine.

    Attributes:
        label_names: in order of their ids.
        grams: of texts or of token ids.
        weighting: of their counts.
        idf: of each gram, shape (grams,); ones for nb-svm.
        weights: shape (grams, classes), float32.
        offsets: shape (classes,), float32.
    """

    label_names: list[str]
    grams: Grams
    weighting: Weighting
    idf: Floats
    weights: Floats
    offsets: Floats

    def logits(self, input_ids: Sequence[Any]) -> Floats:
        """Logits of token rows, or of texts if it was fitted on texts; shape (rows, classes), float32."""
        if not len(input_ids):
            return np.empty((0, len(self.label_names)), dtype=np.float32)
        features = _weighted(self.grams.counts(input_ids), self.weighting, self.idf)
        return np.asarray(features @ self.weights + self.offsets, dtype=np.float32)

    def calibrated(self, rows: Sequence[Any], labels: Ints) -> "LinearClassifier":
        """Return a copy calibrated with a temperature that is fitted on reviews it was not trained on."""
        temperature = calibration.fit_temperature(self.logits(rows), labels)
        return replace(self, weights=self.weights / temperature, offsets=self.offsets / temperature)

    def save(self, path: Path) -> None:
        """Write the classifier as one safetensors file."""
        tensors = {
            "vocabulary": self.grams.content(),
            "idf": self.idf,
            "weights": self.weights,
            "offsets": self.offsets,
        }
        facts = {"grams": self.grams.kind, "weighting": self.weighting}
        metadata = {name: str(value) for name, value in facts.items()}
        metadata["label_names"] = json.dumps(self.label_names)
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path, metadata)


def load(path: Path) -> LinearClassifier:
    """Load a classifier that `save` wrote. Raises ModelError if the file is not one, or is damaged."""
    try:
        with safe_open(path, "numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        names = [str(name) for name in json.loads(metadata["label_names"])]
        weighting: Any = metadata["weighting"]
        grams = _KINDS[metadata["grams"]].read(tensors["vocabulary"])
        arrays = [tensors[name] for name in ("idf", "weights", "offsets")]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"The linear model cannot be read: {error}", str(path), "register the model again"
        ) from error
    return LinearClassifier(names, grams, weighting, *arrays)


def fit(
    rows: Sequence[str] | Sequence[Sequence[int]],
    labels: Ints,
    label_names: Sequence[str],
    weighting: Weighting = "nb-svm",
    least_rows: int = LEAST_ROWS,
) -> LinearClassifier:
    """Fit a linear classifier on texts or token rows.

    Args:
        rows: training rows; texts or unpadded token ids.
        labels: class ids, shape (rows,), at least two distinct ones.
        label_names: in order of their ids; a class without training rows is never predicted.
        weighting: of the counts of grams.
        least_rows: grams in fewer rows are left out.
    Raises:
        ValueError: fewer than two classes in the labels.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("a classifier needs reviews of at least two classes")
    kind = WordGrams if isinstance(rows[0], str) else TokenGrams
    grams, counts = kind.fitted(rows, least_rows)  # type: ignore[arg-type]
    idf = np.ones(len(grams), dtype=np.float32)
    if weighting == "tfidf":
        idf = TfidfTransformer(sublinear_tf=True).fit(counts).idf_.astype(np.float32)
    features = _weighted(counts, weighting, idf)
    learn = _logistic if weighting == "tfidf" else _nb_svm
    weights, offsets = learn(features, labels, len(label_names))
    return LinearClassifier(list(label_names), grams, weighting, idf, weights, offsets)


def _weighted(counts: sparse.csr_matrix, weighting: Weighting, idf: Floats) -> sparse.csr_matrix:
    """Return the features of counts: presence (nb-svm), or sublinear TF-IDF of unit length."""
    if weighting == "nb-svm":
        return sparse.csr_matrix(
            (np.ones_like(counts.data), counts.indices, counts.indptr), shape=counts.shape
        )
    values = (1 + np.log(counts.data)) * idf[counts.indices]
    features = sparse.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)
    return sparse.csr_matrix(normalize(features, copy=False))


def _logistic(features: sparse.csr_matrix, labels: Ints, classes: int) -> tuple[Floats, Floats]:
    """Fit the baseline's logistic regression, with a column of weights for every class."""
    model = tfidf.classifier().fit(features, labels)
    weights, offsets = _blank(features, classes)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row, for the second class
        coefficients, intercepts = (
            np.stack([-coefficients[0], coefficients[0]]) / 2,
            np.array([-intercepts[0], intercepts[0]]) / 2,
        )
    weights[:, model.classes_], offsets[model.classes_] = coefficients.T, intercepts
    return weights, offsets


def _nb_svm(features: sparse.csr_matrix, labels: Ints, classes: int) -> tuple[Floats, Floats]:
    """Fit NB-SVM one-vs-rest, each class with its own ratios; for two classes, fit once."""
    weights, offsets = _blank(features, classes)
    present = np.unique(labels)
    for label in present[-1:] if len(present) == 2 else present:
        weights[:, label], offsets[label] = _against_others(features, labels == label)
    if len(present) == 2:
        first, second = present
        weights[:, second], offsets[second] = weights[:, second] / 2, offsets[second] / 2
        weights[:, first], offsets[first] = -weights[:, second], -offsets[second]
    return weights, offsets


def _blank(features: sparse.csr_matrix, classes: int) -> tuple[Floats, Floats]:
    """Return weights and offsets with which no class is predicted."""
    _, grams = features.shape  # pyright: ignore[reportGeneralTypeIssues]
    return np.zeros((grams, classes), np.float32), np.full(classes, _ABSENT, dtype=np.float32)


def _against_others(features: sparse.csr_matrix, own: NDArray[np.bool_]) -> tuple[Floats, float]:
    own_counts, other_counts = (
        _SMOOTHING + np.asarray(features[which].sum(axis=0), dtype=np.float64).ravel()
        for which in (own, ~own)
    )
    ratio = np.log(own_counts / own_counts.sum()) - np.log(other_counts / other_counts.sum())
    scaled = sparse.csr_matrix(features.multiply(ratio.astype(np.float32)))
    model = LogisticRegression(
        C=_STRENGTH, solver="liblinear", dual=True, max_iter=1000, random_state=0
    ).fit(scaled, own)
    coefficients = model.coef_[0]
    interpolated = _OWN_WEIGHTS * coefficients + (1 - _OWN_WEIGHTS) * np.abs(coefficients).mean()
    return (interpolated * ratio).astype(np.float32), float(model.intercept_[0])
