"""Slices of a test set: every row in one length band and one label, small and full slices left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.evaluation.slices import BANDS, left_out, make_slices

ROWS = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 2), st.sampled_from(["a", "b", "c", "d", ""])),
    min_size=1,
    max_size=80,
)


@given(ROWS, st.integers(1, 20), st.integers(1, 5))
def test_what_is_kept_and_what_is_left_out_is_everything_once(
    rows: list[tuple[int, int, str]], min_rows: int, max_values: int
) -> None:
    words, labels, sources = (np.array(column) for column in zip(*rows, strict=True))
    given_rows = (words, labels, ["x", "y", "z"], {"source": list(sources)}, min_rows, max_values)
    kept, small = make_slices(*given_rows), left_out(*given_rows)
    assert all(min_rows <= s.count < len(rows) for s in kept)
    assert all(0 < count < min_rows for count in small.values())
    for group, held in {"length": words, "label": labels}.items():
        masks = [s.rows for s in kept if s.group == group]
        few = sum(count for name, count in small.items() if name.startswith(group))
        whole = sum(
            len(rows)
            for value in set(np.digitize(held, [50, 150, 300, 600]) if group == "length" else held)
            if (np.digitize(held, [50, 150, 300, 600]) if group == "length" else held).tolist()
            == [value] * len(rows)
            and len(rows) >= min_rows
        )
        assert np.sum(masks) + few + whole == len(rows)
        assert not masks or np.sum(masks, axis=0).max() == 1
    named = {s.name for s in kept if s.group == "source"}
    assert len(named) <= max_values


def test_bands_and_values_hold_the_rows_they_name() -> None:
    words = np.array([0, 49, 50, 149, 150, 299, 300, 599, 600, 5000])
    labels = np.array([0, 1] * 5)
    slices = make_slices(words, labels, ["bad", "good"], {"source": ["x.csv"] * 10}, 2, 10)
    found = {str(s): np.flatnonzero(s.rows).tolist() for s in slices}
    assert found == {
        "length under 50 words": [0, 1],
        "length 50-149 words": [2, 3],
        "length 150-299 words": [4, 5],
        "length 300-599 words": [6, 7],
        "length 600 words and more": [8, 9],
        "label bad": [0, 2, 4, 6, 8],
        "label good": [1, 3, 5, 7, 9],
    }  # and no slice of the one source, which is all rows
    assert len(BANDS) == 5


def test_of_a_column_the_most_frequent_values() -> None:
    shops = ["a"] * 3 + ["b"] * 5 + ["c"] * 4 + [""] * 4
    words, labels = np.full(16, 10), np.zeros(16, dtype=int)
    slices = make_slices(words, labels, ["only"], {"shop": shops}, 1, 3)
    assert [(s.group, s.name, s.count) for s in slices] == [
        ("shop", "b", 5),
        ("shop", "(empty)", 4),
        ("shop", "c", 4),
    ]
    assert left_out(words, labels, ["only"], {"shop": shops}, 4, 4) == {"shop a": 3}


def test_a_column_of_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="column shop has 1 values for 2 rows"):
        make_slices(np.array([1, 2]), np.array([0, 1]), ["a", "b"], {"shop": ["x"]}, 1, 1)
