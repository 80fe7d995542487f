"""What Parquet's values take in memory is counted whatever their type, and held against the bytes that are stored."""

import gzip
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import UnreadableDataError
from tasks.core.formats import reading
from tasks.core.formats.base import Row
from tasks.core.formats.parquet import arrow_values, child
from tests.core.formats.test_columns_asked_for import parquet, values

_VIEWS: list[tuple[Any, Any]] = [
    (pa.string_view(), "a"),
    (pa.binary_view(), b"a"),
    (pa.list_(pa.string_view()), ["a"]),
    (pa.large_list(pa.string_view()), ["a"]),
    (pa.list_view(pa.string_view()), ["a"]),
    (pa.large_list_view(pa.string()), ["a"]),
    (pa.struct([("by", pa.string_view())]), {"by": "a"}),
    (pa.map_(pa.string(), pa.string_view()), [("by", "a")]),
]


@pytest.mark.parametrize(("kind", "value"), _VIEWS, ids=lambda given: str(given))
def test_views_are_read_as_what_they_show(kind: Any, value: Any) -> None:
    assert "view" in str(kind)
    assert values(parquet(x=pa.array([value, None], kind))) == [{"x": value}, {"x": None}]
    if pa.types.is_string_view(kind):
        fixed = pa.array([[value], [value]], pa.list_(kind, 1))
        assert values(parquet(x=fixed)) == [{"x": [value]}] * 2


@pytest.mark.parametrize("kind", [pa.string_view(), pa.string(), pa.json_(pa.string_view())])
def test_a_text_that_is_too_long_is_not_held_whatever_its_type(kind: Any) -> None:
    texts = pa.array(["fine", "a" * (17 << 20), "fine"], pa.string())
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    column = texts.cast(storage)
    column = pa.ExtensionArray.from_storage(kind, column) if storage != kind else column
    found = values(parquet(text=column))
    assert "longer than 16 MiB" in found and found[1] == "longer than 16 MiB"


@pytest.mark.parametrize(
    ("array", "least"),
    [
        (pa.nulls(3), 64),
        (pa.array([["a"] * 9] * 3), 64 * 9),
        (pa.array([[None] * 9] * 3, pa.list_(pa.null())), 64 * 9),
        (pa.array(["a" * 1_000] * 3, pa.string_view()), 1_000),
        (pa.array([["a" * 1_000]] * 3, pa.list_(pa.string_view())), 1_000),
        (pa.array(["a" * 1_000] * 3).dictionary_encode(), 1_000),
        (pa.array([b"a" * 1_000] * 3, pa.binary(1_000)), 1_000),
        (pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), ["a" * 1_000]), 1_000),
    ],
    ids=lambda given: str(getattr(given, "type", given)),
)
def test_every_type_counts_what_its_values_take(array: Any, least: int) -> None:
    assert arrow_values.held_bytes(array).min() >= least


def test_rows_without_any_bytes_count_against_the_bound() -> None:
    seen: list[Row] = []
    with pytest.raises(UnreadableDataError, match="unpacks to more than 200 times"):
        seen.extend(reading.decode("r.parquet", parquet(text=pa.nulls(1_500_000))))
    assert 1_000_000 < len(seen) < 1_100_000, "64 bytes each"


def test_a_file_may_not_be_packed_to_hide_what_it_becomes() -> None:
    """The size that counts is that of the file as it is stored, and not of the Parquet file in it."""
    padding = pa.array([bytes(3_000)] * 1_000)
    text = pa.array(["a" * 100_000] * 1_000).dictionary_encode()
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": text, "x": padding}), buffer, use_dictionary=["text"],
                   compression="none")  # fmt: skip
    buffer.seek(0)
    assert len(list(reading.decode("r.parquet", buffer, columns=["text"]))) == 1_000
    packed = gzip.compress(buffer.getvalue())
    with pytest.raises(UnreadableDataError, match=rf"200 times its {len(packed):,} bytes"):
        list(reading.decode("r.parquet.gz", io.BytesIO(packed), columns=["text"]))


def test_rows_are_not_announced_before_they_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the error would be read as the rows."""

    class Parent:
        def __init__(self) -> None:
            self.told: list[bytes] = []

        def send_bytes(self, content: bytes) -> None:
            self.told.append(content)

    def too_much(_: Any) -> Any:
        raise MemoryError

    parent: Any = Parent()
    monkeypatch.setattr(child, "_packed", too_much)
    with pytest.raises(MemoryError):
        child._Server(parent)._sent(iter([(1, 64, pa.record_batch({"x": [1]}))]), 0)
    assert parent.told == []


def test_a_map_of_maps_whose_values_are_nulls_alone_is_measured() -> None:
    """pyarrow gives their column a wrong length when the inner maps are cast to lists."""
    kind = pa.map_(pa.string(), pa.map_(pa.string(), pa.null()))
    array = pa.array([[("", None), ("a", [("x", None), ("y", None), ("z", None)])], None], kind)
    empty, whole = arrow_values.held_bytes(array.slice(1)), arrow_values.held_bytes(array)
    assert whole.tolist() == [arrow_values.held_bytes(array.slice(0, 1))[0], empty[0]]
    assert whole[0] > empty[0] + 3 * 64


@pytest.mark.parametrize("inner", [pa.list_(pa.null()), pa.large_list(pa.null()), pa.list_(pa.null(), 2)])  # fmt: skip
def test_a_map_whose_lists_hold_nulls_alone_is_measured(inner: pa.DataType) -> None:
    """pyarrow gives them a wrong length: read all the same."""
    kind = pa.map_(pa.string(), inner)
    assert arrow_values.held_bytes(pa.array([[("a", [None, None])]], kind)).tolist() == [64 * 6 + 1]
