"""Linear classifiers on texts and on token ids: what they learn, what survives a file, what is refused."""

import collections
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import ModelError
from tasks.core.models.linear import classifier
from tasks.core.models.linear.ngrams import TokenGrams
from tests.reviews import reviews

NAMES = ["NEGATIVE", "POSITIVE"]
WORDS: dict[str, int] = {}


def as_tokens(text: str) -> list[int]:
    return [WORDS.setdefault(word, len(WORDS)) for word in text.lower().split()]


def data(rows: int, seed: int, tokens: bool) -> tuple[list[Any], np.ndarray]:
    pairs = reviews(rows, seed)
    labels = np.array([NAMES.index(label) for _, label in pairs])
    return [as_tokens(text) if tokens else text for text, _ in pairs], labels


@pytest.mark.parametrize("weighting", ["tfidf", "nb-svm"])
@pytest.mark.parametrize("tokens", [False, True], ids=["texts", "tokens"])
def test_it_learns_and_survives_a_file(weighting: Any, tokens: bool, tmp_path: Path) -> None:
    rows, labels = data(200, 1, tokens)
    model = classifier.fit(rows, labels, NAMES, weighting)
    fresh, truth = data(100, 2, tokens)
    logits = model.logits(fresh)
    assert logits.shape == (100, 2) and logits.dtype == np.float32
    assert (logits.argmax(1) == truth).mean() > 0.95
    model.save(tmp_path / "linear.safetensors")
    again = classifier.load(tmp_path / "linear.safetensors")
    assert again.label_names == NAMES and again.weighting == weighting
    np.testing.assert_array_equal(again.logits(fresh), logits)
    np.testing.assert_array_equal(
        classifier.fit(rows, labels, NAMES, weighting).logits(fresh), logits
    )  # deterministic


@pytest.mark.parametrize("weighting", ["tfidf", "nb-svm"])
def test_any_number_of_classes_one_of_which_training_lacks(weighting: Any) -> None:
    rows = [[c * 10 + i % 3, 50 + i % 5, c * 10 + 1] for c in range(4) for i in range(20)]
    labels = np.repeat([0, 1, 3, 4], 20)
    model = classifier.fit(rows, labels, list("abcde"), weighting)
    found = model.logits(rows)
    assert found.shape == (80, 5)
    assert (found.argmax(1) == labels).all() and 2 not in found.argmax(1)
    calibrated = model.calibrated(rows, labels)
    assert (calibrated.logits(rows).argmax(1) == labels).all()


def test_calibration_changes_confidence_and_no_answer() -> None:
    rows, labels = data(200, 3, tokens=True)
    model = classifier.fit(rows[::2], labels[::2], NAMES)
    noisy = labels[1::2].copy()
    noisy[::5] = 1 - noisy[::5]
    before, after = model.logits(rows), model.calibrated(rows[1::2], noisy).logits(rows)
    assert np.abs(after).max() < np.abs(before).max()
    np.testing.assert_array_equal(before.argmax(1), after.argmax(1))


def test_what_it_has_never_seen_and_what_is_not_there() -> None:
    rows, labels = data(100, 4, tokens=True)
    model = classifier.fit(rows, labels, NAMES)
    assert model.logits([]).shape == (0, 2)
    empty, unknown = model.logits([[], [999_999, 999_998]])
    np.testing.assert_allclose(empty, unknown)
    with pytest.raises(ValueError, match="at least two classes"):
        classifier.fit(rows, np.zeros(100, dtype=np.int64), NAMES)


def test_a_damaged_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing of use")
    with pytest.raises(ModelError, match="linear model cannot be read"):
        classifier.load(tmp_path / "x")


@given(st.lists(st.lists(st.integers(0, 6), max_size=9), min_size=1, max_size=8))
def test_grams_are_counted_within_rows(rows: list[list[int]]) -> None:
    """As plain Python counts them."""
    grams, counts = TokenGrams.fitted(rows, least_rows=1)
    expected = [
        count for row in rows for count in collections.Counter(itertools.pairwise(row)).values()
    ]
    singles = [row.count(token) for row in rows for token in set(row)]
    assert sorted(counts.data.tolist()) == sorted([*expected, *singles])
    np.testing.assert_array_equal(grams.counts(rows).toarray(), counts.toarray())
    one_by_one = [grams.counts([row]).toarray()[0] for row in rows]
    np.testing.assert_array_equal(np.array(one_by_one), counts.toarray())
