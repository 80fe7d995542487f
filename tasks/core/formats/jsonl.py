"""JSON Lines: one JSON object a line, UTF-8."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from tasks.core.formats.base import Row

_BOM = b"\xef\xbb\xbf"


class JsonLines:
    """Blank lines are skipped and not counted; a line that is not a JSON object is a row with a problem."""

    def decode(self, stream: IO[bytes]) -> Iterator[Row]:
        number = 0
        for line in stream:
            line = line.removeprefix(_BOM) if number == 0 else line
            if line.strip():
                number += 1
                yield self._row(number, line)

    @staticmethod
    def _row(number: int, line: bytes) -> Row:
        try:
            values = json.loads(line)
        except UnicodeDecodeError:
            return Row(number, None, "not UTF-8")
        except (ValueError, RecursionError):  # a number of 5,000 digits is a ValueError
            return Row(number, None, "not JSON")
        if not isinstance(values, dict):
            return Row(number, None, "not a JSON object")
        return Row(number, values)

    def encode(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], stream: IO[bytes]
    ) -> None:
        for row in rows:
            line = json.dumps({c: row[c] for c in columns}, ensure_ascii=False)
            # a lone surrogate cannot be UTF-8; JSON's own escape carries it
            stream.write(line.encode("utf-8", "backslashreplace") + b"\n")
