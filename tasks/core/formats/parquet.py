"""Parquet, read and written a batch of rows at a time."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.formats.base import LeftOpen, Row
from tasks.core.texts import encodable

_ROWS_A_BATCH = 1_024
_ROWS_A_GROUP = 16_384


def _storable(value: Any) -> Any:
    return encodable(value) if isinstance(value, str) else value


class Parquet:
    """Any column types; texts must be strings."""

    def decode(self, stream: IO[bytes]) -> Iterator[Row]:
        if (
            not stream.seekable()
        ):  # compressed from outside: the footer comes last, so unpack it first
            with tempfile.TemporaryFile() as unpacked:
                while chunk := stream.read(1 << 20):
                    unpacked.write(chunk)
                unpacked.seek(0)
                yield from self.decode(unpacked)
            return
        number = 0
        for batch in pq.ParquetFile(stream).iter_batches(_ROWS_A_BATCH):
            for values in batch.to_pylist():
                number += 1
                yield Row(number, values)

    def encode(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], stream: IO[bytes]
    ) -> None:
        remaining = iter(rows)
        first = self._table(itertools.islice(remaining, _ROWS_A_GROUP), columns, None)
        with pq.ParquetWriter(
            pa.PythonFile(LeftOpen(stream), "w"), first.schema, compression="zstd"
        ) as writer:
            writer.write_table(first)
            while chunk := list(itertools.islice(remaining, _ROWS_A_GROUP)):
                writer.write_table(self._table(chunk, columns, first.schema))

    @staticmethod
    def _table(
        rows: Iterable[Mapping[str, Any]], columns: Sequence[str], schema: Any
    ) -> Any:  # a pa.Table: pyarrow is untyped
        listed = [{c: _storable(row[c]) for c in columns} for row in rows]
        if not listed and schema is None:
            return pa.table({c: pa.array([], pa.string()) for c in columns})
        return pa.Table.from_pylist(listed, schema=schema)
