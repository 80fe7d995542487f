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
        self._has_proof = False  # that quotes are meant at least in one record

    def learn(self, header: bytes, columns: int) -> None:
        """Whoever writes the names in quotes means those of the rows."""
        self.separators = columns - 1
        self.is_meant = self.is_meant or self._has_all_quoted([header])

    def see(self, record: bytes) -> None:
        """A record of one line with enough fields: separators inside of quotes prove that these are meant.

        Not in TSV: each of its parts is read alone, and has to come to the same result.
        """
        if not self._is_tsv and b'"' in record and record.count(self._delimiter) > self.separators:
            self._has_proof = True

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
        has_quoted = is_readable and self.separators > 0 and self._has_all_quoted(lines)
        if self._is_tsv and self.separators:
            return not has_quoted and self.has_rows(lines)
        if len(lines) > 1 and not has_quoted and not self._is_by_chance(len(lines)):
            rows = self._rows_within([line for line in lines if line.strip()])
            if rows and not self._is_by_chance(max(rows, 2)):
                self.refuse(line, len(lines))
            is_readable = is_readable and not rows
        self._proper += is_readable
        return False

    def _is_by_chance(self, rows: int) -> bool:
        """Whether a file with so many fields of several lines may have one of which so many lines look like rows."""
        return not self._is_tsv and self._proper >= _CHANCE ** min(rows - 1, _MANY)

    def has_rows(self, lines: Sequence[bytes]) -> bool:
        """Whether most lines, but for blank ones, are rows of a TSV without quoting.

        Half of them are enough if there are more tabs than in one row: a text has hardly any.
        """
        if not self._is_tsv or not self.separators or self.is_meant:
            return False
        tabs = [line.count(self._delimiter) for line in lines if line.strip()]
        rows = tabs.count(self.separators)
        return 2 * rows > len(tabs) or (2 * rows == len(tabs) and sum(tabs) > self.separators)

    def refuse(self, line: int, lines: int) -> None:
        """Raise for a record whose lines could be rows."""
        raise UnfitError(
            f"the quote that opens in line {line} closes in line {line + lines - 1}, and the lines between could be "
            "rows: most have as many fields as the header",
            "if the quote is part of a text, write it twice and put the text into quotes; if the lines are one text, "
            "put the names in the header into quotes",
        )

    def _has_all_quoted(self, lines: Sequence[bytes]) -> bool:
        record = b"".join(lines).strip(b"\r\n")
        border = b'"' + self._delimiter + b'"'
        return record[:1] == record[-1:] == b'"' and record.count(border) >= self.separators

    def _rows_within(self, lines: Sequence[bytes]) -> int:
        """How many lines look like rows; 0 unless most between the first and the last do, or, if none is, these two.

        First and last may be ragged by a comma of their texts. One column has nothing to tell by, except in TSV.
        """
        if not self.separators and not self._is_tsv:
            return 0
        rows = [line.strip(b"\r\n").split(self._delimiter) for line in lines]
        beside = _Beside(rows[0], rows[-1], self.separators)
        if self._has_proof and not beside.tells:
            return 0
        alike = [beside.is_alike(row) for row in rows]
        inner = alike[1:-1]
        return sum(alike) if (2 * sum(inner) > len(inner) if inner else all(alike)) else 0


class LongRecord:
    """Of a record that is too long to be held: how many of its lines have as many separators as a row."""

    def __init__(self) -> None:
        self.lines = self._filled = self._rows = 0

    def add(self, is_row: bool, is_blank: bool) -> None:
        """One more line."""
        self.lines += 1
        self._filled += not is_blank
        self._rows += is_row and not is_blank

    @property
    def could_be_rows(self) -> bool:
        """Whether most lines look like rows, but for blank ones."""
        return self._filled > 1 and 2 * self._rows > self._filled


class _Beside:
    """Values of a record before the field that opens a quote, and behind the one that closes it: what rows have there.

    In prose, a comma or a semicolon is there by chance, but a space follows it. So the same columns of a row have to be
    of the same kind (digits, or one word) and to begin without a space.
    """

    def __init__(self, first: Sequence[bytes], last: Sequence[bytes], separators: int) -> None:
        self._separators = separators
        before = next((at for at, value in enumerate(first) if _opens(value)), 0)
        behind = next((at for at, value in enumerate(reversed(last)) if value[-1:] == b'"'), 0)
        self._known = [(at, first[at]) for at in range(min(before, separators))]
        self._known += [(-at, last[-at]) for at in range(1, min(behind, separators) + 1)]
        # Prose may have a word or a phrase before a comma, but hardly digits alone.
        self.tells = any(value.isdigit() for _, value in self._known)

    def is_alike(self, row: Sequence[bytes]) -> bool:
        """Whether a line looks like a row; it may have more fields, by a comma of its text."""
        if not self._known:
            return len(row) == self._separators + 1 and all(_is_tight(value) for value in row[1:])
        if len(row) <= self._separators:
            return False
        return all(self._is_alike(row, at, known) for at, known in self._known)

    def _is_alike(self, row: Sequence[bytes], at: int, known: bytes) -> bool:
        value = row[at]
        if known.isdigit():
            return value.isdigit()
        if known.split() == [known] and value.split() != [value]:
            return False
        left, right = (value, row[at + 1]) if at >= 0 else (row[at - 1], value)
        is_number = left[-1:].isdigit() and right[:1].isdigit()  # 1,000
        return _is_tight(right) and not is_number


def _opens(value: bytes) -> bool:
    return value[:1] == b'"' and (len(value) == 1 or value[-1:] != b'"')


def _is_tight(value: bytes) -> bool:
    return bool(value) and not value[:1].isspace()
