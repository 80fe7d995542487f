"""The interface of file formats, and its types: rows, spans of rows, and kinds of files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

LONGEST_RECORD = 16 * 1024 * 1024  # bytes; a longer record is skipped, not held in memory
# Of a CSV header, of a JSON object, or of Parquet (fields inside structs and lists included).
MOST_COLUMNS = 4_096
MOST_UNPACKED = 64 * 1024 * 1024  # bytes; a file may unpack to more within MOST_SHRUNK
MOST_SHRUNK = 200  # times the size of the stored file
TOO_LONG = f"longer than {LONGEST_RECORD // 1024 // 1024} MiB"
NOT_UTF8 = "not UTF-8"
OUR_FAULT = "this is a bug in Nightshift: please report it"


@dataclass(slots=True)  # not frozen: that would take a third of the time of reading a CSV
class Row:
    """One record of a file: its values, or the problem that explains why it has none."""

    number: int  # counted from 1, without a header
    values: Mapping[str, Any] | None
    problem: str = ""
    offset: int = 0  # bytes of the unpacked file before the record; in Parquet, rows before it
    raw: bytes = b""  # as in the file, without its line end; empty for Parquet and too long records
    of: int = 0  # records of the whole file, if the format knows it
    columns: tuple[str, ...] = ()  # of the file, if `values` may lack some that were not asked for
    types: Mapping[str, Any] | None = None  # Arrow types of columns, if the format has types
    line: int = 0  # line on which it begins, if there is a problem and the format has lines


@dataclass(slots=True, frozen=True)
class Span:
    """A part of a file, on record boundaries.

    `Span(**dataclasses.asdict(span))` is the same span, also after a round trip through JSON.
    """

    format: str
    compression: str | None = None
    first_row: int = 1  # number of its first record
    rows: int | None = None  # None: to the end
    offset: int = 0  # bytes of the unpacked file before it; in Parquet, row groups before it
    end: int | None = None  # offset of the next span, in the same unit; None: to the end
    columns: tuple[str, ...] | None = None  # of the header, if the format has one
    line: int = 1  # line of the file on which it begins, if the format counts lines
    alone: bool = False  # its bytes can be read without the rest of the file
    delimiter: str = ""  # between fields, if it is not the format's default
    encoding: str = "utf-8"  # of a text; offsets count the bytes of its UTF-8 form
    quoted: bool = False  # the header is in quotes, so the quotes of the rows delimit fields

    def __post_init__(self) -> None:
        if self.columns is not None:  # a list after a round trip through JSON
            object.__setattr__(self, "columns", tuple(self.columns))

    @property
    def byte_range(self) -> tuple[int, int] | None:
        """Start and end of the bytes that `decode` has to get, exactly these, by a range read.

        None if it needs the whole object, because that is compressed or Parquet. An empty range holds no row.
        """
        return (self.offset, self.end) if self.alone and self.end is not None else None


@dataclass(slots=True, frozen=True)
class Kind:
    """The kind of a file: format, compression, delimiter and encoding."""

    format: str  # a key of FORMATS
    compression: str | None = None
    name_format: str | None = None  # the format that its name indicates, if any
    delimiter: str = ""  # between fields, if it is not the format's default
    encoding: str = "utf-8"  # of a text


class UnfitError(ValueError):
    """A file that cannot be read as a whole, and the fix; `decode` and `cut` add the name of the file."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


def require_plausible(
    unpacked: int, packed: int, template: str = "it unpacks to more than {} times its {:,} bytes"
) -> None:
    """Raise UnfitError if a file holds far more than its size: a decompression bomb, made to fill a disk or memory.

    Args:
        unpacked: bytes so far, or the memory that their values take.
        packed: bytes of the stored file.
        template: of the error text; `MOST_SHRUNK` and `packed` are filled in.
    """
    if unpacked > max(MOST_UNPACKED, MOST_SHRUNK * packed):
        raise UnfitError(
            f"{template.format(MOST_SHRUNK, packed)}, as decompression bombs do",
            "unpack it elsewhere and check it; if it is genuine, provide it uncompressed",
        )


def require_few_columns(columns: int) -> None:
    """Raise UnfitError if a table has more than `MOST_COLUMNS` columns."""
    if columns > MOST_COLUMNS:
        raise UnfitError(
            f"it has {columns:,} columns; the limit is {MOST_COLUMNS:,}",
            "check that it is the right file; write it again with only the columns of the reviews",
        )


class LeftOpen:
    """A stream that stays open when pyarrow closes it: its owner closes it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None: ...


class Format(Protocol):
    """A file format: rows from bytes and bytes from rows. Decoding encoded rows gives the same values."""

    by_bytes: bool
    """Encoded parts laid end to end are the whole, and a span of bytes can be read without the rest."""

    def decode(
        self, stream: IO[bytes], span: Span | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        """Yield rows in file order. Raises OSError, ValueError or UnfitError if the file as a whole is not readable.

        Args:
            stream: at its start; for a span of a `by_bytes` format, at the span's first byte.
            span: only these rows; more may follow them.
            columns: names or dotted paths to decode; others need not be decoded. None: all.
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

        `types` are the Arrow types of columns whose type is known, for formats that have types. They are looked up
        after rows were taken, so that the producer of the rows can still add types meanwhile.
        """
        ...

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        """Cut `whole` into one or more spans, each of at least `part_bytes` except the last."""
        ...

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        """Write the rows of encoded parts as one file. Deterministic. Does not close the streams."""
        ...
