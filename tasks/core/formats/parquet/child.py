"""Child process that decodes Parquet for its parent under a memory limit. It runs as a script.

A Parquet file of a few hundred bytes can decode to gigabytes (a dictionary value repeated, a page or a list of one
repeated value), and pyarrow has no memory limit. So untrusted files are decoded here: at worst, a file that needs more
ends this process, and the parent goes on (process.py).

Messages are bytes over one connection; the parent accepts only JSON and Arrow's stream format:

    parent: {"do": "open", "size": bytes, "sent": whether all of them follow at once}
    child:  {"rows": number, "columns": names, "leaves": number, "groups": [[rows, bytes], ...], "int96": names}
    parent: {"do": "read", "group": n, "columns": names, "rows": at once, "skip": rows, "longest": bytes of a row}
    child:  {"rows": n, "bytes": as Python objects, "batch": true} and the batch; no batch: a row too long to be held
    parent: an empty message, for the next batch
    child:  the next batch; {} after the last
    child, instead of an answer: {"error": text, "memory": true if it lacks memory}
    child, before an answer: {"at": offset, "size": bytes}
    parent: those bytes of the file
"""

import contextlib
import io
import json
import resource
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.formats.parquet.arrow_values import held_bytes, without_views
from tasks.core.formats.parquet.int96 import FINE, exact_times

MOST_BYTES = 1 << 30  # of memory beyond what this process has at its start
_SLICE_BYTES = 32 << 20  # of the values of a message, as Python objects
_GATHERED_BYTES = 8 << 20
_ROWS_A_MESSAGE = 4_096
_READ_BYTES = 8 << 20  # requested at once, as much as the object store's streams hold
_WHOLE_BYTES = 64 << 20  # of a row group that is read whole; a larger one is read in pieces
_PIECES_BYTES = 128 << 20  # of the pieces of all columns together

pa: Any  # pyarrow has no types


class _ParentsFile(io.RawIOBase):
    """A file whose bytes the parent has."""

    def __init__(self, parent: Connection, size: int) -> None:
        self._parent, self._size, self._at = parent, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        remaining = self._size - self._at
        size = remaining if size < 0 else min(size, remaining)
        pieces: list[bytes] = []
        while size > 0:
            count = min(size, _READ_BYTES)
            _send(self._parent, at=self._at, size=count)
            pieces.append(self._parent.recv_bytes())
            if len(pieces[-1]) != count:
                raise EOFError("the file is shorter than it was")
            self._at, size = self._at + count, size - count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _send(parent: Connection, **message: Any) -> None:
    parent.send_bytes(json.dumps(message).encode())


def _opened(source: Any, unit: str = "us", **options: Any) -> pq.ParquetFile:
    """Open the file with times of 96 bits in `unit` (default: microseconds)."""
    return pq.ParquetFile(source, coerce_int96_timestamp_unit=unit, pre_buffer=False, **options)


_MOST_NAMED = 1 << 16  # columns


def _facts(file: pq.ParquetFile, int96: list[str]) -> dict[str, Any]:
    """Return the facts of the footer. If there are very many columns, their names are omitted: the file is not read."""
    metadata = file.metadata
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return {
        "rows": metadata.num_rows,
        "leaves": metadata.num_columns,
        "columns": file.schema_arrow.names if metadata.num_columns < _MOST_NAMED else [],
        "groups": [[group.num_rows, group.total_byte_size] for group in groups],
        "int96": int96,
    }


class _Groups:
    """Row groups of a file, read in pieces if they are large."""

    def __init__(self, source: Any, file: pq.ParquetFile) -> None:
        self._source, self._file = source, file
        self._leaves: dict[str, list[int]] = {}
        self._others: dict[tuple[str, int], pq.ParquetFile] = {}
        self.int96 = self._with_int96()

    def _with_int96(self) -> list[str]:
        """Return the columns of the table that hold times stored as 96 bits."""
        count = self._file.metadata.num_columns
        leaves = range(count if count < _MOST_NAMED else 0)
        columns = (self._file.schema.column(leaf) for leaf in leaves)
        int96 = {n for n, column in enumerate(columns) if column.physical_type == "INT96"}
        if not int96:
            return []
        names = self._file.schema_arrow.names
        return [name for name in names if int96.intersection(self._leaves_of([name]))]

    def _leaves_of(self, columns: list[str]) -> list[int]:
        """Return the leaf columns of the file that make up columns of the table; both are in the same order."""
        if not self._leaves:
            names = iter(self._file.schema_arrow.names)
            name = next(names)
            for leaf in range(self._file.metadata.num_columns):
                path = self._file.schema.column(leaf).path
                while path != name and not path.startswith(f"{name}."):
                    name = next(names)
                self._leaves.setdefault(name, []).append(leaf)
        return sorted(leaf for name in columns for leaf in self._leaves.get(name, []))

    def batches(self, group: int, columns: list[str], rows: int) -> Iterator[Any]:
        """Yield record batches of some columns, with plain values instead of dictionaries and views."""
        int96 = [name for name in columns if name in self.int96]
        batches = self._batches(group, self._leaves_of(columns), rows)
        if not int96:
            yield from batches
            return
        fine = self._batches(group, self._leaves_of(int96), rows, FINE)
        for batch, more in zip(batches, fine, strict=True):
            yield from exact_times(batch, more)

    def _batches(self, group: int, leaves: list[int], rows: int, unit: str = "us") -> Iterator[Any]:
        metadata = self._file.metadata.row_group(group)
        self._require_rows_of_all_values(metadata, leaves, group)
        size = 0
        if sum(metadata.column(leaf).total_compressed_size for leaf in leaves) > _WHOLE_BYTES:
            size = min(_READ_BYTES, _PIECES_BYTES // len(leaves))
        file = self._file if unit == "us" and not size else self._other(unit, size)
        for batch in file.reader.iter_batches(rows, [group], leaves, use_threads=False):
            arrays = [without_views(_decoded(column)) for column in batch.columns]
            yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    def _require_rows_of_all_values(self, metadata: Any, leaves: list[int], group: int) -> None:
        """Raise if a column without lists has more values than the group has rows: pyarrow would drop the excess."""
        for leaf in leaves:
            column, values = self._file.schema.column(leaf), metadata.column(leaf).num_values
            if not column.max_repetition_level and values > metadata.num_rows:
                raise ValueError(
                    f"row group {group + 1} has {metadata.num_rows:,} rows according to the "
                    f"footer, but column {column.path!r} has {values:,} values"
                )

    def _other(self, unit: str, buffer_size: int) -> pq.ParquetFile:
        """Return the file, opened with another unit or buffer size."""
        if (unit, buffer_size) not in self._others:
            options = {"buffer_size": buffer_size, "metadata": self._file.metadata}
            self._others[unit, buffer_size] = _opened(self._source, unit, **options)
        return self._others[unit, buffer_size]


def _decoded(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _gathered(batches: Iterator[Any]) -> Iterator[Any]:
    """Combine small batches into larger ones, up to `_GATHERED_BYTES` or `_ROWS_A_MESSAGE`."""
    held: list[Any] = []
    size = rows = 0
    for batch in batches:
        if held and batch.schema != held[0].schema:  # times in another unit
            yield pa.concat_batches(held)
            held, size, rows = [], 0, 0
        held.append(batch)
        size, rows = size + batch.nbytes, rows + len(batch)
        if size >= _GATHERED_BYTES or rows >= _ROWS_A_MESSAGE:
            yield pa.concat_batches(held) if len(held) > 1 else held[0]
            held, size, rows = [], 0, 0
    if held:
        yield pa.concat_batches(held)


def _messages(batches: Iterator[Any], longest: int) -> Iterator[tuple[int, int, Any]]:
    """Yield rows, bytes and the batch of each message; no batch for a single row that is too long to be held.

    The bytes are those of `held_bytes`: columns of nulls have no bytes in Arrow, but still become rows.
    """
    for batch in batches:
        sizes = sum(
            (held_bytes(column) for column in batch.columns), np.zeros(len(batch), np.int64)
        )
        begin = held = 0
        for row, size in enumerate(sizes.tolist()) if int(sizes.sum()) > longest else ():
            if row > begin and (held + size > _SLICE_BYTES or size > longest):
                yield row - begin, held, batch.slice(begin, row - begin)
                begin, held = row, 0
            held += size
            if size > longest:
                yield 1, size, None
                begin, held = row + 1, 0
        if begin < len(batch):
            yield len(batch) - begin, int(sizes[begin:].sum()), batch.slice(begin)


class _Server:
    """A server that answers one command after the other until the parent is gone."""

    def __init__(self, parent: Connection) -> None:
        self._parent = parent
        self._groups: _Groups | None = None

    def serve(self) -> None:
        command = self._parent.recv_bytes()
        while True:
            try:
                command = self._answer(json.loads(command))
            except Exception as error:  # any error is reported as an error of the file
                error.__traceback__ = None  # it refers to the objects that took the memory
                self._send_error(error)
                command = self._parent.recv_bytes()

    def _answer(self, command: dict[str, Any]) -> bytes:
        """Answer a command and return the next one."""
        if command["do"] == "open":
            self._groups = None  # release the last file before opening another
            if command["sent"]:
                source = pa.BufferReader(self._parent.recv_bytes())
            else:
                source = pa.PythonFile(_ParentsFile(self._parent, command["size"]), "r")
            file = _opened(source)
            self._groups = _Groups(source, file)
            _send(self._parent, **_facts(file, self._groups.int96))
            return self._parent.recv_bytes()
        if self._groups is None:
            raise ValueError("no file is open")
        read = self._groups.batches(command["group"], command["columns"], command["rows"])
        return self._sent(_messages(_gathered(read), command["longest"]), command["skip"])

    def _sent(self, messages: Iterator[tuple[int, int, Any]], skip: int) -> bytes:
        """Send the batches of one row group, each on request; return the next command."""
        for count, size, batch in messages:
            if skip >= count:
                skip -= count
                continue
            # Packed before the announcement, as this may exceed the memory limit, too.
            content = _packed(batch.slice(skip)) if batch is not None else None
            _send(self._parent, rows=count - skip, bytes=size, batch=content is not None)
            skip = 0
            if content is not None:
                self._parent.send_bytes(content)
                content = None
            if command := self._parent.recv_bytes():
                return command
        _send(self._parent)
        return self._parent.recv_bytes()

    def _send_error(self, error: Exception) -> None:
        memory = isinstance(error, MemoryError)
        _send(self._parent, error=str(error) or type(error).__name__, memory=memory)


def _packed(batch: Any) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def _limit_memory() -> None:
    pa.set_cpu_count(1)
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_BYTES, now + MOST_BYTES))


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # without /proc it is not Linux: no limit
        _limit_memory()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        _Server(Connection(int(sys.argv[1]))).serve()
