"""Detect whether the quotes of a delimited file delimit fields. If they do not, a stray quote swallows rows:

1,"Best movie ever
2,not bad at all
3,the worst"
"""

from collections.abc import Sequence

from tasks.core.formats.base import UnfitError

_CHANCE = 20  # among so many records of two lines, one may have lines that look like rows by chance
_MANY = 9  # so many rows are never there by chance


class Quoting:
    """Detector of quoting; called for each record that has several lines or cannot be read.

    Quotes are "meant" if they delimit fields.

    Args:
        delimiter: between fields.
        is_meant: True if quotes are known to be meant.
    """

    def __init__(self, delimiter: bytes, is_meant: bool) -> None:
        self._delimiter, self.is_meant = delimiter, is_meant
        self._is_tsv = delimiter == b"\t"
        self.separators = 0  # in a row
        self._proper = 0  # records of several lines that do not look like rows
        self._has_proof = False  # quotes are certainly meant in at least one record

    def learn(self, header: bytes, columns: int) -> None:
        """Learn from the header: if its names are in quotes, the quotes of the rows are meant."""
        self.separators = columns - 1
        self.is_meant = self.is_meant or self._has_all_quoted([header])

    def see(self, record: bytes) -> None:
        """Learn from a record of one line with all its fields: separators inside quotes prove that quotes are meant.

        This does not apply to TSV: each of its spans is read alone, and has to give the same result.
        """
        if not self._is_tsv and b'"' in record and record.count(self._delimiter) > self.separators:
            self._has_proof = True

    def is_unquoted(self, lines: Sequence[bytes], is_readable: bool, line: int) -> bool:
        """True if the lines of a record are rather rows of a TSV without quoting.

        Args:
            lines: lines of the record, with their ends.
            is_readable: True if the record is readable with quoting.
            line: line of the file on which it begins.
        Raises:
            UnfitError: both readings are possible.
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
        """True if, among all records of several lines so far, one with this many row-like lines may occur by chance."""
        return not self._is_tsv and self._proper >= _CHANCE ** min(rows - 1, _MANY)

    def has_rows(self, lines: Sequence[bytes]) -> bool:
        """True if most non-blank lines are rows of a TSV without quoting.

        Half of them suffice if there are more tabs than in one row: texts hardly contain tabs.
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
        """Return the number of lines that look like rows.

        It is 0 unless most lines between the first and the last do, or, if there are none between, these two. Commas
        in the texts may give the first and the last line more fields. A single column tells nothing, except in TSV.
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
    """Line counts of a record that is too long to be held: all lines, and those with as many separators as a row."""

    def __init__(self) -> None:
        self.lines = self._filled = self._rows = 0

    def add(self, is_row: bool, is_blank: bool) -> None:
        """Count one more line."""
        self.lines += 1
        self._filled += not is_blank
        self._rows += is_row and not is_blank

    @property
    def could_be_rows(self) -> bool:
        """True if most non-blank lines look like rows."""
        return self._filled > 1 and 2 * self._rows > self._filled


class _Beside:
    """Values of a record before the field that opens a quote and after the one that closes it, to compare lines with.

    In prose, a comma or a semicolon occurs by chance, but a space follows it. So a line is a row only if the same
    columns are of the same kind (digits, or one word) and begin without a space.
    """

    def __init__(self, first: Sequence[bytes], last: Sequence[bytes], separators: int) -> None:
        self._separators = separators
        before = next((at for at, value in enumerate(first) if _opens(value)), 0)
        behind = next((at for at, value in enumerate(reversed(last)) if value[-1:] == b'"'), 0)
        self._references = [(at, first[at]) for at in range(min(before, separators))]
        self._references += [(-at, last[-at]) for at in range(1, min(behind, separators) + 1)]
        # Prose may have a word or a phrase before a comma, but rarely digits alone.
        self.tells = any(value.isdigit() for _, value in self._references)

    def is_alike(self, row: Sequence[bytes]) -> bool:
        """True if a line looks like a row; commas in its text may give it more fields."""
        if not self._references:
            return len(row) == self._separators + 1 and all(_is_tight(value) for value in row[1:])
        if len(row) <= self._separators:
            return False
        return all(self._is_alike(row, at, reference) for at, reference in self._references)

    def _is_alike(self, row: Sequence[bytes], at: int, reference: bytes) -> bool:
        value = row[at]
        if reference.isdigit():
            return value.isdigit()
        if reference.split() == [reference] and value.split() != [value]:
            return False
        before, after = (value, row[at + 1]) if at >= 0 else (row[at - 1], value)
        is_number = before[-1:].isdigit() and after[:1].isdigit()  # 1,000
        return _is_tight(after) and not is_number


def _opens(value: bytes) -> bool:
    return value[:1] == b'"' and (len(value) == 1 or value[-1:] != b'"')


def _is_tight(value: bytes) -> bool:
    return bool(value) and not value[:1].isspace()
