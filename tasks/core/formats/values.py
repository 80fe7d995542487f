"""Values of any type as texts, so that a column can go from any format to any other. The same value, the same text."""

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
    """How much memory a value takes, all objects in it counted; where that is more than `most`, some number above it.

    A list of five million empty lists is 16 MiB of JSON and 350 MiB of objects.
    """
    size, left = sys.getsizeof(value), [value]
    while left and size <= most:
        outer: Any = left.pop()
        inner: Any = [*outer, *outer.values()] if isinstance(outer, dict) else outer
        if isinstance(inner, _NESTED):
            size += sum(map(sys.getsizeof, inner))
            left += [value for value in inner if isinstance(value, _NESTED)]
    return size


def plain(value: Any) -> Any:
    """A value that JSON does not know as one that it does: ISO 8601 for times, exact digits for decimals."""
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
    """JSON has no NaN and no infinity: null stands for both."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=plain)


def json_text(value: Any) -> str:
    """A value as JSON on one line; NaN and infinity become null."""
    try:
        return _STRICT.encode(value)
    except ValueError:
        return _STRICT.encode(_finite(value))


def cell(value: Any) -> Any:
    """A value as a field of CSV: nested ones as JSON, nothing for null; texts and numbers as they are."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    return json_text(value) if isinstance(value, Mapping | list | tuple) else plain(value)


def as_text(value: Any) -> str | None:
    """A value as a text, for a column whose values are of several types."""
    return None if value is None else str(cell(value))
