"""A column that goes along is carried as it is: every type of Arrow, into every format, alone and in company."""

import base64
import csv
import datetime
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import UnreadableDataError
from tasks.core.formats import reading, writing
from tasks.core.formats.parquet import parquet_format
from tasks.core.formats.parquet.arrow_types import carried_type, stored_type, type_at
from tasks.core.formats.parquet.int96 import exact_times
from tasks.core.formats.parquet.values import _value, values_of
from tasks.core.formats.registry import FORMATS
from tasks.core.formats.values import as_text

pa: Any
pq: Any
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY = 86_400 * 10**9
_ZONES = [None, "UTC", "Europe/Berlin", "America/New_York", "+05:30", "tzutc()"]


@dataclass(frozen=True)
class Kind:
    """A type and its values, as scalars or nested in Python's lists and dictionaries."""

    type: Any
    values: st.SearchStrategy[Any]

    def __repr__(self) -> str:
        return str(self.type)


def _scalars(kind: Any, raw: st.SearchStrategy[Any]) -> Kind:
    return Kind(kind, st.one_of(st.none(), raw.map(lambda value: pa.scalar(value, kind))))


def _plain(kind: Any, raw: st.SearchStrategy[Any]) -> Kind:
    return Kind(kind, st.one_of(st.none(), raw))


def _instants(unit: str) -> st.SearchStrategy[int]:
    """In all of 64 bits, and more often where people live; seconds become milliseconds in Parquet."""
    most = (2**63 - 1) // (1_000 if unit == "s" else 1)
    near = st.integers(-(10**9) * 4, 10**10).map(lambda s: s * (10**9 // _NANOSECONDS[unit]))
    ends = st.sampled_from([253_402_300_799 * (10**9 // _NANOSECONDS[unit]), 0, -most, most])
    fine = st.tuples(near, st.integers(0, 10**9 // _NANOSECONDS[unit])).map(sum)
    return st.one_of(st.integers(-most, most), near, fine, ends).filter(lambda v: abs(v) <= most)


_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


def _decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    return st.integers(-most, most).map(
        lambda v: Decimal((v < 0, tuple(map(int, str(abs(v)))), -scale))
    )


LEAVES = [
    Kind(pa.null(), st.none()),
    _plain(pa.bool_(), st.booleans()),
    *(
        _plain(kind, st.integers(*bounds))
        for kind, bounds in [
            (pa.int8(), (-128, 127)), (pa.int16(), (-(2**15), 2**15 - 1)), (pa.int32(), (-(2**31), 2**31 - 1)),
            (pa.int64(), (-(2**63), 2**63 - 1)), (pa.uint8(), (0, 255)), (pa.uint16(), (0, 2**16 - 1)),
            (pa.uint32(), (0, 2**32 - 1)), (pa.uint64(), (0, 2**64 - 1)),
        ]
    ),
    *(_plain(getattr(pa, f"float{n}")(), st.floats(width=n)) for n in (16, 32, 64)),
    *(_plain(kind, _texts) for kind in (pa.string(), pa.large_string())),  # of views pyarrow writes no slices
    *(_plain(kind, st.binary(max_size=6)) for kind in (pa.binary(), pa.large_binary())),
    _plain(pa.binary(3), st.binary(min_size=3, max_size=3)),
    _plain(pa.decimal32(5, 2), _decimals(5, 2)),
    _plain(pa.decimal64(18, 0), _decimals(18, 0)),
    _plain(pa.decimal128(38, 10), _decimals(38, 10)),
    _plain(pa.decimal256(76, 20), _decimals(76, 20)),
    *(_scalars(pa.timestamp(unit, zone), _instants(unit)) for unit in _NANOSECONDS for zone in _ZONES),
    _scalars(pa.date32(), st.integers(-(2**31), 2**31 - 1)),
    _scalars(pa.date64(), st.integers(-(10**6), 10**8).map(lambda days: days * 86_400_000)),
    *(_scalars(pa.time32(unit), st.integers(0, _DAY // _NANOSECONDS[unit] - 1)) for unit in ("s", "ms")),
    *(_scalars(pa.time64(unit), st.integers(0, _DAY // _NANOSECONDS[unit] - 1)) for unit in ("us", "ns")),
    *(_scalars(pa.duration(unit), _instants(unit)) for unit in _NANOSECONDS),
    _plain(pa.dictionary(pa.int32(), pa.string()), _texts),
    _plain(pa.uuid(), st.binary(min_size=16, max_size=16)),
    _plain(pa.json_(), st.just('{"a": 1}')),
]  # fmt: skip


def _nested(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    def listed(kind: Kind) -> list[Kind]:
        values = st.lists(kind.values, max_size=3)
        pairs = st.lists(st.tuples(_texts, kind.values), max_size=3)
        return [
            Kind(pa.list_(kind.type), st.one_of(st.none(), values)),
            Kind(pa.large_list(kind.type), st.one_of(st.none(), values)),
            Kind(pa.map_(pa.string(), kind.type), st.one_of(st.none(), pairs)),
        ]

    def structured(kinds: list[Kind]) -> Kind:
        fields = {f"f{n}": kind for n, kind in enumerate(kinds)}
        kind = pa.struct([(name, kind.type) for name, kind in fields.items()])
        values = st.fixed_dictionaries({name: kind.values for name, kind in fields.items()})
        return Kind(kind, st.one_of(st.none(), values))

    return st.one_of(
        inner.flatmap(lambda kind: st.sampled_from(listed(kind))),
        st.lists(inner, min_size=1, max_size=3).map(structured),
    )


kinds = st.recursive(st.sampled_from(LEAVES), _nested, max_leaves=3)
pairs = kinds.map(  # pyarrow reads none that is null, or inside of something that is
    lambda kind: Kind(pa.list_(kind.type, 2), st.lists(kind.values, min_size=2, max_size=2))
)
columns = st.one_of(st.sampled_from(LEAVES), kinds, pairs).flatmap(
    lambda kind: st.lists(kind.values, min_size=1, max_size=6).map(
        lambda values: _array(values, kind.type)
    )
)


def _array(values: list[Any], kind: Any) -> Any:
    """pyarrow makes no arrays of types with extensions inside; these are cast."""
    if "extension" not in str(kind):
        return pa.array(values, kind)
    return pa.array(values, stored_type(kind)).cast(kind)


def file_of(column: Any, other: Any = None, **options: Any) -> bytes:
    table = {"text": pa.array(["a text"] * len(column)), "c": column}
    if other is not None:
        table["other"] = other
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer, **options)
    return buffer.getvalue()


def carried(content: bytes, kind: str, types: bool = True) -> bytes:
    """The column c as the predictions of a file have it."""
    known = dict[str, Any]()

    def rows() -> Any:
        for row in reading.decode("r.parquet", io.BytesIO(content)):
            assert row.values is not None, row.problem
            known["c"] = type_at(row.types or {}, "c") if types else None
            yield {"c": row.values["c"]}

    output = io.BytesIO()
    writing.encode(f"o.{kind}", rows(), ["c"], output, types=known)
    return output.getvalue()


def written(content: bytes, kind: str) -> list[Any]:
    """What stands in the output for each row."""
    output = carried(content, kind)
    if kind == "parquet":
        return [raw(value) for value in pq.read_table(io.BytesIO(output)).column(0)]
    if kind == "jsonl":
        return [json.loads(line)["c"] for line in output.decode().split("\n") if line]
    reader = csv.reader(
        io.StringIO(output.decode(), newline=""), delimiter="," if kind == "csv" else "\t"
    )
    return [row[0] for row in reader][1:]  # fmt: skip


def raw(value: Any) -> Any:
    """A scalar as what it means: times in nanoseconds, so that two units can be compared."""
    if not value.is_valid:
        return None
    kind = value.type
    if isinstance(value, pa.DictionaryScalar):
        return raw(value.value)
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        return value.value * _NANOSECONDS[kind.unit]
    if pa.types.is_date32(kind):
        return value.value * _DAY
    if pa.types.is_date64(kind):
        return value.value * 10**6
    if isinstance(value, pa.StructScalar):
        return {name: raw(inner) for name, inner in value.items()}
    if isinstance(value, pa.MapScalar):
        return [[raw(entry["key"]), raw(entry["value"])] for entry in value.values]
    if isinstance(value, pa.ListScalar):
        return [raw(inner) for inner in value.values]
    found = value.as_py()
    if isinstance(found, UUID):  # inside of others they are written as texts
        return str(found)
    return repr(found) if isinstance(found, float) else found


def as_texts(kind: Any, value: Any) -> Any:
    """What JSON is to hold of a raw value, written here in another way than in the product."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {
            kind.field(n).name: as_texts(kind.field(n).type, inner)
            for n, inner in enumerate(value.values())
        }
    if pa.types.is_map(kind):
        return [[key, as_texts(kind.item_type, inner)] for key, inner in value]
    if isinstance(value, list):
        return [as_texts(kind.value_type, inner) for inner in value]
    if pa.types.is_floating(kind):
        return float(value) if math.isfinite(float(value)) else None
    return value  # fmt: skip


def meant(kind: Any, found: Any) -> Any:
    """What a text of JSON means, in the form of `raw`; a leaf that is written as it is stays."""
    if found is None:
        return None
    if pa.types.is_dictionary(kind):
        return meant(kind.value_type, found)
    if pa.types.is_timestamp(kind):
        return _instant(found, with_zone=kind.tz is not None)
    if pa.types.is_date(kind):
        return _instant(found + "T00:00:00", with_zone=False)
    if pa.types.is_time(kind):
        return _instant("1970-01-01T" + found, with_zone=False)
    if pa.types.is_duration(kind):
        assert found.startswith("PT") and found.endswith("S")
        return int(Decimal(found[2:-1]) * 10**9)
    if pa.types.is_decimal(kind):
        assert "E" not in found
        return Decimal(found)
    if pa.types.is_struct(kind):
        return {field.name: meant(field.type, found[field.name]) for field in kind}
    if pa.types.is_map(kind):
        return [[key, meant(kind.item_type, inner)] for key, inner in found]
    if pa.types.is_nested(kind):
        return [meant(kind.value_type, inner) for inner in found]
    return found


def _instant(text: str, with_zone: bool) -> int:
    """Nanoseconds of a time of ISO 8601, of any year."""
    head, offset = text, datetime.timedelta()
    if with_zone:
        at = max(text.rfind("+"), text.rfind("-"))
        head, hours = text[:at], [int(part) for part in text[at + 1 :].split(":")]
        offset = datetime.timedelta(hours=hours[0], minutes=hours[1], seconds=sum(hours[2:]))
        offset *= 1 if text[at] == "+" else -1
    seconds, _, fraction = head.partition(".")
    whole = int(np.datetime64(seconds, "s").astype(np.int64)) - round(offset.total_seconds())
    return whole * 10**9 + int(fraction.ljust(9, "0") or 0)


def _is_without_bytes(kind: Any) -> bool:
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    if any(check(kind) for check in (*binary, pa.types.is_binary_view)) or kind == pa.uuid():
        return False
    nested = pa.types.is_nested(kind)
    return not nested or all(_is_without_bytes(kind.field(n).type) for n in range(kind.num_fields))


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_format, "_ROWS_A_BATCH", 2)


@given(columns)
@settings(max_examples=300, deadline=None)
def test_parquet_keeps_types_and_values(column: Any) -> None:
    content = file_of(column, row_group_size=3)
    before = pq.read_table(io.BytesIO(content)).column("c")
    after = pq.read_table(io.BytesIO(carried(content, "parquet"))).column("c")
    if "tzutc" in str(before.type):
        return  # texts, as test_texts_mean_the_value has it
    wanted = carried_type(before.type)
    assert _said(after.type) == _said(wanted)
    assert [raw(value) for value in after] == [raw(value) for value in before]


def _said(kind: Any) -> str:
    """A type; views are plain, and maps may have names in files."""
    return re.sub(r" \('\w+'\)", "", str(kind)).replace("_view", "").replace("large_", "")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
@given(columns)
@settings(max_examples=150, deadline=None)
def test_texts_mean_the_value(kind: str, column: Any) -> None:
    content = file_of(column)
    before = pq.read_table(io.BytesIO(content)).column("c")
    found = written(content, kind)
    assert len(found) == len(column)
    for value, cell in zip(before, found, strict=True):
        if kind != "jsonl" and pa.types.is_nested(before.type):
            cell = json.loads(cell or "null")
        if kind == "jsonl" or pa.types.is_nested(before.type):
            if _is_without_bytes(before.type):
                assert meant(before.type, cell) == as_texts(before.type, raw(value))
        elif pa.types.is_temporal(before.type) and cell:
            assert meant(before.type, cell) == raw(value)


@pytest.mark.parametrize("kind", sorted(FORMATS))
@given(columns, columns)
@settings(max_examples=100, deadline=None)
def test_a_value_does_not_depend_on_others(kind: str, column: Any, other: Any) -> None:
    """Other rows, other batches, other columns."""
    beside = pa.concat_arrays([other.slice(row % len(other), 1) for row in range(len(column))])
    together = written(file_of(column, beside, row_group_size=4), kind)
    for row in {0, len(column) - 1}:
        (alone,) = written(file_of(column.slice(row, 1)), kind)
        assert alone == together[row]


@given(columns)
@settings(max_examples=150, deadline=None)
def test_whole_columns_and_single_values_are_the_same(column: Any) -> None:
    """The fast way is the slow one."""
    assert shown(values_of(column)) == shown([_value(value) for value in column])


def shown(value: Any) -> Any:
    """Unlike `repr`, also of a scalar that Python cannot hold."""
    if isinstance(value, pa.Scalar):
        return str(value.type), value.value
    if isinstance(value, dict):
        return {name: shown(inner) for name, inner in value.items()}
    return [shown(inner) for inner in value] if isinstance(value, list | tuple) else repr(value)


_END = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999
_NEAR = 1_700_000_000_000_000


def int96(*microseconds: int, beyond: int = 0) -> tuple[Any, Any]:
    """Times of 96 bits as they are read in microseconds, and in nanoseconds, which come round."""
    exact = [us * 1_000 + beyond for us in microseconds]
    fine = [(ns + 2**63) % 2**64 - 2**63 for ns in exact]
    return pa.array(microseconds, pa.timestamp("us")), pa.array(fine, pa.timestamp("ns"))


def test_int96_is_read_to_its_last_digit() -> None:
    def found(*pairs: tuple[Any, Any]) -> list[Any]:
        coarse, fine = (pa.concat_arrays(arrays) for arrays in zip(*pairs, strict=True))
        batches = [pa.record_batch({"at": array}) for array in (coarse, fine)]
        values = [value for batch in exact_times(*batches) for value in values_of(batch.column(0))]
        return [as_text(value) for value in values]

    near, fine = "2023-11-14T22:13:20", "2023-11-14T22:13:20.000000007"
    end = "9999-12-31T23:59:59.999999"
    assert found(int96(_NEAR, _END)) == [near, end]
    assert found(int96(_NEAR), int96(_NEAR, beyond=7)) == [near, fine]
    assert found(int96(_NEAR, beyond=7), int96(_END), int96(_NEAR)) == [fine, end, near]
    assert found(int96(_NEAR), int96(_END, beyond=999)) == [near, end + "999"]


@pytest.mark.parametrize(
    "nested",
    [
        lambda kind: kind,
        pa.list_,
        lambda kind: pa.struct([("at", kind), ("by", pa.string())]),
        lambda kind: pa.map_(pa.string(), kind),
    ],
    ids=["alone", "list", "struct", "map"],
)
@pytest.mark.parametrize("unit", ["us", "ns"])
def test_int96_in_files(nested: Callable[[Any], Any], unit: str) -> None:
    at = pa.scalar(_END if unit == "us" else _NEAR * 1_000 + 7, pa.timestamp(unit))
    text = "9999-12-31T23:59:59.999999" if unit == "us" else "2023-11-14T22:13:20.000000007"
    kind = nested(at.type)
    shape = {"list": [at, None], "struct": {"at": at, "by": "x"}, "map": [("a", at)]}
    column = pa.array([shape.get(str(kind).partition("<")[0], at), None], kind)
    content = file_of(column, use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(io.BytesIO(content)).schema.to_arrow_schema().field("c")
    for name in ("jsonl", "csv"):
        assert text in carried(content, name).decode()
    after = pq.read_table(io.BytesIO(carried(content, "parquet"))).column(0)
    assert [raw(value) for value in after] == [raw(value) for value in column]


def test_int96_of_the_last_day() -> None:
    column = pa.array([253_402_214_400_000_000], pa.timestamp("us"))
    content = file_of(column, use_deprecated_int96_timestamps=True)
    assert json.loads(carried(content, "jsonl")) == {"c": "9999-12-31T00:00:00"}
    after = pq.read_table(io.BytesIO(carried(content, "parquet"))).column(0)
    assert after.to_pylist() == [datetime.datetime(9999, 12, 31)]


def test_times_of_a_zone_that_nobody_knows_are_texts() -> None:
    column = pa.array([_NEAR, 1, None], pa.timestamp("us", "tzutc()"))
    texts = ["2023-11-14T22:13:20+00:00", "1970-01-01T00:00:00.000001+00:00", None]
    for name in ("jsonl", "parquet"):
        assert written(file_of(column), name) == texts


def test_a_list_without_values_of_a_fixed_size_is_a_sentence() -> None:
    content = file_of(pa.array([[1, 2], None], pa.list_(pa.int8(), 2)))
    with pytest.raises(UnreadableDataError, match=r"fixed-size list.*ordinary lists"):
        list(reading.decode("r.parquet", io.BytesIO(content)))


def test_bytes_are_texts_where_they_are_utf8() -> None:
    content = file_of(pa.array([b"abc", b"\xff", None]))
    assert written(content, "jsonl") == ["abc", base64.b64encode(b"\xff").decode(), None]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1.5, True], ["1.5", "true"]),
        ([{"a": 1}, {"b": 2}], ['{"a": 1}', '{"b": 2}']),
        ([{"a": 1}, {"a": None}], [{"a": 1}, {"a": None}]),
        ([[1], [True]], ["[1]", "[true]"]),
        ([[{"a": 1}], [{}]], ['[{"a": 1}]', "[{}]"]),
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([2**53 + 1, 2.5], [str(2**53 + 1), "2.5"]),
        ([2**63, 1], [str(2**63), "1"]),
    ],
)
def test_values_of_json_do_not_become_their_neighbours(
    values: list[Any], wanted: list[Any]
) -> None:
    """In one chunk, and in parts that are joined."""
    rows = [{"c": value} for value in values]
    output = io.BytesIO()
    writing.encode("o.parquet", rows, ["c"], output)
    parts = [io.BytesIO() for _ in rows]
    for row, part in zip(rows, parts, strict=True):
        writing.encode("o.parquet", [row], ["c"], part)
        part.seek(0)
    joined = io.BytesIO()
    writing.join("o.parquet", parts, joined)
    for whole in (output, joined):
        assert pq.read_table(whole).column(0).to_pylist() == wanted
