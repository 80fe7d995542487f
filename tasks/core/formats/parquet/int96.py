"""Times that Parquet stores in 96 bits: days and nanoseconds, more than any Arrow type holds.

Read in microseconds, they lose digits; read in nanoseconds, they overflow after the year 2262 (9999-12-31 becomes
1816). Reading them in both units gives all digits.
"""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tasks.core.formats.parquet.arrow_texts import time_of_int96

FINE = "ns"

pa: Any  # pyarrow has no types


def exact_times(batch: Any, fine: Any) -> Iterator[Any]:
    """Yield the rows of a batch, each time in a type that holds it.

    The type is microseconds if no value has more digits, else nanoseconds; a text if a time fits neither.

    Args:
        batch: all columns, with times in microseconds.
        fine: the columns with 96-bit times, in nanoseconds.
    """
    columns = {name: _exact(batch.column(name), fine.column(name)) for name in fine.schema.names}
    if len(batch) > 1 and any(column is None for column in columns.values()):
        half = len(batch) // 2  # bisect: few rows fit neither
        yield from exact_times(batch.slice(0, half), fine.slice(0, half))
        yield from exact_times(batch.slice(half), fine.slice(half))
        return
    for name, column in columns.items():
        if column is None:
            column = pa.array([_as_text(batch.column(name)[0], fine.column(name)[0])], pa.string())
        batch = batch.set_column(batch.schema.get_field_index(name), name, column)
    yield batch


def _exact(coarse: Any, fine: Any) -> Any:
    """Return the column that holds every value exactly; None if neither does."""
    come_round = coarse.cast(fine.type, safe=False)  # overflows as `fine` does
    if come_round.equals(fine):
        return coarse
    try:
        coarse.cast(fine.type)
    except pa.ArrowInvalid:
        return None
    return fine


def _as_text(coarse: Any, fine: Any) -> str:
    value = _with_texts(coarse, fine)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _with_texts(coarse: Any, fine: Any) -> Any:
    if not coarse.is_valid:
        return None
    if isinstance(coarse, pa.TimestampScalar) and coarse.type != fine.type:
        return time_of_int96(coarse.value, fine.value)
    if isinstance(coarse, pa.StructScalar):
        return {name: _with_texts(coarse[name], fine[name]) for name in coarse}
    if isinstance(coarse, pa.ListScalar):
        pairs = zip(coarse.values, fine.values, strict=True)
        return [_with_texts(*pair) for pair in pairs]
    return coarse.as_py()
