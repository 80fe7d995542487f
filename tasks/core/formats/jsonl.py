"""JSON Lines: one JSON object per line, UTF-8."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from tasks.core.formats.base import (
    LONGEST_RECORD,
    MOST_COLUMNS,
    OUR_FAULT,
    TOO_LONG,
    Row,
    Span,
    UnfitError,
)
from tasks.core.formats.detection.text_encodings import not_utf8
from tasks.core.formats.spans import concatenated, grouped
from tasks.core.formats.values import json_text

_BOM = b"\xef\xbb\xbf"
_CHUNK = 1024 * 1024


class _CountedStream:
    """A stream that counts the lines of what is read from its bytes alone, independently of the reader."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._ends, self._last = 0, b"\n"

    @property
    def lines(self) -> int:
        """The number of lines read, including a last one without a line end."""
        return self._ends + (self._last != b"\n")

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        chunk = self._stream.read(size)
        if chunk:
            self._ends, self._last = self._ends + chunk.count(b"\n"), chunk[-1:]
        return chunk


class _Lines:
    """The non-blank lines of a stream with their offsets; None for a line that is too long to be held.

    Raises UnfitError at the end if the lines yielded and the blank ones do not add up to all lines.
    """

    def __init__(self, stream: IO[bytes], offset: int) -> None:
        self._stream, self.offset = _CountedStream(stream), offset  # offset of the next line
        self.count = self._blank = 0

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        begun, chunk = b"", b"."
        while chunk:
            chunk = self._stream.read(_CHUNK)
            *lines, begun = (begun + chunk).split(b"\n")
            for line in lines:
                if not self._is_skipped(line):
                    yield self.offset, line if len(line) <= LONGEST_RECORD else None
                self.offset += len(line) + 1
            if len(begun) > LONGEST_RECORD:
                self.count += 1
                yield self.offset, None
                begun = self._after_line(len(begun))
        if begun:  # the last line has no end
            if not self._is_skipped(begun):
                yield self.offset, begun
            self.offset += len(begun)
        if self._stream.lines != self.count + self._blank:
            raise UnfitError(
                f"only {self.count + self._blank:,} of its {self._stream.lines:,} lines were read",
                OUR_FAULT,
            )

    def _is_skipped(self, line: bytes) -> bool:
        """Count the line and return whether it is blank."""
        is_blank = _is_blank(line)
        self._blank, self.count = self._blank + is_blank, self.count + (not is_blank)
        return is_blank

    def _after_line(self, passed: int) -> bytes:
        """Skip the rest of a line of which `passed` bytes are read; return the bytes read beyond its end."""
        while chunk := self._stream.read(_CHUNK):
            if (at := chunk.find(b"\n")) >= 0:
                self.offset += passed + at + 1
                return chunk[at + 1 :]
            passed += len(chunk)
        self.offset += passed
        return b""


def _is_blank(line: bytes) -> bool:
    return not line or line.isspace() or (line[:3] == _BOM and not line[3:].strip())


class JsonLines:
    """JSON Lines. Blank lines are skipped and not counted; a line that is no JSON object is a row with a problem."""

    by_bytes = True

    def decode(
        self, stream: IO[bytes], span: Span | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        number, begin = (span.first_row - 1, span.offset) if span else (0, 0)
        for offset, line in _Lines(stream, begin):
            number += 1
            if line is None:
                yield Row(number, None, TOO_LONG, offset)
                continue
            raw = line[:-1] if line[-1] == 13 else line  # \r\n
            values, problem = self._parsed(raw)
            yield Row(number, values, problem, offset, raw)

    @staticmethod
    def _parsed(line: bytes) -> tuple[dict[str, Any] | None, str]:
        try:
            # "surrogatepass": some systems wrongly write a pair of surrogates as two 3-byte sequences.
            values = json.loads(line.removeprefix(_BOM).decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            return None, not_utf8(line)
        except RecursionError:
            return None, "nested too deeply"
        except ValueError:  # also a number of 5,000 digits
            return None, "not JSON"
        if not isinstance(values, dict):
            return None, "not a JSON object"
        if len(values) > MOST_COLUMNS:
            return None, f"more than {MOST_COLUMNS:,} columns"
        return values, ""

    def encode(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        stream: IO[bytes],
        header: bool = True,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        for row in rows:
            line = json_text({c: row[c] for c in columns})
            # UTF-8 cannot encode a lone surrogate; it becomes a JSON escape.
            stream.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        lines = _Lines(stream, 0)
        starts = ((offset, 1) for offset, _ in lines)
        yield from grouped(starts, lambda: (lines.offset, lines.count), part_bytes, whole)

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        concatenated(parts, stream)


JSON_LINES = JsonLines()
