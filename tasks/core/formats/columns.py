"""Columns of rows, nested ones included: `review.body.text`, `reviews.0.text`."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tasks.core.errors import MissingDataError
from tasks.core.formats.base import Row

_ROWS_TO_SEE_ALL_COLUMNS = 1000
_MISSING = object()
_LIKE_A_NAME = re.compile(r"[\w.\[\]-]{1,40}")


def lookup(values: Any, path: str, default: Any = None) -> Any:
    """The value of a column, or of a field within it by a dotted path; `default` where there is none.

    A column or field whose name has the dots in it wins over the path. A list is entered by its index, from 0.
    """
    if isinstance(values, Mapping) and path in values:
        return values[path]
    at = path.find(".")
    while at >= 0:
        inner = _entered(values, path[:at])
        if (
            inner is not _MISSING
            and (found := lookup(inner, path[at + 1 :], _MISSING)) is not _MISSING
        ):
            return found
        at = path.find(".", at + 1)
    found = _entered(values, path)
    return default if found is _MISSING else found


def _entered(values: Any, name: str) -> Any:
    if isinstance(values, Mapping):
        return values.get(name, _MISSING)
    if isinstance(values, list) and name.isdecimal() and name.isascii() and int(name) < len(values):
        return values[int(name)]
    return _MISSING


def with_columns(rows: Iterable[Row], columns: Sequence[str], where: str) -> Iterator[Row]:
    """The rows as they are, while making sure that each column is there: rows of JSONL may each lack some.

    Args:
        rows: of one file.
        columns: names or dotted paths.
        where: the file, for the error.
    Raises:
        MissingDataError: none of the first thousand readable rows, or of all, has a column; it says which there are.
    """
    missing, there, readable = set(columns), set[str](), 0
    held: list[Row] = []
    for row in rows:
        if missing:
            held.append(row)
            if row.values is not None:
                readable += 1
                missing = {c for c in missing if lookup(row.values, c, _MISSING) is _MISSING}
                there |= _names(row.values, missing)
            if missing and readable < _ROWS_TO_SEE_ALL_COLUMNS:
                continue
            _refuse([c for c in columns if c in missing], there, where)
            yield from held
            held.clear()
        else:
            yield row
    if readable:
        _refuse([c for c in columns if c in missing], there, where)
    yield from held


def require_columns(there: Collection[str], wanted: Sequence[str], where: str) -> None:
    """Raises MissingDataError naming the first column that is wanted and not there, and those there are.

    Of a path only its first column is looked for.
    """
    inside = tuple(f"{name}." for name in there)
    _refuse([c for c in wanted if c not in there and not c.startswith(inside)], there, where)


def _names(values: Mapping[str, Any], missing: Collection[str]) -> set[str]:
    """The columns; where a path leads into one but not to its end, also the fields in it."""
    names = set(values)
    for path in missing:
        outer = path.split(".", 1)[0]
        inner = values.get(outer)
        if outer != path and isinstance(inner, Mapping):
            names |= {f"{outer}.{field}" for field in inner}
    return names


def names_for_people(names: Sequence[str]) -> str:
    """Columns by name where that looks like one: in a file without a header its first review stands in their place."""
    shown = [name for name in names if _LIKE_A_NAME.fullmatch(name)][:20]
    hidden = len(names) - len(shown)
    more = [f"{hidden} more whose names are not shown (is there a header?)"] if hidden else []
    return ", ".join([*shown, *more]) or "none"


def _refuse(missing: Sequence[str], there: Collection[str], where: str) -> None:
    if missing:
        raise MissingDataError(
            f"No column {missing[0]!r}; the columns are: {names_for_people(sorted(there))}",
            where,
            "name the right column",
        )
