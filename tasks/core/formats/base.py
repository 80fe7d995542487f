"""What a file format has to do, and what it speaks of: rows, and spans of rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

LONGEST_RECORD = 16 * 1024 * 1024  # bytes; a longer one is passed over, not held in memory
MOST_COLUMNS = (
    4_096  # of a CSV header, of a JSON object, of Parquet with those inside of structs and lists
)
MOST_UNPACKED = 64 * 1024 * 1024  # bytes; more only of a file that is not shrunk beyond measure
MOST_SHRUNK = 200  # times
TOO_LONG = f"longer than {LONGEST_RECORD // 1024 // 1024} MiB"
NOT_UTF8 = "not UTF-8"
OUR_FAULT = "this is a fault of Nightshift: please report it"


@dataclass(slots=True)  # not frozen: that takes a third of the time in which a CSV is read
class Row:
    """One record of a file: its values, or the reason why it has none."""

    number: int  # counted from 1, without a header
    values: Mapping[str, Any] | None
    problem: str = ""
    offset: int = 0  # bytes of the unpacked file before the record; in Parquet, rows before it
    raw: bytes = b""  # as it stands in the file, without its line end; Parquet and too long: none
    of: int = 0  # records of the whole file, where the format knows
    columns: tuple[str, ...] = ()  # of the file, where `values` may lack some that nobody asked for
    types: Mapping[str, Any] | None = None  # Arrow's, of columns, where the format says them
    line: int = 0  # on which it begins, where there is a problem and the format has lines


@dataclass(slots=True, frozen=True)
class Span:
    """A part of a file, on record boundaries.

    `Span(**dataclasses.asdict(span))` is the same span, also with JSON in between.
    """

    format: str
    compression: str | None = None
    first_row: int = 1  # number of its first record
    rows: int | None = None  # None: to the end
    offset: int = 0  # bytes of the unpacked file before it; in Parquet, row groups before it
    end: int | None = None  # where the next one begins, in the same unit; None: to the end
    columns: tuple[str, ...] | None = None  # of a format that has them in a header
    line: int = 1  # the line of the file on which it begins, where a format counts them
    alone: bool = False  # its bytes can be read without those of the rest
    delimiter: str = ""  # between fields, if it is not the format's own
    encoding: str = "utf-8"  # of a text; offsets are those of it in UTF-8
    quoted: bool = False  # the header is in quotes, so that those of the rows are meant

    def __post_init__(self) -> None:
        if self.columns is not None:  # a list, when it was JSON on the way
            object.__setattr__(self, "columns", tuple(self.columns))

    @property
    def byte_range(self) -> tuple[int, int] | None:
        """Start and end of the bytes `decode` wants of the object: exactly those, from a range read.

        None when it wants the whole object, because it is compressed or Parquet. An empty range holds no row.
        """
        return (self.offset, self.end) if self.alone and self.end is not None else None


@dataclass(slots=True, frozen=True)
class Kind:
    """What a file is."""

    format: str  # a key of FORMATS
    compression: str | None = None
    said: str | None = None  # the format its name says, where it says one
    delimiter: str = ""  # between fields, if it is not the format's own
    encoding: str = "utf-8"  # of a text


class UnfitError(ValueError):
    """A file that cannot be read as a whole, with what to do about it; `decode` and `cut` say of which file."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


def require_plausible(
    unpacked: int, packed: int, says: str = "it unpacks to more than {} times its {:,} bytes"
) -> None:
    """Raises UnfitError where a file holds far more than its size: a bomb, made to fill a disk or the memory.

    Args:
        unpacked: bytes so far, or what values made of them take in memory.
        packed: bytes of the file as it is stored.
        says: what is wrong then; the allowance and the bytes that are stored are put in.
    """
    if unpacked > max(MOST_UNPACKED, MOST_SHRUNK * packed):
        raise UnfitError(
            f"{says.format(MOST_SHRUNK, packed)}, as files do that are made to fill a disk or the memory",
            "unpack it elsewhere and look; give it uncompressed if it is as it should be",
        )


def require_few_columns(columns: int) -> None:
    """Raises UnfitError where a table has more columns than are read."""
    if columns > MOST_COLUMNS:
        raise UnfitError(
            f"it has {columns:,} columns, and at most {MOST_COLUMNS:,} are read",
            "check that it is the right file; write it again with the columns of the reviews",
        )


class LeftOpen:
    """A stream that stays open when pyarrow closes it: whoever opened it closes it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None: ...


class Format(Protocol):
    """Rows from bytes and bytes from rows; decode after encode gives the same values."""

    by_bytes: bool
    """Encoded parts laid end to end are the whole, and a span of bytes can be read without the rest."""

    def decode(
        self, stream: IO[bytes], span: Span | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        """Rows in file order. Raises OSError, ValueError or UnfitError where the file as a whole is not readable.

        Args:
            stream: at its start; with a span and where `by_bytes`, at the span's first byte.
            span: only these rows; more may follow them.
            columns: names or dotted paths that are asked for; others need not be decoded. None: all.
        """
        ...

    def encode(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        stream: IO[bytes],
        header: bool = True,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        """Write rows that have exactly `columns`. Deterministic. Does not close the stream.

        `types` are those of Arrow for columns whose type is known, for a format that has any. They are looked at after
        rows were taken, so that whoever makes the rows can add what shows with them.
        """
        ...

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        """Spans that together are `whole`, each of at least `part_bytes` but for the last; at least one."""
        ...

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        """Write the rows of encoded parts as one file. Deterministic. Does not close the streams."""
        ...
