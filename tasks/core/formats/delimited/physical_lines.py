"""Lines of a delimited file as the csv reader consumes them, with their bytes and number, in constant memory."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from tasks.core.formats.base import LONGEST_RECORD, UnfitError
from tasks.core.formats.delimited.quoting import LongRecord

_BOM = b"\xef\xbb\xbf"
_CHUNK = 1024 * 1024
CLOSE = "find the line and close the quote; a quote inside a quoted text is written twice"
_END = re.compile(rb"\r\n|\r|\n")


class CountedStream:
    """A stream that counts the lines of what is read from its bytes alone, independently of the reader."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._ends, self._last = 0, b"\n"
        self._masks = np.empty((2, 0), bool)

    @property
    def lines(self) -> int:
        """The number of lines read, including a last one without a line end."""
        return self._ends + (self._last not in b"\r\n")

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        chunk = self._stream.read(size)
        if chunk:
            self._count(chunk)
        return chunk

    def _count(self, chunk: bytes) -> None:
        codes, size = np.frombuffer(chunk, np.uint8), len(chunk)
        if size > self._masks.shape[1]:
            # Kept, as allocating new memory would take longer than counting.
            self._masks = np.empty((2, size), bool)
        feeds, returns = self._masks[:, :size]
        np.equal(codes, 10, out=feeds)
        ends = int(np.count_nonzero(feeds))
        if b"\r" in chunk:
            np.equal(codes, 13, out=returns)
            ends += int(np.count_nonzero(returns))
            pairs = np.logical_and(returns[:-1], feeds[1:], out=feeds[1:])
            ends -= int(np.count_nonzero(pairs))
        if self._last == b"\r" and chunk[:1] == b"\n":  # one line end across two chunks
            ends -= 1
        self._ends, self._last = self._ends + ends, chunk[-1:]


class Lines:
    """Decoded lines that end in \\n, \\r\\n or \\r; `taken` returns the bytes of the csv reader's last record.

    Of a record that grows too long, the reader gets only an outline: every run of quotes, and of anything else, is
    shortened in such a way that the reader finds the end of the record at the same place.
    """

    def __init__(self, stream: CountedStream, delimiter: str, at_start: bool) -> None:
        self._stream = stream
        self._chunk = stream.read(_CHUNK)
        self.passed = len(_BOM) if at_start and self._chunk.startswith(_BOM) else 0
        self._chunk = self._chunk[self.passed :]
        self._record: list[bytes] = []
        self.last: list[bytes] = []  # lines of the record taken last; not those of a too long one
        self.separators = 0  # in a row
        self.last_long: LongRecord | None = None  # the record taken last, if it was too long
        self._long: LongRecord | None = None
        self._size, self._is_text = 0, True
        self._pushed = deque[bytes]()  # lines pushed back, to be read again
        self._source = self._pieces()
        self._outlined = 0  # length of the outline of this record so far
        self._run = re.compile(b'"+|[^"\r\n]+')
        self._delimiter = delimiter.encode()

    def taken(self) -> tuple[int, bytes, bool]:
        """End the record: return its size, its bytes without line end (none if too long), and whether it is UTF-8."""
        self.last, is_text = self._record, self._is_text
        self.last_long, self._long = self._long, None
        raw = self.last[0] if len(self.last) == 1 else b"".join(self.last)
        self._record, self._is_text, self._outlined = [], True, 0
        return self._size, raw.rstrip(b"\r\n"), is_text

    def __iter__(self) -> Iterator[str]:
        for line in self._fed():
            if self._record:  # inside quotes: the record goes on
                self._size += len(line)
            else:
                self._size = len(line)
            if self._size > LONGEST_RECORD:
                self._count_long(line)
                self._record = [b""]
                yield self._whole_outline(line)
                continue
            self._record.append(line)
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = line.decode("utf-8", "surrogateescape")
                self._is_text = False
            yield text

    def push_back(self, lines: Iterable[bytes]) -> None:
        """Push lines back: an iterator that begins afterwards yields them first."""
        self._pushed.extendleft(reversed(list(lines)))

    def _fed(self) -> Iterator[bytes]:
        while self._pushed:
            yield self._pushed.popleft()
        # Not `yield from`: closing this generator would close the source as well.
        for line in self._source:  # noqa: UP028
            yield line

    def _count_long(self, line: bytes) -> None:
        lines = [line] if self._long else [*self._record, line]
        self._long = self._long or LongRecord()
        for one in lines:
            is_whole = one.endswith((b"\n", b"\r"))
            prose = 0 if self._delimiter == b"\t" else one.count(self._delimiter + b" ")
            is_row = is_whole and one.count(self._delimiter) - prose == self.separators
            self._long.add(is_row, is_blank=not one.strip())

    def _pieces(self) -> Iterator[bytes]:
        """Yield lines with their ends; of a too long line, only the beginning, while the rest is still unread."""
        begun, chunk = b"", self._chunk
        self._chunk = b""
        while chunk:
            lines = (begun + chunk).splitlines(keepends=True)
            begun = b"" if lines[-1].endswith(b"\n") else lines.pop()  # \r may be half a line end
            yield from lines
            if len(begun) > LONGEST_RECORD and not begun.endswith(b"\r"):
                yield begun
                begun, self._chunk = self._chunk, b""
            chunk = self._stream.read(_CHUNK)
            if not chunk and begun:
                yield from begun.splitlines(keepends=True)

    def _whole_outline(self, line: bytes) -> str:
        """Return the outline of a line, after reading the line to its end."""
        outline = self._outline(line)
        while not line.endswith((b"\n", b"\r")) and (chunk := self._stream.read(_CHUNK)):
            if chunk.endswith(b"\r"):  # may be half a line end
                chunk += self._stream.read(1)
            end = _END.search(chunk)
            line = chunk[: end.end()] if end else chunk
            self._chunk = chunk[end.end() :] if end else b""
            self._size += len(line)
            outline = self._outline(outline + line)
        self._outlined += len(outline)
        if self._outlined > LONGEST_RECORD:
            raise UnfitError(
                f"a record of more than {self._size} bytes; a quote is never closed", CLOSE
            )
        return outline.decode("latin-1")

    def _outline(self, line: bytes) -> bytes:
        return self._run.sub(self._shortened, line)

    def _shortened(self, run: re.Match[bytes]) -> bytes:
        characters = run[0]
        if characters[:1] == b'"':  # inside quotes only their parity matters
            return b'"' if len(characters) % 2 else b'""'
        ends = (characters[:1], characters[-1:])
        return b"".join(self._delimiter if end == self._delimiter else b"x" for end in ends)
