"""Detect whether quotes delimit the fields of a file. If they are plain text instead, one may swallow rows:

1,"Best movie ever
2,not bad at all
3,the worst"
"""

from collections.abc import Sequence

from tasks.core.formats.base import UnfitError

_CHANCE = 20  # one in so many records of two lines looks like rows by chance; each further line divides by it again
_MOST_BY_CHANCE = 9  # beyond so many lines, chances are no longer told apart


class Quoting:
    """Detector of quoting, asked about each record that has several lines or cannot be read.

    Quoting is "meant" if quotes delimit fields; otherwise a quote is a character of a text.

    Args:
        delimiter: separates fields.
        is_meant: True if quoting is known to be meant.
    """

    def __init__(self, delimiter: bytes, is_meant: bool) -> None:
        self._delimiter, self.is_meant = delimiter, is_meant
        self._is_tsv = delimiter == b"\t"
        self.separators = 0  # delimiters in a row
        self._multiline_records = 0  # records of several lines that do not look like rows
        self._has_proof = False  # in at least one record, quoting is certainly meant

    def learn(self, header: bytes, columns: int) -> None:
        """Learn from the header: if its names are in quotes, quoting is meant in the rows, too."""
        self.separators = columns - 1
        self.is_meant = self.is_meant or self._has_all_quoted([header])

    def see(self, record: bytes) -> None:
        """Learn from a complete record of one line: delimiters inside quotes prove that quoting is meant.

        Nothing is learned from TSV, because its spans are read separately and must all come to the same result.
        """
        if not self._is_tsv and b'"' in record and record.count(self._delimiter) > self.separators:
            self._has_proof = True

    def is_unquoted(self, lines: Sequence[bytes], is_readable: bool, line: int) -> bool:
        """True if the lines are rows of a TSV without quoting, and not one record.

        Args:
            lines: lines of the record, with their line ends.
            is_readable: True if the record can be read with quoting.
            line: number of its first line in the file.
        Raises:
            UnfitError: they may be one record or several rows.
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
        self._multiline_records += is_readable
        return False

    def _is_by_chance(self, rows: int) -> bool:
        """True if one of the multi-line records so far may have this many lines that look like rows by chance."""
        exponent = min(rows - 1, _MOST_BY_CHANCE)
        return not self._is_tsv and self._multiline_records >= _CHANCE**exponent

    def has_rows(self, lines: Sequence[bytes]) -> bool:
        """True if most non-blank lines are rows of a TSV without quoting.

        Half of them suffice if there are more tabs than in one row, because texts rarely contain tabs.
        """
        if not self._is_tsv or not self.separators or self.is_meant:
            return False
        tabs = [line.count(self._delimiter) for line in lines if line.strip()]
        rows = tabs.count(self.separators)
        return 2 * rows > len(tabs) or (2 * rows == len(tabs) and sum(tabs) > self.separators)

    def refuse(self, line: int, lines: int) -> None:
        """Raise UnfitError for a record whose lines could be rows."""
        raise UnfitError(
            f"the quote that opens in line {line} closes in line {line + lines - 1}, and the lines between could be "
            "rows: most have as many fields as the header",
            "if the quote belongs to a text, double it and enclose the text in quotes; if the lines are one text, "
            "enclose the names in the header in quotes",
        )

    def _has_all_quoted(self, lines: Sequence[bytes]) -> bool:
        record = b"".join(lines).strip(b"\r\n")
        between_fields = b'"' + self._delimiter + b'"'
        return record[:1] == record[-1:] == b'"' and record.count(between_fields) >= self.separators

    def _rows_within(self, lines: Sequence[bytes]) -> int:
        """Return the number of lines that look like rows; 0 unless most inner lines do.

        If there are only two lines, both must. Otherwise the first and the last line do not decide, because commas in
        their texts may give them more fields. Lines of a single column look like rows only in TSV.
        """
        if not self.separators and not self._is_tsv:
            return 0
        rows = [line.strip(b"\r\n").split(self._delimiter) for line in lines]
        outer = _OuterFields(rows[0], rows[-1], self.separators)
        if self._has_proof and not outer.has_number:
            return 0
        matches = [outer.match(row) for row in rows]
        inner = matches[1:-1]
        return sum(matches) if (2 * sum(inner) > len(inner) if inner else all(matches)) else 0


class LongRecord:
    """Counts of the lines of a record that is too long for memory: all lines, non-blank ones, and those like rows."""

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


class _OuterFields:
    """The fields of a record before its quote opens and after it closes. Lines between are compared with them.

    Prose has commas and semicolons, too, but with a space behind. So a line looks like a row only if its fields in the
    same columns are of the same kind (digits, or one word) and do not begin with a space.
    """

    def __init__(self, first: Sequence[bytes], last: Sequence[bytes], separators: int) -> None:
        self._separators = separators
        before = next((at for at, value in enumerate(first) if _opens_quote(value)), 0)
        after = next((at for at, value in enumerate(reversed(last)) if value[-1:] == b'"'), 0)
        # Columns, counted from the end if negative, and the field there.
        self._fields = [(at, first[at]) for at in range(min(before, separators))]
        self._fields += [(-at, last[-at]) for at in range(1, min(after, separators) + 1)]
        # Prose may have a word or a phrase before a comma, but rarely digits alone.
        self.has_number = any(value.isdigit() for _, value in self._fields)

    def match(self, row: Sequence[bytes]) -> bool:
        """True if a line looks like a row. Commas in its text may give it more fields."""
        if not self._fields:
            return len(row) == self._separators + 1 and all(map(_begins_without_space, row[1:]))
        if len(row) <= self._separators:
            return False
        return all(self._matches_field(row, at, field) for at, field in self._fields)

    def _matches_field(self, row: Sequence[bytes], at: int, field: bytes) -> bool:
        value = row[at]
        if field.isdigit():
            return value.isdigit()
        if field.split() == [field] and value.split() != [value]:
            return False
        before, after = (value, row[at + 1]) if at >= 0 else (row[at - 1], value)
        is_number = before[-1:].isdigit() and after[:1].isdigit()  # 1,000
        return _begins_without_space(after) and not is_number


def _opens_quote(value: bytes) -> bool:
    return value[:1] == b'"' and (len(value) == 1 or value[-1:] != b'"')


def _begins_without_space(value: bytes) -> bool:
    return bool(value) and not value[:1].isspace()
