"""The test set of a split, read once per process however many steps use it."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tasks.core.data import tables
from tasks.core.data.texts import matching_form
from tasks.core.data.usable_rows import LabelledReview
from tasks.core.evaluation import slices
from tasks.core.evaluation.slices import Slice
from tasks.core.records import Reference, SplitSummary
from tasks.core.release.gate.params import SlicesParams
from tasks.runtime.steps import fetched

_FILE = "test.parquet"
_CACHED_SPLITS = 2  # one for a candidate, one for a champion that was judged on another test set


@dataclass(frozen=True)
class TestSet:
    """Test reviews in order, with the names of their labels and of their slice columns."""

    __test__ = False  # pytest collects any class with such a name

    reviews: tuple[LabelledReview, ...]
    label_names: list[str]
    slice_columns: list[str]

    @property
    def texts(self) -> list[str]:
        """The texts of the reviews."""
        return [review.text for review in self.reviews]

    def repeats(self) -> NDArray[np.bool_]:
        """True for each review whose text equals that of an earlier one, shape (reviews,)."""
        seen: set[str] = set()
        repeats: list[bool] = []
        for form in map(matching_form, self.texts):
            repeats.append(form in seen)
            seen.add(form)
        return np.array(repeats, bool)

    def slices(self, params: SlicesParams) -> tuple[list[Slice], dict[str, int]]:
        """Return slices by length, label, source and the user's columns, and the sizes of those that are too small."""
        columns = {"source": [r.where.rpartition(" row ")[0] or r.where for r in self.reviews]}
        for index, name in enumerate(self.slice_columns):
            key = f"column {name}" if name in columns else name
            columns[key] = [r.extras[index] for r in self.reviews]
        arguments = (
            np.array([len(text.split()) for text in self.texts], dtype=np.int64),
            np.array([r.label for r in self.reviews], dtype=np.int64),
            self.label_names,
            columns,
            params.min_rows,
            params.max_values,
        )
        return slices.make_slices(*arguments), slices.left_out(*arguments)


def read_test_set(split: Reference[SplitSummary]) -> TestSet:
    """Read the test set of a split, unless this process has already read it."""
    summary = split.summary
    reviews = _reviews(_Split(split.uri, split.content, split))
    return TestSet(reviews, summary.label_names, summary.slice_columns)


@dataclass(frozen=True)
class _Split:
    """A reference as a cache key: two are equal if they pin the same files."""

    uri: str
    content: str
    reference: Reference[SplitSummary] = field(compare=False)


@lru_cache(maxsize=_CACHED_SPLITS)
def _reviews(split: _Split) -> tuple[LabelledReview, ...]:
    with fetched(split.reference, _FILE) as folder:
        return tuple(tables.read_labelled(folder / _FILE))
