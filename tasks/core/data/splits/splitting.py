"""Splitting into train, validation and test: seeded, shuffled, stratified."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.data.params import SplitParams
from tasks.core.data.splits.sampling import stratified_split
from tasks.core.data.texts import matching_form
from tasks.core.data.usable_rows import LabelledReview
from tasks.core.data.validation import few_rows
from tasks.core.digests import digest_of
from tasks.core.errors import ValidationError
from tasks.core.records import Finding

Reviews = list[LabelledReview]


def split(
    splits: Mapping[str, Sequence[LabelledReview]],
    source_rows: Mapping[str, Sequence[int]],
    params: SplitParams,
) -> dict[str, Reviews]:
    """Return disjoint rows of train, validation and test.

    Args:
        splits: "train" and "test"; train rows whose text is also in test are left out.
        source_rows: rows of each class in the source, for each split. Samples are drawn in these proportions, so that
            1,000 reviews of IMDb are 500 of each class although some of its reviews are duplicates.
        params: sizes and seed.
    """
    test = list(splits["test"])
    tested = {matching_form(row.text) for row in test}
    pool = [row for row in splits["train"] if matching_form(row.text) not in tested]
    proportions = {name: np.array(rows, dtype=np.int64) for name, rows in source_rows.items()}
    if params.limit_test_rows and params.limit_test_rows < len(test):
        drawn = np.bincount([r.label for r in test], minlength=len(proportions["train"]))
        of_test = proportions.get("test", drawn)  # a drawn test set keeps its own, as data grows
        (test,) = _sampled(test, [params.limit_test_rows], params.seed, of_test)
    fraction = params.validation_fraction
    requested_rows = min(params.limit_train_rows or len(pool), len(pool))
    validation_rows = round(requested_rows * fraction / (1 - fraction))
    if requested_rows + validation_rows > len(pool):
        validation_rows = round(len(pool) * fraction)
    train_rows = min(requested_rows, len(pool) - validation_rows)
    sizes = [train_rows, validation_rows]
    train, validation = _sampled(pool, sizes, params.seed, proportions["train"])
    return {"train": train, "validation": validation, "test": test}


def require_rows(
    splits: Mapping[str, Reviews], label_names: Sequence[str], least: int
) -> list[Finding]:
    """Check the number of rows of each class after the split, and return findings about small ones.

    Args:
        splits: train, validation and test.
        label_names: in order of their ids.
        least: `data.validation.min_rows_a_class`.
    Raises:
        ValidationError: train has fewer than `least` rows of a class, or validation or test has none.
    """
    findings = few_rows(splits, label_names, least)
    if errors := [
        f"{finding.split}: {finding.message}" for finding in findings if finding.severity == "error"
    ]:
        raise ValidationError(
            "; ".join(errors),
            "data.split",
            "add reviews of these classes, raise the limits or fractions of data.split, or lower "
            "--data.validation.min-rows-a-class (at least 2)",
        )
    return findings


def held_out(rows: Sequence[LabelledReview], fraction: float, seed: int) -> Reviews:
    """Return a stratified fraction of the rows, for a test set.

    Rows are chosen by a digest of their text, so that most rows of an earlier test set are drawn again after the data
    has grown. Otherwise a champion would be judged on rows that it was trained on.
    """
    held: set[int] = set()
    for label in {row.label for row in rows}:
        indices = [index for index, row in enumerate(rows) if row.label == label]
        indices.sort(key=lambda i: digest_of({"seed": seed, "text": matching_form(rows[i].text)}))
        held.update(indices[: round(len(indices) * fraction)])
    return [rows[i] for i in sorted(held)]


def _sampled(
    rows: Sequence[LabelledReview], sizes: list[int], seed: int, proportions: NDArray[np.int64]
) -> list[Reviews]:
    labels = np.array([r.label for r in rows], dtype=np.int64)
    samples = stratified_split(labels, sizes, seed, proportions)
    return [[rows[i] for i in indices] for indices in samples]
