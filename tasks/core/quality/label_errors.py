"""Detection of likely label errors by confident learning (Northcutt et al., 2021, JAIR 70; cleanlab).

A review is listed if models that never saw it are confident that it belongs to another class, more so than they are on
average for reviews of that class. The models are TF-IDF + logistic regression: cross-validated for train, fitted on
train for the other splits. The features are learned once from all texts of train, without labels.

The list is for people to look at: a model also errs on irony and on rare opinions, which are not label errors.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.model_selection import StratifiedKFold

from tasks.core.data.splits.sampling import stratified_split
from tasks.core.data.usable_rows import LabelledReview
from tasks.core.models.linear import tfidf

_LEAST_DOCUMENTS = 2  # a feature that occurs in one review only says nothing about others
_MOST_WEIGHTS = 4_000_000  # classes times features; the optimizer holds about twenty copies

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


@dataclass(slots=True, frozen=True)
class LabelIssue:
    """One review whose label is likely wrong, by split and row number (from 0)."""

    split: str
    row: int
    given_label: int
    suggested: int
    confidence: float  # probability of the suggested class
    given_confidence: float  # probability of the given class


@dataclass
class LabelErrors:
    """Likely label errors by split, the least plausible label first."""

    issues: dict[str, list[LabelIssue]] = field(default_factory=dict[str, list[LabelIssue]])
    rows: dict[str, int] = field(default_factory=dict[str, int])  # rows judged per split
    notes: list[str] = field(default_factory=list[str])


@dataclass(slots=True, frozen=True)
class _Sample:
    """The judged rows of a split; `labels` are indices into the usable classes, from 0."""

    split: str
    rows: Labels
    labels: Labels
    texts: list[str]


def find_label_errors(
    splits: Mapping[str, Sequence[LabelledReview]], folds: int, max_rows: int, seed: int
) -> LabelErrors:
    """Find likely label errors of every split. Deterministic.

    Args:
        splits: "train" and others.
        folds: of the cross-validation over train, at least 2.
        max_rows: of a larger split, a stratified sample of this size is judged.
        seed: of folds and samples.
    """
    errors = LabelErrors()
    train_labels = np.array([review.label for review in splits["train"]], dtype=np.int64)
    usable = np.flatnonzero(np.bincount(train_labels, minlength=1) >= 2)
    if len(usable) < 2:
        errors.notes.append("Labels were not judged: fewer than two classes have two reviews.")
        return errors
    train, *others = (
        _sampled(split, splits[split], usable, max_rows, seed, errors)
        for split in sorted(splits, key=lambda name: name != "train")
    )
    vectorizer = tfidf.vectorizer(_LEAST_DOCUMENTS, _MOST_WEIGHTS // len(usable))
    try:
        features = vectorizer.fit_transform(train.texts)
    except ValueError as error:
        if "no terms remain" not in str(error) and "empty vocabulary" not in str(error):
            raise
        errors.notes.append("Labels were not judged: no two reviews share a word.")
        return errors
    classes = len(usable)
    _judge(train, _out_of_fold(features, train.labels, classes, folds, seed), usable, errors)
    others = [sample for sample in others if len(sample.rows)]
    if others:
        model = tfidf.classifier().fit(features, train.labels)
        for sample in others:
            probabilities = model.predict_proba(vectorizer.transform(sample.texts))
            _judge(sample, _spread(probabilities, model.classes_, classes), usable, errors)
    return errors


def _sampled(
    split: str,
    reviews: Sequence[LabelledReview],
    usable: Labels,
    max_rows: int,
    seed: int,
    errors: LabelErrors,
) -> _Sample:
    """Return the reviews of usable classes, or a stratified sample of them in their original order."""
    labels = np.array([review.label for review in reviews], dtype=np.int64)
    rows = np.flatnonzero(np.isin(labels, usable))
    if left_out := len(labels) - len(rows):
        errors.notes.append(
            f"{left_out:,} reviews of {split} were not judged: train has fewer than two of their class."
        )
    if len(rows) > max_rows:
        errors.notes.append(
            f"Labels of {split} were judged on {max_rows:,} of {len(rows):,} reviews, a stratified sample."
        )
        (chosen,) = stratified_split(labels[rows], [max_rows], seed)
        rows = rows[np.sort(chosen)]
    texts = [reviews[row].text for row in rows.tolist()]
    return _Sample(split, rows, np.searchsorted(usable, labels[rows]), texts)


def _out_of_fold(
    features: csr_matrix, labels: Labels, classes: int, folds: int, seed: int
) -> Probabilities:
    """Return each row's probabilities by a model fitted on the other folds, shape (rows, classes)."""
    probabilities = np.zeros((len(labels), classes))
    for fitted, held_out in _folds(labels, folds, seed):
        model = tfidf.classifier().fit(features[fitted], labels[fitted])
        probabilities[held_out] = _spread(
            model.predict_proba(features[held_out]), model.classes_, classes
        )
    return probabilities


def _folds(labels: Labels, folds: int, seed: int) -> Iterator[tuple[Labels, Labels]]:
    """Return stratified folds. A class with fewer rows than folds is not in every fold; the warning is suppressed."""
    fold = StratifiedKFold(
        min(folds, int(np.bincount(labels).max())), shuffle=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = list(fold.split(np.zeros(len(labels)), labels))
    return iter(parts)


def _spread(probabilities: Probabilities, present: Labels, classes: int) -> Probabilities:
    """Return probabilities with columns for all classes; a class that was not fitted has probability 0."""
    spread = np.zeros((len(probabilities), classes))
    spread[:, present] = probabilities
    return spread


def _judge(
    sample: _Sample, probabilities: Probabilities, usable: Labels, errors: LabelErrors
) -> None:
    """Apply confident learning to out-of-sample probabilities, and add the issues to `errors`."""
    ranked = find_label_issues(
        sample.labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    errors.rows[sample.split] = len(sample.rows)
    errors.issues[sample.split] = [
        LabelIssue(
            split=sample.split,
            row=int(sample.rows[index]),
            given_label=int(usable[sample.labels[index]]),
            suggested=int(usable[probabilities[index].argmax()]),
            confidence=round(float(probabilities[index].max()), 4),
            given_confidence=round(float(probabilities[index, sample.labels[index]]), 4),
        )
        for index in ranked
    ]
