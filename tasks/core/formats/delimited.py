"""CSV and TSV with a header row, UTF-8, quoted as RFC 4180 has it (line breaks inside quotes included).

The standard library's reader, because it tells an empty text, "NA" and "null" apart from a missing value; the fast
readers of the data-frame libraries turn all three into missing.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from tasks.core.formats.base import (
    LONGEST_RECORD,
    NOT_UTF8,
    TOO_LONG,
    Row,
    Span,
    UnfitError,
    require_few_columns,
)
from tasks.core.formats.physical_lines import CLOSE, Lines
from tasks.core.formats.spans import concatenated, grouped
from tasks.core.formats.values import cell


class Csv:
    """A row with too few or too many fields, or that is not UTF-8, is a row with a problem."""

    by_bytes = True

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def decode(
        self, stream: IO[bytes], span: Span | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Row]:
        return iter(_Reader(stream, self._delimiter, span))

    def encode(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        stream: IO[bytes],
        header: bool = True,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=self._delimiter, lineterminator="\r\n")
        if header:
            writer.writerow(columns)
        for row in rows:
            writer.writerow([cell(row[c]) for c in columns])
            stream.write(buffer.getvalue().encode("utf-8", "backslashreplace"))
            buffer.seek(0)
            buffer.truncate()
        stream.write(buffer.getvalue().encode())  # the header, when there was no row

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        reader = _Reader(stream, self._delimiter, None)
        begin = reader.begin(whole)
        starts = ((row.offset, reader.row_line) for row in reader)
        yield from grouped(starts, lambda: (reader.offset, reader.number), part_bytes, begin)

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        concatenated(parts, stream)


class _Reader:
    """The records of a stream, and where the reading stands."""

    def __init__(self, stream: IO[bytes], delimiter: str, span: Span | None) -> None:
        csv.field_size_limit(4 * LONGEST_RECORD)  # `Lines` keeps the limit
        self._lines = Lines(stream, delimiter, at_start=span is None)
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self.number = span.first_row - 1 if span else 0  # of the last row
        self.offset = span.offset if span else self._lines.passed  # of the next record
        self.row_line = 1  # on which the last row begins
        self._lines_before = span.line - 1 if span else 0
        self._header = span.columns if span else None

    def begin(self, whole: Span) -> Span:
        """Reads the header: `whole` from the first record on."""
        self._header = self._read_header()
        return Span(
            whole.format,
            whole.compression,
            offset=self.offset,
            columns=self._header,
            line=self._reader.line_num + 1,
            alone=whole.alone,
        )

    def __iter__(self) -> Iterator[Row]:
        header = self._header or self._read_header()
        while (record := self._next()) is not None:
            fields, problem, size, raw = record
            offset, self.offset = self.offset, self.offset + size
            if not fields and not problem:  # a blank line
                continue
            self.number += 1
            if not problem and len(fields) != len(header):
                problem = f"{len(fields)} fields where the header has {len(header)}"
            values = None if problem else dict(zip(header, fields, strict=True))
            yield Row(self.number, values, problem, offset, raw)

    def _next(self) -> tuple[list[str], str, int, bytes] | None:
        """Fields, problem, size and bytes of the next record; None after the last."""
        self.row_line = self._lines_before + self._reader.line_num + 1
        fields, problem = [], ""
        try:
            fields = next(self._reader)
        except StopIteration:
            return None
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise UnfitError(
                    f"the quote of line {self.row_line} is never closed", CLOSE
                ) from error
            problem = f"odd quotes: {error}"
        size, raw, is_text = self._lines.taken()
        if size > LONGEST_RECORD:
            return [], TOO_LONG, size, b""
        return fields, problem if is_text else NOT_UTF8, size, raw

    def _read_header(self) -> tuple[str, ...]:
        while (record := self._next()) is not None:
            fields, problem, size, _ = record
            self.offset += size
            if problem:
                raise UnfitError(
                    f"the header in line {self.row_line} is not readable: {problem}",
                    "correct the header, and save the file as UTF-8",
                )
            if fields:
                return _names(fields)
        raise UnfitError(
            "the file is empty; a header row is expected",
            "begin it with a line of column names, also where no rows follow",
        )


def _names(fields: list[str]) -> tuple[str, ...]:
    """Column names; one without a name, as data frames write their index, is called after its position."""
    require_few_columns(len(fields))
    positions: dict[str, int] = {}
    for position, field in enumerate(fields, start=1):
        name = field or f"column_{position}"
        if name in positions:
            raise UnfitError(
                f"columns {positions[name]} and {position} of the header have the same name",
                "rename one of them; or is there no header?",
            )
        positions[name] = position
    return tuple(positions)
