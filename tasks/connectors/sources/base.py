"""What a source of labelled reviews has to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.core.data.labels import NotALabelError, canonical_label
from tasks.core.data.usable_rows import RawReview
from tasks.core.errors import ValidationError
from tasks.core.formats.values import as_text
from tasks.core.records import SourceFile

_LONGEST_EXTRA = 200  # characters; what is longer names no group of reviews


@dataclass(frozen=True)
class SourceColumns:
    """Names of the columns to read, and how."""

    text: str
    label: str  # '' where the reviews are unlabelled, and none is to be read
    extras: tuple[str, ...] = ()
    encoding: str = "utf-8"  # of files of text

    @property
    def all(self) -> list[str]:
        """Every column that must be there."""
        return [self.text, *filter(None, [self.label]), *self.extras]


def extra(value: Any) -> str:
    """A value by which reviews are told apart, as text; missing ones are empty."""
    text = str(value) if isinstance(value, bool) else as_text(value)
    return (text or "")[:_LONGEST_EXTRA]


def label_of(value: Any, column: str, where: str) -> str | None:
    """The label of a row in its one spelling; None where it is missing.

    Raises:
        ValidationError: it is no text, number or boolean.
    """
    try:
        return canonical_label(value)
    except NotALabelError as error:
        raise ValidationError(
            f"A label is one text, number or boolean, and the column {column!r} holds {error}",
            where,
            "name the column that holds one label a review, --data.source.label-column NAME, or write the file again",
        ) from None


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

    def files(self) -> list[SourceFile]:
        """Each file or part of the source, with the split that it is of, and those that are left out."""
        ...

    def rows(self, split: str) -> Iterator[RawReview | Unreadable]:
        """The rows of a split, in order. Raises DataError when a file cannot be read or lacks a column."""
        ...

    def label_names(self) -> list[str] | None:
        """The classes in order of their ids, where the source knows them; call it after `rows`."""
        ...
