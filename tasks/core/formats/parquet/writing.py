"""Writing of Parquet, a row group at a time.

The type of a column is only known after all of its values: the first sixteen thousand may be null. So rows go to one
part file as long as their types stay the same, and to a new one when they change. The parts are then merged, group by
group, into one file with types that suit all.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, TypeAlias
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.data.texts import encodable
from tasks.core.formats.base import LeftOpen
from tasks.core.formats.parquet.arrow_types import same_fields, with_unit
from tasks.core.formats.parquet.values import values_of
from tasks.core.formats.values import as_text, held_bytes

# pyarrow has no types; these are its classes of the same names
Schema: TypeAlias = Any
Table: TypeAlias = Any
Array: TypeAlias = Any
DataType: TypeAlias = Any
RecordBatch: TypeAlias = Any
ChunkedArray: TypeAlias = Any

_ROWS_A_GROUP = 16_384
_BYTES_A_GROUP = 128 * 1024 * 1024  # of the rows in memory
_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError)


def written(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    open_part: Callable[[], IO[bytes]],
    kinds: Mapping[str, DataType],
) -> list[IO[bytes]]:
    """Write rows in order to one or more part files of one schema each; return them, each at its start.

    `kinds` are the known types of columns; it may be filled while rows are taken.
    """
    tables = (_table(chunk, columns, kinds) for chunk in _chunks(rows))
    parts = list[IO[bytes]]()
    for schema, alike in itertools.groupby(tables, lambda table: table.schema):
        parts.append(open_part())
        with _writer(parts[-1], schema) as writer:
            for table in alike:
                writer.write_table(table)
        parts[-1].seek(0)
    return parts


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the rows of one row group at a time; a single empty list if there are no rows."""
    chunk, size, any_row = list[Mapping[str, Any]](), 0, False
    for row in rows:
        any_row = True
        chunk.append(row)
        size += held_bytes(tuple(row.values()), _BYTES_A_GROUP)
        if len(chunk) >= _ROWS_A_GROUP or size >= _BYTES_A_GROUP:
            yield chunk
            chunk, size = [], 0
    if chunk or not any_row:
        yield chunk


def merged(parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
    """Write the rows of several Parquet files as one file; one row group is held at a time."""
    files = [pq.ParquetFile(part) for part in parts]
    filled = [file for file in files if file.metadata.num_rows] or files[:1]
    schema = pa.schema(
        [(name, _common_type(name, filled)) for name in filled[0].schema_arrow.names]
    )
    with _writer(stream, schema) as writer:
        for file in filled:
            for group in range(file.num_row_groups):
                writer.write_table(_cast(file.read_row_group(group), schema))


def _writer(stream: IO[bytes], schema: Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(pa.PythonFile(LeftOpen(stream), "w"), schema, compression="zstd")


def _table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], kinds: Mapping[str, DataType]
) -> Table:
    if not rows:
        return pa.table({c: pa.array([], kinds.get(c, pa.string())) for c in columns})
    return pa.table({c: _array([_storable(row[c]) for row in rows], kinds.get(c)) for c in columns})


def _array(values: list[Any], kind: DataType | None) -> Array:
    """Return the values in their type or, if it is unknown, in one that suits them; as texts if none does."""
    for candidate in (None,) if kind is None else (kind, with_unit(kind, "ns")):
        try:
            array = pa.array(values, candidate)
            if candidate is not None or (
                _can_be_stored(array.type) and _are_unchanged(values, array)
            ):
                return array
        except _UNFIT:
            pass
    return _texts(values)


def _are_unchanged(values: list[Any], array: Array) -> bool:
    """False if Arrow has turned booleans into numbers, or given an object the fields of its neighbours."""
    kind = array.type
    if pa.types.is_floating(kind):
        return not any(isinstance(value, bool) for value in values)
    return not pa.types.is_nested(kind) or _same(values, array.to_pylist())


def _same(before: Any, after: Any) -> bool:
    """True if values are equal; true is not 1, but an integer may have become the same float."""
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if isinstance(before, Mapping):
        fits = isinstance(after, Mapping) and before.keys() == after.keys()
        return fits and all(_same(before[key], after[key]) for key in before)
    if isinstance(before, list | tuple):
        fits = isinstance(after, list | tuple) and len(before) == len(after)
        return fits and all(map(_same, before, after))
    return before == after or (before != before and after != after)


def _texts(values: Iterable[Any]) -> Array:
    return pa.array([as_text(value) for value in values], pa.string())


def _storable(value: Any) -> Any:
    """Return the value with texts that UTF-8 can encode, at any depth."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        return {encodable(str(key)): _storable_inside(inner) for key, inner in value.items()}
    if isinstance(value, tuple):  # an entry of a map
        return tuple(map(_storable_inside, value))
    return list(map(_storable_inside, value)) if isinstance(value, list) else value


def _storable_inside(value: Any) -> Any:
    """Return a nested value; UUIDs become texts, as pyarrow makes arrays of UUIDs, but no nested ones."""
    return str(value) if isinstance(value, UUID) else _storable(value)


def _can_be_stored(kind: DataType) -> bool:
    """False for a struct without fields, which Parquet lacks."""
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_can_be_stored(field.type) for field in kind)
    return not pa.types.is_list(kind) or _can_be_stored(kind.value_type)


def _common_type(name: str, files: Sequence[pq.ParquetFile]) -> DataType:
    """Return a type to which every value of a column can be cast without loss; string as the fallback."""
    types = list(dict.fromkeys(file.schema_arrow.field(name).type for file in files))
    if len(types) == 1:
        return types[0]
    if not all(same_fields(types[0], kind) for kind in types):
        return pa.string()
    schemas = [pa.schema([(name, kind)]) for kind in types]
    try:
        common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        for batch in _batches(name, files):
            batch.column(0).cast(common)
    except _UNFIT:
        return pa.string()
    return common


def _batches(name: str, files: Sequence[pq.ParquetFile]) -> Iterator[RecordBatch]:
    for file in files:
        yield from file.iter_batches(columns=[name])


def _cast(table: Table, schema: Schema) -> Table:
    return pa.table(
        [_as_type(table.column(field.name), field.type) for field in schema], schema=schema
    )


def _as_type(column: ChunkedArray, kind: DataType) -> Any:
    if column.type == kind:
        return column
    return _texts(values_of(column)) if pa.types.is_string(kind) else column.cast(kind)
