"""File formats of reviews, in and out. One file a format, one entry in `FORMATS`; all pass the same contract test.

Compression (gz, zst, bz2) is told by the content and needs no extension. Decoding never holds more than a few rows.
"""

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import IO, Any

import pyarrow as pa

from tasks.core.errors import MissingDataError, UnreadableDataError
from tasks.core.formats.base import Format, LeftOpen, Row
from tasks.core.formats.delimited import Csv
from tasks.core.formats.jsonl import JsonLines
from tasks.core.formats.parquet import Parquet

FORMATS: dict[str, Format] = {
    "jsonl": JsonLines(),
    "csv": Csv(","),
    "tsv": Csv("\t"),
    "parquet": Parquet(),
}
EXTENSIONS = {"json": "jsonl", "ndjson": "jsonl", "pq": "parquet"} | {
    name: name for name in FORMATS
}
COMPRESSIONS = {"gz": "gzip", "zst": "zstd", "zstd": "zstd", "bz2": "bz2"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}

_ROWS_TO_SEE_ALL_COLUMNS = 1000

__all__ = [
    "FORMATS",
    "Format",
    "Row",
    "decode",
    "encode",
    "format_of",
    "is_hidden",
    "require_columns",
    "with_columns",
]


def format_of(name: str) -> tuple[str, str | None]:
    """Format and compression that a file's name says: `reviews.csv.gz` -> ("csv", "gzip").

    Raises:
        UnreadableDataError: the name ends in nothing we know.
    """
    parts = name.lower().rsplit("/", 1)[-1].split(".")
    compression = COMPRESSIONS.get(parts[-1])
    extension = parts[-2 if compression and len(parts) > 1 else -1]
    if extension not in EXTENSIONS or len(parts) < 2:
        raise UnreadableDataError(
            "Cannot tell the format of this file from its name",
            name,
            f"let it end in one of .{', .'.join(EXTENSIONS)}, with .gz, .zst or .bz2 behind it if compressed",
        )
    return EXTENSIONS[extension], compression


def decode(name: str, stream: IO[bytes]) -> Iterator[Row]:
    """The rows of a file, in order; a row that cannot be read comes with its `problem` instead of values.

    Args:
        name: file name or key; its extension says the format.
        stream: seekable binary stream at its start.
    Raises:
        UnreadableDataError: the file as a whole cannot be read (truncated, not of its format, no header).
    """
    kind, _ = format_of(name)
    head = stream.read(4)
    stream.seek(0)
    compression = next((c for magic, c in _MAGIC.items() if head.startswith(magic)), None)
    source = stream
    if compression:
        unpacked: Any = pa.CompressedInputStream(pa.PythonFile(LeftOpen(stream), "r"), compression)
        source = io.BufferedReader(unpacked)
    try:
        yield from FORMATS[kind].decode(source)
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk or the network, not the content
            raise
        raise UnreadableDataError(
            f"Not readable as {kind}{f' ({compression})' if compression else ''}: {error}",
            name,
            "check that the file is whole and is what its extension says",
        ) from error


def encode(
    name: str, rows: Iterable[dict[str, Any]], columns: Sequence[str], stream: IO[bytes]
) -> None:
    """Write rows to a stream in the format and compression that `name` says. The same rows give the same bytes."""
    kind, compression = format_of(name)
    if compression is None:
        FORMATS[kind].encode(rows, columns, stream)
        return
    sink = pa.PythonFile(LeftOpen(stream), "w")
    with pa.CompressedOutputStream(sink, compression) as compressed:
        FORMATS[kind].encode(rows, columns, compressed)


def with_columns(rows: Iterable[Row], columns: Sequence[str], where: str) -> Iterator[Row]:
    """The rows as they are, while making sure that each column is there: rows of JSONL may each lack some.

    Raises:
        MissingDataError: none of the first thousand readable rows, or of all, has a column; it says which there are.
    """
    missing, there, readable = set(columns), set[str](), 0
    held: list[Row] = []
    for row in rows:
        if missing:
            held.append(row)
            if row.values is not None:
                readable += 1
                missing -= row.values.keys()
                there |= row.values.keys()
            if missing and readable < _ROWS_TO_SEE_ALL_COLUMNS:
                continue
            require_columns(there, columns, where)
            yield from held
            held.clear()
        else:
            yield row
    if readable:
        require_columns(there, columns, where)
    yield from held


def require_columns(there: Collection[str], wanted: Sequence[str], where: str) -> None:
    """Raises MissingDataError naming the first column that is wanted and not there, and those there are."""
    missing = [name for name in wanted if name not in there]
    if missing:
        # cut short: where a file has no header, its first review stands here
        names = [
            name if len(name) <= 40 else f"{name[:12]}... (a header?)" for name in sorted(there)
        ]
        raise MissingDataError(
            f"No column {missing[0]!r}; the columns are: {', '.join(names[:20])}",
            where,
            "name the right column",
        )


def is_hidden(name: str) -> bool:
    """True for a relative name with a part that begins with _ or ., such as _SUCCESS and .crc files."""
    return any(part.startswith(("_", ".")) for part in name.split("/"))
