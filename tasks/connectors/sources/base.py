"""The interface of a source of labelled reviews."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.core.data.labels import NotALabelError, canonical_label
from tasks.core.data.usable_rows import RawReview
from tasks.core.errors import ValidationError
from tasks.core.formats.values import as_text
from tasks.core.records import SourceFile

_LONGEST_EXTRA = 200  # characters; longer values do not name a group of reviews


@dataclass(frozen=True)
class SourceColumns:
    """Names of the columns to read, and the encoding of text files."""

    text: str
    label: str  # '' for unlabelled reviews: no label is read
    extras: tuple[str, ...] = ()
    encoding: str = "utf-8"  # of text files

    @property
    def all(self) -> list[str]:
        """All required columns."""
        return [self.text, *filter(None, [self.label]), *self.extras]


def extra(value: Any) -> str:
    """Return the value of an extra column, by which reviews are grouped, as text; '' if it is missing."""
    text = str(value) if isinstance(value, bool) else as_text(value)
    return (text or "")[:_LONGEST_EXTRA]


def label_of(value: Any, column: str, where: str) -> str | None:
    """Return the label of a row in its canonical spelling; None if it is missing.

    Raises:
        ValidationError: it is not a text, number or boolean.
    """
    try:
        return canonical_label(value)
    except NotALabelError as error:
        raise ValidationError(
            f"A label must be one text, number or boolean, but the column {column!r} holds {error}",
            where,
            "name the column with one label per review (--data.source.label-column NAME), or correct the file",
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
        """Return everything the rows depend on, as JSON: digests of files, ETags of objects, commit of a data set."""
        ...

    def splits(self) -> list[str]:
        """Return "train", and "test" if the source has one."""
        ...

    def files(self) -> list[SourceFile]:
        """Return each file or part of the source with its split, including those that are left out."""
        ...

    def rows(self, split: str) -> Iterator[RawReview | Unreadable]:
        """Iterate over the rows of a split, in order. Raises DataError if a file cannot be read or lacks a column."""
        ...

    def label_names(self) -> list[str] | None:
        """Return the classes in order of their ids, or None if the source does not know them. Call it after `rows`."""
        ...
