"""Parts of a test set on which a model is judged separately: length bands, labels, and values of columns.

A model can be good on average and fail on long reviews. The bands are fixed, so they mean the same for every test set.
A slice of few rows can show nothing, and one of all rows shows nothing new: both are left out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.evaluation.metrics import Ints

LENGTH, LABEL = "length", "label"
BANDS = {
    "under 50 words": (0, 50),
    "50-149 words": (50, 150),
    "150-299 words": (150, 300),
    "300-599 words": (300, 600),
    "600 words and more": (600, np.inf),
}
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Slice:
    """A subset of a test set: `rows` is a mask over all its rows."""

    group: str
    name: str
    rows: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return int(self.rows.sum())

    def __str__(self) -> str:
        return f"{self.group} {self.name}"


def make_slices(
    words: Ints,
    labels: Ints,
    label_names: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    min_rows: int,
    max_values: int,
) -> list[Slice]:
    """Return the slices of a test set, by length, by label and by each column.

    Args:
        words: number of words of each review, shape (rows,).
        labels: true class ids, shape (rows,).
        label_names: in order of their ids.
        columns: name (such as `source`) to the value of each row.
        min_rows: slices with fewer are left out.
        max_values: of a column, the most frequent ones.
    Raises:
        ValueError: a column has another number of rows.
    """
    candidates = _candidates(words, labels, label_names, columns, max_values)
    return [s for s in candidates if min_rows <= s.count < len(labels)]


def left_out(
    words: Ints,
    labels: Ints,
    label_names: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    min_rows: int,
    max_values: int,
) -> dict[str, int]:
    """Return name and rows of the slices that `make_slices` leaves out as too small, except empty ones."""
    candidates = _candidates(words, labels, label_names, columns, max_values)
    return {str(s): s.count for s in candidates if 0 < s.count < min_rows}


def _candidates(
    words: Ints,
    labels: Ints,
    label_names: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    max_values: int,
) -> Iterator[Slice]:
    for name, (low, high) in BANDS.items():
        yield Slice(LENGTH, name, (words >= low) & (words < high))
    for class_id, name in enumerate(label_names):
        yield Slice(LABEL, name, labels == class_id)
    for column, values in columns.items():
        if len(values) != len(labels):
            raise ValueError(f"column {column} has {len(values)} values for {len(labels)} rows")
        frequent = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
        held = np.array(values, dtype=object)
        named: set[str] = set()
        for number, (value, _) in enumerate(frequent[:max_values], 1):
            name = value[:_LONGEST_NAME] or "(empty)"
            # Two shortened values may be equal.
            name = f"{name} ({number})" if name in named else name
            named.add(name)
            yield Slice(
                f"column {column}" if column in (LENGTH, LABEL) else column, name, held == value
            )
