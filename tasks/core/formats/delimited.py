"""CSV and TSV with a header row, UTF-8, quoted as RFC 4180 has it (line breaks inside quotes included).

The standard library's reader, because it tells an empty text, "NA" and "null" apart from a missing value; the fast
readers of the data-frame libraries turn all three into missing.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from tasks.core.formats.base import Row

_LONGEST_FIELD = (
    64 * 1024 * 1024
)  # characters; the default of 128 KiB is less than a long review's page


class Csv:
    """A row with too few or too many fields, or that is not UTF-8, is a row with a problem."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def decode(self, stream: IO[bytes]) -> Iterator[Row]:
        csv.field_size_limit(_LONGEST_FIELD)
        text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, delimiter=self._delimiter, strict=True)
        try:
            header = next(reader, None)
            if not header:
                raise ValueError("the file is empty; a header row is expected")
            yield from self._rows(reader, header)
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error
        finally:
            text.detach()  # or it closes the stream, which is not its own

    @staticmethod
    def _rows(reader: Any, header: list[str]) -> Iterator[Row]:
        number = 0
        while True:
            begins = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise ValueError(f"the quote of line {begins} is never closed") from error
                number += 1
                yield Row(number, None, f"line {reader.line_num}: {error}")
                continue
            if not fields:
                continue
            number += 1
            if len(fields) != len(header):
                yield Row(number, None, f"{len(fields)} fields where the header has {len(header)}")
            elif any(
                "\udc80" <= c <= "\udcff" for field in fields if not field.isascii() for c in field
            ):
                yield Row(number, None, "not UTF-8")
            else:
                yield Row(number, dict(zip(header, fields, strict=True)))

    def encode(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], stream: IO[bytes]
    ) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=self._delimiter, lineterminator="\r\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([row[c] for c in columns])
            stream.write(buffer.getvalue().encode("utf-8", "backslashreplace"))
            buffer.seek(0)
            buffer.truncate()
        stream.write(buffer.getvalue().encode())  # the header, when there was no row
