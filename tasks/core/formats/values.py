"""Conversion of values of any type to text, so that columns can go from any format to any other. Deterministic."""

import base64
import datetime
import json
import math
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tasks.core.formats.parquet.arrow_texts import duration_text, text_of

_NESTED = (dict, list, tuple)


def held_bytes(value: Any, most: int) -> int:
    """Return the bytes of memory that a value takes with all objects in it; any number above `most` if it takes more.

    A list of five million empty lists is 16 MiB of JSON and 350 MiB of objects.
    """
    size, pending = sys.getsizeof(value), [value]
    while pending and size <= most:
        outer: Any = pending.pop()
        inner: Any = [*outer, *outer.values()] if isinstance(outer, dict) else outer
        if isinstance(inner, _NESTED):
            size += sum(map(sys.getsizeof, inner))
            pending += [value for value in inner if isinstance(value, _NESTED)]
    return size


def plain(value: Any) -> Any:
    """Convert a value that JSON lacks to one that it has: times to ISO 8601, decimals to their exact digits."""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return duration_text(value // datetime.timedelta(microseconds=1))
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, pa.Scalar):
        return text_of(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return str(value)


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=plain)


def json_text(value: Any) -> str:
    """Return a value as JSON on one line; NaN and infinity become null."""
    try:
        return _STRICT.encode(value)
    except ValueError:
        return _STRICT.encode(_finite(value))


def cell(value: Any) -> Any:
    """Return a value as a CSV field: nested values as JSON, null as an empty field, texts and numbers unchanged."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    return json_text(value) if isinstance(value, Mapping | list | tuple) else plain(value)


def as_text(value: Any) -> str | None:
    """Return a value as text, for a column whose values have several types."""
    return None if value is None else str(cell(value))
