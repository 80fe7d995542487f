"""CSV and TSV with a header row, in UTF-8, quoted as in RFC 4180 (line breaks inside quotes included).

They are read with the standard library, because it distinguishes an empty text, "NA" and "null" from a missing value;
the fast readers of the data-frame libraries turn all three into missing values.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from tasks.core.formats.base import (
    LONGEST_RECORD,
    OUR_FAULT,
    TOO_LONG,
    Row,
    Span,
    UnfitError,
    require_few_columns,
)
from tasks.core.formats.delimited.physical_lines import CLOSE, CountedStream, Lines
from tasks.core.formats.delimited.quoting import Quoting
from tasks.core.formats.detection.text_encodings import advice_for, not_utf8
from tasks.core.formats.spans import concatenated, grouped
from tasks.core.formats.values import cell

_NEVER_CLOSED = "a quote is never closed"


class Csv:
    """CSV or TSV. A row with too few or too many fields, or one that is not UTF-8, is a row with a problem."""

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
        record = _Writer(self._delimiter)
        if header:
            stream.write(record(columns, all_quoted=len(columns) == 1))
        for row in rows:
            stream.write(record([cell(row[c]) for c in columns]))

    def cut(self, stream: IO[bytes], part_bytes: int, whole: Span) -> Iterator[Span]:
        reader = _Reader(stream, self._delimiter, None)
        begin = reader.begin(whole)
        starts = ((row.offset, reader.row_line) for row in reader)
        yield from grouped(starts, lambda: (reader.offset, reader.number), part_bytes, begin)

    def join(self, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
        concatenated(parts, stream)


class _Writer:
    """A writer of records. All fields of a multi-line record are quoted, so that no reader takes its lines for rows."""

    def __init__(self, delimiter: str) -> None:
        self._buffer = io.StringIO()
        self._minimal = csv.writer(self._buffer, delimiter=delimiter, lineterminator="\r\n")
        self._quoting = csv.writer(
            self._buffer, delimiter=delimiter, lineterminator="\r\n", quoting=csv.QUOTE_ALL
        )

    def __call__(self, values: Sequence[Any], all_quoted: bool = False) -> bytes:
        record = self._written(self._quoting if all_quoted else self._minimal, values)
        if not all_quoted and (b"\n" in record[:-2] or b"\r" in record[:-2]):
            return self._written(self._quoting, values)
        return record

    def _written(self, writer: Any, values: Sequence[Any]) -> bytes:
        writer.writerow(values)
        record = self._buffer.getvalue().encode("utf-8", "backslashreplace")
        self._buffer.seek(0)
        self._buffer.truncate()
        return record


class _Reader:
    """A reader of the records of a stream, with its position."""

    def __init__(self, stream: IO[bytes], delimiter: str, span: Span | None) -> None:
        csv.field_size_limit(4 * LONGEST_RECORD)  # `Lines` enforces LONGEST_RECORD
        self._counted = CountedStream(stream)
        self._lines = Lines(self._counted, delimiter, at_start=span is None)
        self._delimiter = delimiter
        self._reader = self._new_reader()
        self.number = span.first_row - 1 if span else 0  # number of the last row
        self.offset = span.offset if span else self._lines.passed  # offset of the next record
        self.row_line = 1  # line on which the last row begins
        self._line = span.line if span else 1  # line on which the next record begins
        self._header = span.columns if span else None
        # The quotes of CSV were judged when the file was cut; those of TSV are judged record by record.
        was_judged = span is not None and (span.quoted or delimiter != "\t")
        self._quoting = Quoting(delimiter.encode(), was_judged)
        self._is_whole = span is None
        self._is_part_of_rows = span is not None and not was_judged
        self._other_lines = 0  # lines on which no row begins
        self._set_columns(len(self._header or ()))

    def _new_reader(self) -> Any:
        return csv.reader(self._lines, delimiter=self._delimiter, strict=True)

    def _set_columns(self, columns: int, header: bytes = b"") -> None:
        self._quoting.learn(header, columns)
        self._lines.separators = self._quoting.separators

    def begin(self, whole: Span) -> Span:
        """Read the header and return `whole` from the first record on."""
        self._header = self._read_header()
        return Span(
            whole.format,
            whole.compression,
            offset=self.offset,
            columns=self._header,
            line=self._line,
            delimiter=whole.delimiter,
            encoding=whole.encoding,
            alone=whole.alone,
            quoted=self._quoting.is_meant,
        )

    def __iter__(self) -> Iterator[Row]:
        header = self._header or self._read_header()
        while (record := self._next()) is not None:
            fields, problem, size, raw = record
            offset, self.offset = self.offset, self.offset + size
            if (problem or len(self._lines.last) > 1) and self._is_unquoted(problem):
                fields, problem, raw = self._first_line_alone(offset)
            if not fields and not problem:  # a blank line
                self._other_lines += 1
                continue
            if not problem and len(fields) == len(header) and len(self._lines.last) == 1:
                self._quoting.see(raw)
            self.number += 1
            if not problem and len(fields) != len(header):
                problem = f"{len(fields)} fields where the header has {len(header)}"
            if problem:
                yield Row(self.number, None, problem, offset, raw, line=self.row_line)
            else:
                yield Row(self.number, dict(zip(header, fields, strict=True)), "", offset, raw)
        if self._is_whole:
            self._require_all_lines()

    def _is_unquoted(self, problem: str) -> bool:
        """True if the lines of the last record have to be read as rows without quoting.

        Raises:
            UnfitError: it is ambiguous, or a quote is never closed.
        """
        lines, long = self._lines.last, self._lines.last_long
        if problem == _NEVER_CLOSED:
            # A span of TSV may end before the quote closes, but only if its lines were rows when the file was cut.
            if not long and (self._is_part_of_rows or self._quoting.has_rows(lines)):
                return True
            raise UnfitError(f"the quote of line {self.row_line} is never closed", CLOSE)
        if long:
            if long.could_be_rows and not self._quoting.is_meant:
                self._quoting.refuse(self.row_line, long.lines)
        elif self._quoting.is_unquoted(lines, not problem, self.row_line):
            return True
        more = (long.lines if long else len(lines)) - 1
        self._line, self._other_lines = self._line + more, self._other_lines + more
        return False

    def _first_line_alone(self, offset: int) -> tuple[list[str], str, bytes]:
        """Return fields, problem and bytes of the last record's first line, without quoting; push back the others."""
        first, *others = self._lines.last
        self._lines.push_back(others)
        self._reader = self._new_reader()
        self.offset = offset + len(first)
        raw = first.rstrip(b"\r\n")
        try:
            return raw.decode().split(self._delimiter), "", raw
        except UnicodeDecodeError:
            return [], not_utf8(raw), raw

    def _require_all_lines(self) -> None:
        """Raise UnfitError if the lines of the rows are not all lines of the file, so that no row is lost silently."""
        lines = self._counted.lines
        if lines != self.number + self._other_lines:
            raise UnfitError(
                f"only {self.number + self._other_lines:,} of its {lines:,} lines were read",
                f"{OUR_FAULT}; until it is fixed, use JSON Lines or Parquet",
            )

    def _next(self) -> tuple[list[str], str, int, bytes] | None:
        """Return fields, problem, size and bytes of the next record; None after the last."""
        self.row_line = self._line
        fields, problem = [], ""
        try:
            fields = next(self._reader)
        except StopIteration:
            return None
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            problem = _NEVER_CLOSED if is_open else f"malformed quotes: {error}"
        size, raw, is_text = self._lines.taken()
        self._line += 1  # `_is_unquoted` decides whether the further lines belong to the record
        if problem == _NEVER_CLOSED:
            return [], problem, size, raw
        if size > LONGEST_RECORD:
            return [], TOO_LONG, size, b""
        return fields, problem if is_text else not_utf8(raw), size, raw

    def _read_header(self) -> tuple[str, ...]:
        while (record := self._next()) is not None:
            fields, problem, size, raw = record
            self.offset += size
            self._line += len(self._lines.last) - 1
            self._other_lines = self._line - 1
            if problem == _NEVER_CLOSED:
                raise UnfitError(f"the quote of line {self.row_line} is never closed", CLOSE)
            if problem:
                raise UnfitError(
                    f"the header in line {self.row_line} is not readable: {problem}",
                    advice_for(problem, "correct the header, and save the file as UTF-8"),
                )
            if fields:
                names = _names(fields)
                self._set_columns(len(names), raw)
                return names
        raise UnfitError(
            "the file is empty; a header row is expected",
            "begin it with a line of column names, even if no rows follow",
        )


def _names(fields: list[str]) -> tuple[str, ...]:
    """Return the column names; a column without one, such as the index of a data frame, is named by its position."""
    require_few_columns(len(fields))
    positions: dict[str, int] = {}
    for position, field in enumerate(fields, start=1):
        name = field or f"column_{position}"
        if name in positions:
            raise UnfitError(
                f"columns {positions[name]} and {position} of the header have the same name",
                "rename one of them, or add a header if there is none",
            )
        positions[name] = position
    return tuple(positions)


CSV, TSV = Csv(","), Csv("\t")
