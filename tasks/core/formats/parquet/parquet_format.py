"""Parquet, read a batch of rows at a time.

Files may come from anybody, so they are decoded in a separate process with limited memory (process.py). Only the
requested columns are decoded.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

from tasks.core.formats.base import (
    LONGEST_RECORD,
    TOO_LONG,
    Row,
    Span,
    UnfitError,
    require_few_columns,
    require_plausible,
)
from tasks.core.formats.detection.compression import stored_bytes
from tasks.core.formats.parquet.arrow_types import carried_type, with_unit
from tasks.core.formats.parquet.process import ParquetFile, opened
from tasks.core.formats.parquet.values import rows_of
from tasks.core.formats.parquet.writing import merged, written

_ROWS_A_BATCH = 1_024
_BYTES_A_BATCH = 4 * LONGEST_RECORD
_DAMAGED = (
    "download or write the file again: rows are missing, or its footer belongs to another file"
)
_EMPTY_ROW_BYTES = 64  # approximate memory


class Parquet:
    """Parquet with any column types. A column whose values have incompatible types is written as texts."""

    by_bytes = False

    def decode(
        self, stream: IO[bytes], span: Span | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        number = span.first_row - 1 if span else 0
        stored = stored_bytes(stream)
        with _opened(stream) as file:
            names = tuple(file.facts.columns)
            requested = [name for name in names if columns is None or _is_requested(name, columns)]
            total = sum(rows for rows, _ in file.facts.groups)
            first, end = (span.offset, span.end) if span else (0, None)
            groups = range(len(file.facts.groups))[first:end]
            for types, rows in _batches(file, requested, groups, stored):
                for values, problem in rows:
                    number += 1
                    yield Row(number, values, problem, number - 1, b"", total, names, types)

    def encode(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        stream: IO[bytes],
        header: bool = True,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        def open_part() -> IO[bytes]:
            return opened.enter_context(tempfile.TemporaryFile())

        with contextlib.ExitStack() as opened:
            parts = written(rows, columns, open_part, {} if types is None else types)
            if len(parts) > 1:
                merged(parts, stream)
            else:
                shutil.copyfileobj(parts[0], stream, 1 << 20)

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        with _opened(stream) as file:
            groups = file.facts.groups
        span, rows, size = whole, 0, 0
        for index, (group_rows, group_bytes) in enumerate(groups):
            if size >= part_bytes:
                yield replace(span, rows=rows, end=index)
                span = replace(span, first_row=span.first_row + rows, offset=index)
                rows = size = 0
            rows, size = rows + group_rows, size + group_bytes
        yield replace(span, rows=rows, end=len(groups))

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        merged(parts, stream)


@contextlib.contextmanager
def _opened(stream: IO[bytes]) -> Generator[ParquetFile]:
    """Open the file; one that is compressed as a whole is unpacked first, because the footer comes last."""
    if not stream.seekable():
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked, 1 << 20)
            with _opened(unpacked) as file:
                yield file
        return
    with opened(stream) as file:
        require_few_columns(file.facts.leaves)
        names, rows = file.facts.columns, sum(rows for rows, _ in file.facts.groups)
        if rows != file.facts.rows:
            raise UnfitError(
                f"its row groups have {rows:,} rows, but the file has {file.facts.rows:,} according to the footer",
                _DAMAGED,
            )
        if not names:
            raise UnfitError("it has no columns", "write it again with the columns of the reviews")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UnfitError(f"two columns are called {twice!r}", "rename one of them")
        yield file


def _is_requested(name: str, columns: Iterable[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for path in columns)


def _batches(
    file: ParquetFile, columns: list[str], groups: Iterable[int], stored: int
) -> Iterator[tuple[dict[str, Any], Iterable[tuple[dict[str, Any] | None, str]]]]:
    """Yield, for each batch of some row groups, the types of columns and the values or the problem of each row.

    The memory that values take is checked against `stored`, the size of the file before it is unpacked.
    """
    unpacked, types = 0, dict[str, Any]()
    for group in groups:
        rows, size = file.facts.groups[group]
        if not columns:  # no requested column exists; the number of rows may be false
            unpacked += rows * _EMPTY_ROW_BYTES
            require_plausible(unpacked, stored)
            yield types, (({}, "") for _ in range(rows))
            continue
        received = 0
        for count, held, batch in file.parts(group, columns, _rows_a_batch(rows, size)):
            received += count if batch is None else len(batch)
            unpacked += held
            require_plausible(unpacked, stored)
            if batch is None:
                yield types, [(None, TOO_LONG)] * count
                continue
            types = types or _types(batch, file.facts.int96)
            yield types, rows_of(batch)
        if received != rows:
            raise UnfitError(
                f"row group {group + 1} has {received:,} rows, but {rows:,} according to the footer",
                _DAMAGED,
            )


def _types(batch: Any, int96: Sequence[str]) -> dict[str, Any]:
    """Return the types of columns; for times of 96 bits, which change between batches, the coarser one."""
    types = {field.name: carried_type(field.type) for field in batch.schema}
    return types | {name: with_unit(types[name], "us") for name in int96 if name in types}


def _rows_a_batch(rows: int, encoded_bytes: int) -> int:
    """Return the rows to decode at once: few if the file says that they are large.

    If the file is wrong about it, decoding is tried again with fewer.
    """
    return max(1, min(_ROWS_A_BATCH, _BYTES_A_BATCH // (encoded_bytes // max(rows, 1) + 1)))


PARQUET = Parquet()
