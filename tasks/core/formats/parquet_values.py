"""Values of Parquet columns as Python's, and as texts where Python has no such value."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import pyarrow as pa

from tasks.core.formats.base import NOT_UTF8

# pyarrow has no types; these are its classes of the same names
RecordBatch: TypeAlias = Any
Array: TypeAlias = Any
Scalar: TypeAlias = Any


class _NoValueError(Exception):
    """A value that Python cannot hold and that has no text."""


def rows_of(batch: RecordBatch) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Values, or the problem, of each row.

    A date, a time or a time zone beyond Python's becomes a text; a row with a value that has no text is a problem.
    """
    names = batch.schema.names
    problems: dict[int, str] = {}
    columns = [_values(batch.column(index), problems) for index in range(len(names))]
    for row, values in enumerate(zip(*columns, strict=True)):
        if problems and row in problems:
            yield None, problems[row]
        else:
            yield dict(zip(names, values, strict=True)), ""


def _values(column: Array, problems: dict[int, str]) -> list[Any]:
    """A value for each row; where there is none, the reason goes into `problems`."""
    column = _in_microseconds(column)
    try:
        return column.to_pylist()
    except Exception:  # of whatever kind: pyarrow, time zones and Python's dates have many
        values: list[Any] = []
        for row, value in enumerate(column):
            try:
                values.append(_value(value))
            except _NoValueError as error:
                values.append(None)
                problems.setdefault(row, str(error))
        return values


def _in_microseconds(column: Array) -> Array:
    """Nanoseconds as microseconds, or as texts where that would cut them: Python's times end there."""
    kind = column.type
    if not pa.types.is_timestamp(kind) or kind.unit != "ns":
        return column
    try:
        return column.cast(pa.timestamp("us", kind.tz))
    except pa.ArrowInvalid:
        return column.cast(pa.string())


def _value(value: Scalar) -> Any:
    """The value, with texts in the place of what Python cannot hold, at any depth."""
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        raise _NoValueError(NOT_UTF8) from error
    except Exception as error:
        if isinstance(value, pa.StructScalar):
            return {name: _value(inner) for name, inner in value.items()}
        if isinstance(value, pa.ListScalar):
            return [_value(inner) for inner in value]
        try:
            return _text(value)
        except Exception:
            said = f"a value of type {value.type} cannot be read ({type(error).__name__})"
            raise _NoValueError(said) from error


def _text(value: Scalar) -> str:
    """As Arrow writes it; a time whose zone is unknown in UTC, which is what is stored."""
    kind = value.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return str(value.cast(pa.timestamp(kind.unit)).cast(pa.string())) + "Z"
    return str(value.cast(pa.string()))
