"""Arrow arrays before conversion to Python objects: the bytes those will take, and arrays without views."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.formats.parquet.arrow_types import stored_type

_OBJECT_BYTES = 64  # of a Python object and the reference to it, without its content

# pyarrow has no types; these are its modules
pa: Any
pc: Any


def without_views(array: Any) -> Any:
    """Return the array with plain texts instead of views, which pyarrow restores if the file says that it had them.

    A slice of views refers to, and is sent with, all bytes of the whole array. Views inside list views and extension
    types stay, as pyarrow cannot cast these.
    """
    kind = _without_views(array.type)
    return array if kind == array.type else array.cast(kind)


def _without_views(kind: Any) -> Any:
    types = pa.types
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_struct(kind):
        return pa.struct([_field_without_views(kind.field(n)) for n in range(kind.num_fields)])
    if types.is_map(kind):
        return pa.map_(*map(_field_without_views, (kind.key_field, kind.item_field)))
    if types.is_fixed_size_list(kind):
        return pa.list_(_field_without_views(kind.value_field), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(_field_without_views(kind.value_field))
    if types.is_list(kind):
        return pa.list_(_field_without_views(kind.value_field))
    return kind


def _field_without_views(field: Any) -> Any:
    return field.with_type(_without_views(field.type))


def held_bytes(array: Any) -> Any:
    """Estimate the bytes that each value of an array takes as a Python object, as an int64 each.

    The content of texts counts as UTF-8; each object, also inside a list or a struct, adds 64 bytes.
    """
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return held_bytes(array.storage)
    if pa.types.is_dictionary(kind):
        sizes = np.append(held_bytes(array.dictionary), _OBJECT_BYTES)  # the last one is for null
        return sizes[array.indices.fill_null(len(sizes) - 1).to_numpy(False)]
    if pa.types.is_struct(kind):
        # pyarrow gives a field of nulls alone a wrong length in a map that was cast to a list.
        nulls = [pa.types.is_null(field.type) for field in kind]
        fields = [held_bytes(f) for f, null in zip(array.flatten(), nulls, strict=True) if not null]
        return sum(fields, np.full(len(array), _OBJECT_BYTES * (1 + sum(nulls)), np.int64))
    if pa.types.is_nested(kind):  # a list of some kind, or a map
        lists = _as_list(array.cast(stored_type(kind)) if _has_extension(kind) else array)
        lengths = pc.list_value_length(lists).fill_null(0).to_numpy(False).astype(np.int64)
        if pa.types.is_null(lists.type.value_type):  # of a wrong length, as above
            return _OBJECT_BYTES * (1 + lengths)
        ends = np.cumsum(lengths)
        summed = np.concatenate([[0], np.cumsum(held_bytes(lists.flatten()))])
        return _OBJECT_BYTES + summed[ends] - summed[ends - lengths]
    if _has_length(kind):
        return _OBJECT_BYTES + pc.binary_length(array).fill_null(0).to_numpy(False).astype(np.int64)
    if _is_small(kind):
        return np.full(len(array), _OBJECT_BYTES, np.int64)
    # Any other type: all bytes that each value refers to, even if values share them.
    sizes = (array.slice(row, 1).nbytes for row in range(len(array)))
    return _OBJECT_BYTES + np.fromiter(sizes, np.int64, len(array))


def _has_extension(kind: Any) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return True
    inner = range(kind.num_fields if pa.types.is_nested(kind) else 0)
    return any(_has_extension(kind.field(n).type) for n in inner)


def _as_list(array: Any) -> Any:
    """Return a map as the list of structs that it is; other arrays unchanged."""
    kind = array.type
    if not pa.types.is_map(kind):
        return array
    entries = pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)])
    return array.cast(pa.list_(entries))


def _has_length(kind: Any) -> bool:
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
    )
    return any(check(kind) for check in checks)


def _is_small(kind: Any) -> bool:
    """True if the values of a type have at most 32 bytes each."""
    return pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind)
