"""Parquet, read a batch of rows at a time."""

import contextlib
import shutil
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.formats.base import LONGEST_RECORD, NOT_UTF8, TOO_LONG, Row, Span, UnfitError
from tasks.core.formats.parquet_writing import merged, written

RecordBatch: TypeAlias = Any  # pyarrow's, which has no types

_ROWS_A_BATCH = 1_024
_BYTES_A_BATCH = 4 * LONGEST_RECORD


class Parquet:
    """Any column types. A column whose values are of types that do not go together is written as texts."""

    by_bytes = False

    def decode(self, stream: IO[bytes], span: Span | None = None) -> Iterator[Row]:
        number = span.first_row - 1 if span else 0
        with _opened(stream) as file:
            first, end = (span.offset, span.end) if span else (0, None)
            for group in range(first, file.num_row_groups if end is None else end):
                rows = _rows_a_batch(file.metadata.row_group(group))
                for batch in file.iter_batches(rows, row_groups=[group]):
                    for values, problem in _values(_readable(batch)):
                        number += 1
                        yield Row(number, values, problem, number - 1, of=file.metadata.num_rows)

    def encode(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        stream: IO[bytes],
        header: bool = True,
    ) -> None:
        with contextlib.ExitStack() as opened:
            parts = written(rows, columns, lambda: opened.enter_context(tempfile.TemporaryFile()))
            if len(parts) > 1:
                merged(parts, stream)
            else:
                shutil.copyfileobj(parts[0], stream, 1 << 20)

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        with _opened(stream) as file:
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        span, rows, size = whole, 0, 0
        for index, group in enumerate(groups):
            if size >= part_bytes:
                yield replace(span, rows=rows, end=index)
                span = replace(span, first_row=span.first_row + rows, offset=index)
                rows = size = 0
            rows, size = rows + group.num_rows, size + group.total_byte_size
        yield replace(span, rows=rows, end=len(groups))

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        merged(parts, stream)


@contextlib.contextmanager
def _opened(stream: IO[bytes]) -> Generator[pq.ParquetFile]:
    """The file; one that is compressed from outside is unpacked first, because the footer comes last."""
    if not stream.seekable():
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked, 1 << 20)
            with _opened(unpacked) as file:
                yield file
        return
    file = pq.ParquetFile(stream)
    names = file.schema_arrow.names
    if not names:
        raise UnfitError("it has no columns", "write it again with the columns of the reviews")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UnfitError(f"two columns are called {twice!r}", "rename one of them")
    yield file


def _rows_a_batch(group: Any) -> int:
    """Few rows where they are large: a batch is held in memory."""
    row_bytes = group.total_byte_size // max(group.num_rows, 1) + 1
    return max(1, min(_ROWS_A_BATCH, _BYTES_A_BATCH // row_bytes))


def _readable(batch: RecordBatch) -> RecordBatch:
    """The batch with nanoseconds as microseconds, or as texts where that would cut them: Python's times end there."""
    for index, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            column = batch.column(index)
            try:
                column = column.cast(pa.timestamp("us", field.type.tz))
            except pa.ArrowInvalid:
                column = column.cast(pa.string())
            batch = batch.set_column(index, field.name, column)
    return batch


def _values(batch: RecordBatch) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Values or the problem of each row."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        if len(batch) == 1:
            yield None, NOT_UTF8
            return
        for index in range(len(batch)):
            yield from _values(batch.slice(index, 1))
        return
    large = batch.nbytes > LONGEST_RECORD
    for values in rows:
        yield (None, TOO_LONG) if large and _size(values) > LONGEST_RECORD else (values, "")


def _size(values: Mapping[str, Any]) -> int:
    return sum(len(v) for v in values.values() if isinstance(v, str | bytes))
