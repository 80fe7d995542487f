"""What a source of labelled reviews has to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.core.validation import RawReview

_LONGEST_EXTRA = 200  # characters; what is longer names no group of reviews


@dataclass(frozen=True)
class SourceColumns:
    """Names of the columns to read."""

    text: str
    label: str  # '' where the reviews are unlabelled, and none is to be read
    extras: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        """Every column that must be there."""
        return [self.text, *filter(None, [self.label]), *self.extras]


def extra(value: Any) -> str:
    """A value by which reviews are told apart, as text; missing ones are empty."""
    return "" if value is None else str(value)[:_LONGEST_EXTRA]


@dataclass(frozen=True)
class Unreadable:
    """A row that could not be decoded."""

    where: str
    problem: str


class Source(Protocol):
    """Labelled reviews, by split."""

    name: str

    def identity(self) -> dict[str, Any]:
        """Everything the rows depend on, as JSON: digests of files, ETags of objects, the commit of a data set."""
        ...

    def splits(self) -> list[str]:
        """ "train", and "test" where the source has one."""
        ...

    def rows(self, split: str) -> Iterator[RawReview | Unreadable]:
        """The rows of a split, in order. Raises DataError when a file cannot be read or lacks a column."""
        ...

    def label_names(self) -> list[str] | None:
        """The classes in order of their ids, where the source knows them; call it after `rows`."""
        ...
