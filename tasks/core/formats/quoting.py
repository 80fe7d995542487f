"""Whether the quotes of a delimited file are meant. In a file without quoting, a stray one swallows rows:

1,"Best movie ever
2,not bad at all
3,the worst"
"""

from collections.abc import Sequence

from tasks.core.formats.base import UnfitError

_CHANCE = 20  # among so many fields of two lines, one whose lines look like rows is no wonder
_MANY = 9  # rows that are never there by chance


class Quoting:
    """Asked of each record that has several lines, or that cannot be read.

    Args:
        delimiter: between fields.
        is_meant: it is known that quotes are meant.
    """

    def __init__(self, delimiter: bytes, is_meant: bool) -> None:
        self._delimiter, self.is_meant = delimiter, is_meant
        self._is_tsv = delimiter == b"\t"
        self.separators = 0  # of a row
        self._proper = 0  # records of several lines that do not look like rows

    def learn(self, header: bytes, columns: int) -> None:
        """Whoever writes the names in quotes means those of the rows."""
        self.separators = columns - 1
        self.is_meant = self.is_meant or self._has_all_quoted([header])

    def is_unquoted(self, lines: Sequence[bytes], is_readable: bool, line: int) -> bool:
        """Whether the lines of a record are rather rows of a TSV without quoting.

        Args:
            lines: of the record, with their ends.
            is_readable: with quotes.
            line: of the file, on which it begins.
        Raises:
            UnfitError: they could be either.
        """
        if self.is_meant:
            return False
        if not self._is_by_chance(len(lines)):
            rows = self._rows_within(lines) if len(lines) > 1 else 0
            could_be_rows = rows > 1 and not (self.separators and self._has_all_quoted(lines))
            if could_be_rows and self.has_rows(lines):
                return True
            if could_be_rows and not self._is_by_chance(rows):
                self.refuse(line, len(lines))
            is_readable = is_readable and not could_be_rows
        self._proper += is_readable
        return not is_readable and self.has_rows(lines)

    def _is_by_chance(self, rows: int) -> bool:
        """Whether a file with so many fields of several lines may have one of which so many lines look like rows."""
        return not self._is_tsv and self._proper >= _CHANCE ** min(rows - 1, _MANY)

    def has_rows(self, lines: Sequence[bytes]) -> bool:
        """Whether each line, but for blank ones, is a row of a TSV without quoting."""
        if not self._is_tsv or not self.separators or self.is_meant:
            return False
        return all(self._is_row(line) or not line.strip() for line in lines)

    def refuse(self, line: int, lines: int) -> None:
        """Raise for a record whose lines could be rows."""
        raise UnfitError(
            f"the quote that opens in line {line} closes in line {line + lines - 1}, and the lines between could be "
            "rows: each has as many fields as the header",
            "if the quote is part of a text, write it twice and put the text into quotes; if the lines are one text, "
            "put the names in the header into quotes",
        )

    def _has_all_quoted(self, lines: Sequence[bytes]) -> bool:
        record = b"".join(lines).strip(b"\r\n")
        border = b'"' + self._delimiter + b'"'
        return record[:1] == record[-1:] == b'"' and record.count(border) >= self.separators

    def _rows_within(self, lines: Sequence[bytes]) -> int:
        """How many lines look like rows; 0 unless the first, the last and most of the others do.

        In prose, a comma or a semicolon is there by chance. So the values beside the quoted field have to be of the
        kind that those of the record are: digits, or one word. One column has nothing to tell by, except in TSV.
        """
        if not (self._is_row(lines[-1]) and self._is_row(lines[0])):
            return 0
        if not (self._is_tsv or self.separators):
            return 0
        first, last = self._fields(lines[0]), self._fields(lines[-1])
        beside = [] if self._is_tsv else _values_beside(first, last)
        if not (_are_alike(first, beside) and _are_alike(last, beside)):
            return 0
        rows = [self._fields(line) for line in lines if line.strip()]
        alike = sum(len(row) == len(first) and _are_alike(row, beside) for row in rows)
        return alike if 2 * alike > len(rows) else 0

    def _fields(self, line: bytes) -> list[bytes]:
        return line.strip(b"\r\n").split(self._delimiter)

    def _is_row(self, line: bytes) -> bool:
        return line.count(self._delimiter) == self.separators


class LongRecord:
    """Of a record that is too long to be held: how many of its lines have as many separators as a row."""

    def __init__(self) -> None:
        self.lines = self._rows = 0
        self._first = self._last = False

    def add(self, is_row: bool) -> None:
        """One more line."""
        self._first = self._first if self.lines else is_row
        self.lines, self._rows, self._last = self.lines + 1, self._rows + is_row, is_row

    @property
    def could_be_rows(self) -> bool:
        """Whether the first line, the last and most of the others look like rows."""
        return self.lines > 1 and self._first and self._last and 2 * self._rows > self.lines


def _values_beside(first: Sequence[bytes], last: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Values of a record before the field that opens a quote and behind the one that closes it, with their columns."""
    beside: list[tuple[int, bytes]] = []
    for at, value in enumerate(first):
        if value[:1] == b'"' and (len(value) == 1 or value[-1:] != b'"'):
            break
        beside.append((at, value))
    for at in reversed(range(len(last))):
        if last[at][-1:] == b'"':
            break
        beside.append((at, last[at]))
    return beside


def _are_alike(row: Sequence[bytes], known: Sequence[tuple[int, bytes]]) -> bool:
    return all([_is_alike(row[at], value) for at, value in known])


def _is_alike(value: bytes, known: bytes) -> bool:
    if known.isdigit():
        return value.isdigit()
    return known.split() != [known] or value.split() == [value]  # in place of prose, anything
