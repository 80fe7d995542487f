"""Parent side of decoding Parquet in a separate process with limited memory (child.py).

Core starts a process here because nothing else limits the memory that pyarrow takes. For callers, decoding is still a
function of a file's bytes: the process gets only these bytes, and nothing of our environment.
"""

import atexit
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import IO, Any, TypeAlias

import pyarrow as pa

from tasks.core.formats.base import LONGEST_RECORD, UnfitError

RecordBatch: TypeAlias = Any  # pyarrow's class; pyarrow has no types
Part: TypeAlias = tuple[int, int, RecordBatch | None]

_PATIENCE_SECONDS = 300.0  # timeout for a message of the process
_SMALL_BYTES = 1 << 20  # largest file that is sent at once
_CHILD = Path(__file__).with_name("child.py")
_CODE = Path(__file__).parents[4]  # the code it imports, whatever else is installed
# pyarrow's error for a file that it has written but cannot read.
_NULL_OF_A_FIXED_SIZE = "Expected all lists to be of size"
_ORDINARY_LISTS = "write it again with ordinary lists in that column; pyarrow cannot read these"
_SMALLER = "write it again with smaller row groups and pages, and look at its longest rows"


class TooMuchError(Exception):
    """A request that takes more memory than the process may have, or has ended it; a smaller one may succeed.

    Its text is the end of a sentence whose subject is the request.
    """


@dataclass(slots=True, frozen=True)
class Facts:
    """Facts from a file's footer."""

    rows: int
    leaves: int  # number of columns, counting each field inside structs and lists
    columns: list[str]  # names, in order
    groups: list[tuple[int, int]]  # rows and encoded bytes of each row group
    int96: list[str]  # columns with times stored as 96 bits, which no Arrow type holds


class _Reader:
    """A decoding process and the connection to it. It ends when this process ends, in whatever way."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        self.waits = True  # for a command; False while it answers one
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_CHILD), str(theirs.fileno())],
                env=environment_of_child(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # error output of a library may contain review text
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C on the terminal does not reach the child
            )

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def ask(self, stream: IO[bytes], *messages: bytes) -> tuple[dict[str, Any], RecordBatch | None]:
        """Send messages and return the answer and its batch; meanwhile, give the process the bytes it requests.

        Raises:
            TooMuchError: it takes too much memory, or ends the process.
            ValueError: the file is damaged.
            UnfitError: no answer comes, or a list of a fixed size is null.
        """
        self.waits = False
        for message in messages:
            self._send(message)
        answer = json.loads(self._receive())
        while "at" in answer:
            stream.seek(answer["at"])
            self._send(_exactly(stream, answer["size"]))
            answer = json.loads(self._receive())
        batch = _unpacked(self._receive()) if answer.get("batch") else None
        if answer.get("memory"):  # the process is not reused: it may still hold much memory
            raise TooMuchError("takes more than 1 GiB of memory")
        self.waits = True
        if _NULL_OF_A_FIXED_SIZE in answer.get("error", ""):
            raise UnfitError("a fixed-size list is null in a row", _ORDINARY_LISTS)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer, batch

    def _send(self, content: bytes) -> None:
        try:
            self._connection.send_bytes(content)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._ended() from error

    def _receive(self) -> bytes:
        try:
            if self._connection.poll(_PATIENCE_SECONDS):
                return self._connection.recv_bytes()
        except (EOFError, ConnectionResetError) as error:
            raise self._ended() from error
        raise UnfitError("decoding it took more than five minutes", _SMALLER)

    def _ended(self) -> TooMuchError:
        return TooMuchError(
            f"crashes the process that decodes it (exit code {self._process.wait()})"
        )


def environment_of_child() -> dict[str, str]:
    """Return the whole environment of the decoding process: files may come from anybody, so it gets no credentials."""
    importable = os.pathsep.join([str(_CODE), *(path for path in sys.path if path)])
    # pyarrow's other memory pools reserve a gigabyte that they do not use.
    return {"PYTHONPATH": importable, "ARROW_DEFAULT_MEMORY_POOL": "system"}


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Read exactly `size` bytes, or fewer at the stream's end."""
    pieces: list[bytes] = []
    while size > 0 and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _unpacked(content: bytes) -> RecordBatch:
    ipc: Any = pa.ipc
    with ipc.open_stream(content) as reader:
        return reader.read_next_batch()


class _Idle:
    """A pool of processes that wait for the next file. It is empty after a fork."""

    def __init__(self) -> None:
        self._lock, self._readers, self._owner = threading.Lock(), list[_Reader](), 0

    def take(self) -> _Reader:
        with self._lock:
            if self._owner != os.getpid():
                self._readers, self._owner = [], os.getpid()
                atexit.register(self.end_all)
            idle = self._readers.pop() if self._readers else None
        return idle or _Reader()

    def give(self, reader: _Reader) -> None:
        if reader.waits:
            with self._lock:
                self._readers.append(reader)
        else:
            reader.end()

    def end_all(self) -> None:
        if self._owner != os.getpid():  # after a fork, they and perhaps the lock are the parent's
            return
        with self._lock:
            readers, self._readers = self._readers, []
        for reader in readers:
            reader.end()


_idle = _Idle()
end_idle = _idle.end_all


class ParquetFile:
    """A Parquet file whose footer has been read; use `opened` to get one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._bytes = stream.seek(0, io.SEEK_END)
        self._reader = _idle.take()
        try:
            self.facts = self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> Facts:
        """Read the footer; if that fails, retry once in a new process.

        The kernel may have ended an idle process to free memory. The file is at fault only if it ends a new one, too.
        """
        try:
            return self._request_facts()
        except TooMuchError:
            self._replace_reader()
        try:
            return self._request_facts()
        except TooMuchError as error:
            raise UnfitError(f"its footer {error}", _SMALLER) from error

    def _request_facts(self) -> Facts:
        sent = self._bytes <= _SMALL_BYTES
        command = json.dumps({"do": "open", "size": self._bytes, "sent": sent}).encode()
        self._stream.seek(0)
        content = [_exactly(self._stream, self._bytes)] if sent else []
        facts = self._reader.ask(self._stream, command, *content)[0]
        groups = [(rows, size) for rows, size in facts["groups"]]
        return Facts(facts["rows"], facts["leaves"], facts["columns"], groups, facts["int96"])

    def parts(self, group: int, columns: list[str], rows: int) -> Iterator[Part]:
        """Yield consecutive parts of a row group: rows, bytes and the values; no values for a row too long to be held.

        The bytes are an estimate of the memory that the values take as Python objects.

        Args:
            group: index, from 0.
            columns: names of whole columns.
            rows: rows to decode at once. If that takes too much memory, decoding continues row by row.
        Raises:
            UnfitError: one row takes more memory than a file may, or ends the process.
            ValueError: the file is damaged.
        """
        done = 0
        try:
            for part in self._parts(group, columns, rows, 0):
                done += part[0]
                yield part
        except TooMuchError:
            self._replace_reader()
            self._open()
            try:
                yield from self._parts(group, columns, 1, done)
            except TooMuchError as error:
                raise UnfitError(f"row group {group + 1}: a row {error}", _SMALLER) from error

    def _parts(self, group: int, columns: list[str], rows: int, skip: int) -> Iterator[Part]:
        command = {"do": "read", "group": group, "columns": columns, "rows": rows, "skip": skip}
        answer, batch = self._ask(command | {"longest": LONGEST_RECORD})
        while answer:
            yield answer["rows"], answer["bytes"], batch
            answer, batch = self._ask(None)

    def _ask(self, command: dict[str, Any] | None) -> tuple[dict[str, Any], RecordBatch | None]:
        return self._reader.ask(self._stream, json.dumps(command).encode() if command else b"")

    def _replace_reader(self) -> None:
        """Replace the process by a new one, as the kernel may have ended idle ones as well."""
        self._reader.end()
        self._reader = _Reader()

    def close(self) -> None:
        """Return the process to the pool, unless it is in the middle of an answer."""
        _idle.give(self._reader)


@contextlib.contextmanager
def opened(stream: IO[bytes]) -> Generator[ParquetFile]:
    """Open the Parquet file of a seekable stream. Errors of reading the stream pass through.

    Raises:
        UnfitError: the footer takes more memory than a file may.
        ValueError: it is not a Parquet file, or damaged.
    """
    file = ParquetFile(stream)
    try:
        yield file
    finally:
        file.close()
