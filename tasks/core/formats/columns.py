"""Columns of rows, nested ones included: `review.body.text`, `reviews.0.text`."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tasks.core.errors import MissingDataError, UnreadableDataError
from tasks.core.formats.base import Row
from tasks.core.formats.detection.text_encodings import advice_for
from tasks.core.formats.values import held_bytes

_ROWS_TO_SEE_ALL_COLUMNS = 1_000
_MOST_ROWS_HELD = 10_000  # readable or not
_MOST_BYTES_HELD = 64 << 20
_ROW_BYTES = 160  # size of a `Row` and its numbers, without its values and raw bytes
_MISSING = object()
_MOST_SHOWN, _LONGEST_NAME = 20, 60
_NUMBER = re.compile(r"\s*[+-]?[\d.,:/-]*\d[\d.,:/-]*\s*")  # a number, a date or a time
_LIKE_A_NAME = re.compile(r"[\w.\[\]-]{1,40}")


def lookup(values: Any, path: str, default: Any = None) -> Any:
    """Return the value of a column, or of a field within it by a dotted path; `default` if there is none.

    A column or field whose own name contains the dots wins over the path. List items are addressed by index, from 0.
    """
    if isinstance(values, Mapping) and path in values:
        return values[path]
    at = path.find(".")
    while at >= 0:
        inner = _entered(values, path[:at])
        if (
            inner is not _MISSING
            and (value := lookup(inner, path[at + 1 :], _MISSING)) is not _MISSING
        ):
            return value
        at = path.find(".", at + 1)
    value = _entered(values, path)
    return default if value is _MISSING else value


def _entered(values: Any, name: str) -> Any:
    if isinstance(values, Mapping):
        return values.get(name, _MISSING)
    if isinstance(values, list) and name.isdecimal() and name.isascii() and int(name) < len(values):
        return values[int(name)]
    return _MISSING


def with_columns(rows: Iterable[Row], columns: Sequence[str], where: str) -> Iterator[Row]:
    """Yield the rows unchanged, after checking that each column occurs in some row: rows of JSONL may lack some.

    Args:
        rows: rows of one file.
        columns: names or dotted paths.
        where: the file, for the error.
    Raises:
        MissingDataError: a column is in none of the first thousand readable rows (or of all, if there are fewer); the
            error lists the existing columns. The check ends earlier after ten thousand rows in all, or 64 MiB.
        UnreadableDataError: none of the first ten thousand rows, or of those that fill 64 MiB, is readable.
    """
    seen = _Seen(columns, where)
    rows = iter(rows)
    while seen.missing and (row := next(rows, None)) is not None:
        seen.add(row)
    if seen.readable:
        seen.refuse_missing()
    yield from seen.held
    seen.held.clear()
    yield from rows


class _Seen:
    """Rows that are held until each column has been seen in one of them."""

    def __init__(self, columns: Sequence[str], where: str) -> None:
        self._columns, self._where, self._names = columns, where, set[str]()
        self._bytes = 0
        self.missing, self.readable, self.held = set(columns), 0, list[Row]()

    def add(self, row: Row) -> None:
        """Add a row. Raises if enough rows were seen and a column is still missing, or no row is readable."""
        self.held.append(row)
        self._bytes += _ROW_BYTES + len(row.raw) + held_bytes(row.values, _MOST_BYTES_HELD)
        if row.values is not None:
            self.readable += 1
            self.missing = {c for c in self.missing if lookup(row.values, c, _MISSING) is _MISSING}
            self._names.update(row.columns, _names(row.values, self.missing))
        full = self._bytes > _MOST_BYTES_HELD or len(self.held) >= _MOST_ROWS_HELD
        if self.readable and (full or self.readable >= _ROWS_TO_SEE_ALL_COLUMNS):
            self.refuse_missing()
        elif full:
            self._refuse_unreadable()

    def refuse_missing(self) -> None:
        missing = [c for c in self._columns if c in self.missing]
        _refuse(missing, self._names, self._where, self.held)

    def _refuse_unreadable(self) -> None:
        raise UnreadableDataError(
            f"None of its first {len(self.held):,} rows can be read; the first: {self.held[0].problem}",
            self._where,
            advice_for(
                self.held[0].problem,
                "check that it is the right file and that its extension is right",
            ),
        )


def require_columns(columns: Collection[str], requested: Sequence[str], where: str) -> None:
    """Raise MissingDataError that names the first requested column that does not exist, and the existing ones.

    Only the first column of a path is checked.
    """
    inside = tuple(f"{name}." for name in columns)
    _refuse([c for c in requested if c not in columns and not c.startswith(inside)], columns, where)


def _names(values: Mapping[str, Any], missing: Collection[str]) -> set[str]:
    """Return the columns, and the fields of a column that a missing path leads into."""
    names = set(values)
    for path in missing:
        outer = path.split(".", 1)[0]
        inner = values.get(outer)
        if outer != path and isinstance(inner, Mapping):
            names |= {f"{outer}.{field}" for field in inner}
    return names


def names_for_people(names: Sequence[str], rows: Sequence[Row] = ()) -> str:
    """List columns by name for a message. If a text has no header, its first review is in their place and is hidden."""
    are_names = _are_names(rows)
    shown = [] if are_names is False else names
    if are_names is None:
        shown = [name for name in names if _LIKE_A_NAME.fullmatch(name)]
    shown, hidden = shown[:_MOST_SHOWN], len(names) - len(shown)
    others = f"{hidden} more" if shown else f"{hidden}"
    more = [f"{others} whose names are not shown (is there a header?)"] if hidden else []
    more += [f"{len(names) - _MOST_SHOWN} more"] if len(shown) == _MOST_SHOWN < len(names) else []
    return ", ".join([*(name[:_LONGEST_NAME] for name in shown), *more]) or "none"


def _are_names(rows: Sequence[Row]) -> bool | None:
    """True if the keys of rows are names, False if they are values of a first row, None if it is uncertain."""
    readable = [row for row in rows if row.values is not None]
    if not readable or readable[0].raw[:1] in (b"", b"{"):  # Parquet and JSON always have names
        return True
    values: dict[str, list[str]] = {}
    for row in readable:
        for name, value in (row.values or {}).items():
            if value:
                values.setdefault(name, []).append(str(value))
    names = list(readable[0].values or {})
    if any(_is_no_name(name) or name in values.get(name, ()) for name in names):
        return False
    return True if any(map(_has_kind, values.values())) else None


def _is_no_name(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) or len(text) > _LONGEST_NAME or text[-1:] in (*".!?",)


def _has_kind(values: Sequence[str]) -> bool:
    """True if values are numbers, or a few repeated ones: a first row would also have one of them."""
    return all(map(_NUMBER.fullmatch, values)) or len(values) >= 4 * len(set(values))


def _refuse(
    missing: Sequence[str], columns: Collection[str], where: str, rows: Sequence[Row] = ()
) -> None:
    if missing:
        raise MissingDataError(
            f"No column {missing[0]!r}; the columns are: {names_for_people(sorted(columns), rows)}",
            where,
            "name the right column",
        )
