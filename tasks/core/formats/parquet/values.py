"""Conversion of Parquet columns to Python values, each unchanged and independent of the others in its batch."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import pyarrow as pa

from tasks.core.formats.base import NOT_UTF8
from tasks.core.formats.parquet.arrow_texts import is_unknown_zone, text_of
from tasks.core.formats.parquet.arrow_types import is_held_by_python, is_python_extension

# pyarrow has no types; these are its classes of the same names
RecordBatch: TypeAlias = Any
Array: TypeAlias = Any
Scalar: TypeAlias = Any

pa: Any


class _NoValueError(Exception):
    """A value that Python cannot hold and that has no text."""


def rows_of(batch: RecordBatch) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Yield the values, or the problem, of each row.

    Values that Python cannot hold (nanoseconds, years beyond 9999) stay Arrow scalars, at any depth: they can be
    written with their type, and have a text. A row with an unreadable value has a problem.
    """
    names = batch.schema.names
    problems: dict[int, str] = {}
    columns = [_values(batch.column(index), problems) for index in range(len(names))]
    for row, values in enumerate(zip(*columns, strict=True)):
        if problems and row in problems:
            yield None, problems[row]
        else:
            yield dict(zip(names, values, strict=True)), ""


def values_of(column: Array) -> list[Any]:
    """Return the values of an array or a chunked array; each of them has to be readable."""
    return _values(column, {})


def _values(column: Array, problems: dict[int, str]) -> list[Any]:
    """Return a value for each row; if there is none, the reason goes into `problems`."""
    try:
        return _without_nanoseconds(column).to_pylist()
    except Exception:  # pyarrow, time zones and Python's dates raise many types
        values: list[Any] = []
        for row, value in enumerate(column):
            try:
                values.append(_value(value))
            except _NoValueError as error:
                values.append(None)
                problems.setdefault(row, str(error))
        return values


class _SingleValuesError(Exception):
    """A column with values that Python cannot hold."""


def _without_nanoseconds(column: Array) -> Array:
    """Return the column in a type whose values Python has. Raises if that is impossible without loss."""
    kind = column.type
    if is_held_by_python(kind):
        return column
    if pa.types.is_timestamp(kind) and not is_unknown_zone(kind.tz):
        return column.cast(pa.timestamp("us", kind.tz))
    if pa.types.is_time(kind):
        return column.cast(pa.time64("us"))
    raise _SingleValuesError


def _value(value: Scalar) -> Any:
    """Return the value, with scalars for what Python cannot hold, at any depth."""
    if not value.is_valid:
        return None
    kind = value.type
    if pa.types.is_timestamp(kind) and is_unknown_zone(kind.tz):
        return text_of(value)
    if pa.types.is_temporal(kind):
        try:
            return _without_nanoseconds(value).as_py()
        except Exception:
            return value
    try:
        return _inner(value)
    except _NoValueError:
        raise
    except UnicodeDecodeError as error:
        raise _NoValueError(NOT_UTF8) from error
    except Exception as error:
        message = f"a value of type {kind} cannot be read ({type(error).__name__})"
        raise _NoValueError(message) from error


def _inner(value: Scalar) -> Any:
    if isinstance(value, pa.DictionaryScalar):
        return _value(value.value)
    if isinstance(value, pa.ExtensionScalar) and not is_python_extension(value.type):
        if isinstance(value.type, pa.Bool8Type):
            return value.as_py()
        return _value(value.value)
    if isinstance(value, pa.StructScalar):
        names = [field.name for field in value.type]
        if len(set(names)) < len(names):
            raise ValueError("two fields have the same name")
        return {name: _value(value[name]) for name in names}
    if isinstance(value, pa.MapScalar):
        return [(_value(entry["key"]), _value(entry["value"])) for entry in value.values]
    if isinstance(value, pa.ListScalar):  # of any kind
        return [_value(inner) for inner in value.values]
    return value.as_py()
