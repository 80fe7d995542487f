"""Arrow types: the type in which a column is carried, and the type of a field within a column."""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from tasks.core.formats.parquet.arrow_texts import is_unknown_zone

# pyarrow has no types; these are its modules
pa: Any
types: Any = pa.types

TEXT, WHOLE_NUMBER, NUMBER = pa.string(), pa.int64(), pa.float64()


def carried_type(kind: Any, inside: bool = False) -> Any:
    """Return the type in which values of a type are written: the same, without storage forms such as dictionaries.

    Times of a zone that is unknown here become texts, as nobody could read them without knowing the zone. So do
    extension types inside other types, of which pyarrow makes no arrays.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return _of_extension(kind, inside)
    if types.is_dictionary(kind):
        return carried_type(kind.value_type, inside)
    if types.is_timestamp(kind) and is_unknown_zone(kind.tz):
        return TEXT
    return with_inner(kind, lambda inner: carried_type(inner, inside=True))


def _of_extension(kind: Any, inside: bool) -> Any:
    if is_python_extension(kind):
        return TEXT if inside else kind
    return pa.bool_() if isinstance(kind, pa.Bool8Type) else carried_type(kind.storage_type, inside)


def stored_type(kind: Any) -> Any:
    """Return the type without extensions at any depth, as pyarrow supports fewer operations on those."""
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type)
    return with_inner(kind, stored_type)


def with_unit(kind: Any, unit: str) -> Any:
    """Return the type with all its times without a zone in another unit."""
    if types.is_timestamp(kind) and kind.tz is None:
        return pa.timestamp(unit)
    return with_inner(kind, lambda inner: with_unit(inner, unit))


def with_inner(kind: Any, change: Callable[[Any], Any]) -> Any:
    """Return the type with its inner types changed; list views become lists."""

    def changed(field: Any) -> Any:
        return field.with_type(change(field.type))

    if types.is_struct(kind):
        return pa.struct([changed(kind.field(n)) for n in range(kind.num_fields)])
    if types.is_map(kind):
        return pa.map_(*map(changed, (kind.key_field, kind.item_field)))
    if types.is_fixed_size_list(kind):
        return pa.list_(changed(kind.value_field), kind.list_size)
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(changed(kind.value_field))
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(changed(kind.value_field))
    return kind


def is_python_extension(kind: Any) -> bool:
    """True if Python has the values of an extension type, and arrays can be made of them."""
    return isinstance(kind, pa.UuidType | pa.JsonType)


def is_held_by_python(kind: Any) -> bool:
    """True if `to_pylist` either returns every value unchanged or raises."""
    if types.is_timestamp(kind):
        return kind.unit != "ns" and not is_unknown_zone(kind.tz)
    if types.is_time(kind):
        return kind.unit != "ns"
    if types.is_duration(kind):
        return False  # pyarrow cannot convert the longest ones back from Python
    if isinstance(kind, pa.BaseExtensionType):
        return is_python_extension(kind)
    if types.is_dictionary(kind):
        return is_held_by_python(kind.value_type)
    if not types.is_nested(kind):
        return True
    return all(is_held_by_python(kind.field(n).type) for n in range(kind.num_fields))


def type_at(kinds: Mapping[str, Any], path: str) -> Any:
    """Return the type of a column, or of a field within it by a dotted path (as `lookup` finds values), or None."""
    if path in kinds:
        return kinds[path]
    at = path.find(".")
    while at >= 0:
        if (outer := kinds.get(path[:at])) is not None:
            inner = _inside(outer, path[at + 1 :])
            if inner is not None:
                return inner
        at = path.find(".", at + 1)
    return None


def _inside(kind: Any, path: str) -> Any:
    if types.is_struct(kind):
        fields = [kind.field(n) for n in range(kind.num_fields)]
        return type_at({field.name: field.type for field in fields}, path)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        index, _, rest = path.partition(".")
        if index.isdecimal():
            return _inside(kind.value_type, rest) if rest else kind.value_type
    return None


def same_fields(some: Any, other: Any) -> bool:
    """True if values of both types can be cast to a common type without getting or losing a field."""
    if types.is_null(some) or types.is_null(other):
        return True
    if types.is_struct(some) or types.is_struct(other):
        if not (types.is_struct(some) and types.is_struct(other)):
            return False
        names = [[kind.field(n).name for n in range(kind.num_fields)] for kind in (some, other)]
        pairs = zip(some, other, strict=True) if names[0] == names[1] else ()
        return names[0] == names[1] and all(same_fields(a.type, b.type) for a, b in pairs)
    if types.is_nested(some) and types.is_nested(other) and some.num_fields == other.num_fields:
        return all(
            same_fields(some.field(n).type, other.field(n).type) for n in range(some.num_fields)
        )
    return True
