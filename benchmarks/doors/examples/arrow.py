"""Arrow's file format, whole in memory."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

import pyarrow as pa

from tasks.core.formats.base import Row, Span


class Arrow:
    """Arrow IPC files."""

    by_bytes = False

    def decode(
        self, stream: IO[bytes], span: Span | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        table = pa.ipc.open_file(io.BytesIO(stream.read())).read_all()
        for number, values in enumerate(table.to_pylist(), 1):
            yield Row(number, values, "", number - 1, b"", len(table), tuple(table.column_names))

    def encode(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        stream: IO[bytes],
        header: bool = True,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        listed = list(rows)
        table = pa.table({c: pa.array([r[c] for r in listed], pa.string()) for c in columns})
        with pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        yield replace(whole, rows=sum(1 for _ in self.decode(stream)))

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        tables = [pa.ipc.open_file(io.BytesIO(part.read())).read_all() for part in parts]
        with pa.ipc.new_file(stream, tables[0].schema) as writer:
            writer.write_table(pa.concat_tables(tables))


ARROW = Arrow()
