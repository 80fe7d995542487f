"""Only columns that are asked for are decoded; what Python cannot hold of them becomes a text or a row's problem."""

import datetime
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import MissingDataError, UnreadableDataError
from tasks.core.formats import reading
from tasks.core.formats.columns import with_columns
from tasks.core.formats.parquet import process as parquet_process
from tasks.core.formats.registry import FORMATS
from tasks.core.formats.values import held_bytes, json_text


def parquet(**columns: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    buffer.seek(0)
    return buffer


def values(stream: io.BytesIO, *columns: str) -> list[Any]:
    stream.seek(0)
    rows = reading.decode("r.parquet", stream, columns=columns or None)
    return [row.values if row.values is not None else row.problem for row in rows]


_UNKNOWN = pa.array([1_700_000_000_000_000, None], pa.timestamp("us", "tzutc()"))
_FAR = pa.array([400_000_000_000_000_000, 0], pa.timestamp("us"))  # year 14645
_DAYS = pa.array([5_000_000, 0], pa.date32())


def test_a_column_nobody_asked_for_is_in_nobodys_way() -> None:
    content = parquet(text=["a", "b"], zone=_UNKNOWN, far=_FAR)
    assert values(content, "text", "id") == [{"text": "a"}, {"text": "b"}]
    assert values(content, "nothing") == [{}, {}]


def test_what_python_has_no_value_for_has_a_text() -> None:
    found = values(parquet(zone=_UNKNOWN, far=_FAR, day=_DAYS))
    assert found[0]["zone"] == "2023-11-14T22:13:20+00:00" and found[1]["zone"] is None
    assert found[1] == {
        "zone": None,
        "far": datetime.datetime(1970, 1, 1),
        "day": datetime.date(1970, 1, 1),
    }
    assert json.loads(json_text(found[0])) == {
        "zone": "2023-11-14T22:13:20+00:00",
        "far": "14645-06-30T15:06:40",
        "day": "15659-07-15",
    }


def test_the_same_inside_of_structs_and_lists() -> None:
    inner = pa.StructArray.from_arrays([_FAR, pa.array(["x", "y"])], ["at", "by"])
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 2], pa.int32()), inner)
    found = values(parquet(text=["a", "b"], log=lists))
    assert [entry["by"] for entry in found[0]["log"]] == ["x", "y"]
    assert json.loads(json_text(found[0]))["log"][0]["at"] == "14645-06-30T15:06:40"
    assert found[1]["log"] == []


def test_a_value_without_a_text_is_the_problem_of_its_row() -> None:
    buffers = pa.array([b"lovely", b"\xff"]).buffers()
    broken = pa.Array.from_buffers(pa.string(), 2, buffers)
    assert values(parquet(text=broken, id=["a", "b"]), "text", "id") == [
        {"text": "lovely", "id": "a"},
        "not UTF-8",
    ]


def test_the_last_day_of_python_in_int96() -> None:
    buffer = io.BytesIO()
    end = pa.array([253_402_214_400_000_000], pa.timestamp("us"))
    pq.write_table(pa.table({"at": end}), buffer, use_deprecated_int96_timestamps=True)
    assert values(buffer) == [{"at": datetime.datetime(9999, 12, 31)}]


def test_whole_columns_by_names_with_dots_and_by_paths() -> None:
    content = parquet(**{
        "review": [{"text": "a", "by": {"name": "b"}}],
        "review.text": ["c"],
        "text": pa.array(["d"]).dictionary_encode(),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
    })  # fmt: skip
    assert values(content, "review.text") == [
        {"review": {"text": "a", "by": {"name": "b"}}, "review.text": "c"}
    ]
    assert values(content, "text", "map") == [{"text": "d", "map": [("k", 1)]}]


def test_an_error_still_lists_all_columns() -> None:
    rows = reading.decode("r.parquet", parquet(stars=[5], other=["x"]), columns=["text"])
    with pytest.raises(MissingDataError, match=r"No column 'text'; the columns are: other, stars"):
        list(with_columns(rows, ["text"], "r.parquet"))


def test_a_reader_that_is_left_in_the_middle_reads_the_next_file() -> None:
    many = parquet(text=[f"review {n}" for n in range(20_000)])
    for _ in range(3):
        many.seek(0)
        rows = reading.decode("r.parquet", many)
        assert next(rows).values == {"text": "review 0"}
        del rows
    assert len(values(many)) == 20_000


@pytest.mark.parametrize("small", [0, 1 << 20])
def test_what_reading_the_stream_raises_comes_through(
    small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_process, "_SMALL_BYTES", small)  # sent at once, or piece by piece

    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError("the store is gone")

    content = parquet(text=["a"]).getvalue()
    with pytest.raises(ConnectionResetError, match="the store is gone"):
        list(FORMATS["parquet"].decode(Torn(content)))
    assert len(values(io.BytesIO(content))) == 1


def test_a_file_that_ends_the_process_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    parquet_process.end_idle()
    monkeypatch.setattr(parquet_process, "_CHILD", Path("/nonexistent"))
    with pytest.raises(
        UnreadableDataError, match=r"crashes the process that decodes it \(exit code 2\)"
    ):
        values(parquet(text=["a"]))
    monkeypatch.undo()
    assert len(values(parquet(text=["a"]))) == 1


def _kill_idle() -> int:
    """Kill the processes that wait for a file, as the kernel does where memory is short."""
    waiting = [reader._process for reader in parquet_process._idle._readers]
    for process in waiting:
        process.kill()
        process.wait()
    return len(waiting)


def test_a_good_file_is_read_although_the_kernel_has_ended_the_idle_processes() -> None:
    content = parquet(text=[f"review {n}" for n in range(5_000)])
    both = [reading.decode("r.parquet", io.BytesIO(content.getvalue())) for _ in range(2)]
    assert [next(rows).number for rows in both] == [1, 1]
    for rows in both:
        assert len(list(rows)) == 4_999
    assert _kill_idle() >= 2
    assert len(values(content)) == 5_000


def test_a_good_file_is_read_although_all_processes_end_in_the_middle() -> None:
    content = parquet(text=[f"review {n}" for n in range(6_000)])
    other = reading.decode("r.parquet", io.BytesIO(content.getvalue()))
    assert next(other).number == 1
    file = parquet_process.ParquetFile(content)
    assert len(list(other)) == 5_999
    assert _kill_idle() >= 1, "that of the other file, which would be the next to be taken"
    parts = file.parts(0, ["text"], 1_024)
    rows = next(parts)[0]
    file._reader._process.kill()
    assert rows + sum(part[0] for part in parts) == 6_000
    file.close()


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([{"memory": True, "error": "no memory"}] * 2, "its footer takes more than 1 GiB of memory"),
        ([{"columns": ["text"], "rows": 1, "leaves": 1, "groups": [[1, 9]], "int96": []},
          {"memory": True, "error": ""}],
         "row group 1: a row takes more than 1 GiB of memory"),
    ],
    ids=["footer", "row"],
)  # fmt: skip
def test_what_takes_too_much_memory_is_named(
    answers: list[dict[str, Any]], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = answers[0]
    told = iter([answers[0], answers[1], facts, answers[-1]])
    monkeypatch.setattr(
        parquet_process._Reader, "_receive", lambda _: json.dumps(next(told)).encode()
    )
    with pytest.raises(UnreadableDataError, match=sentence):
        values(parquet(text=["a"]))


def test_the_process_that_decodes_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert set(parquet_process.environment_of_child()) == {
        "PYTHONPATH",
        "ARROW_DEFAULT_MEMORY_POOL",
    }


def test_all_objects_of_a_value_are_counted() -> None:
    lists: Any = [[] for _ in range(10_000)]
    assert held_bytes(lists, 1 << 30) > 10_000 * 56
    assert held_bytes({"a": lists, "b": (lists, "text")}, 1 << 30) > 20_000 * 56
    assert 1_000 < held_bytes([lists] * 10_000, 1_000) < 200_000  # it stops where it is too much
    assert held_bytes("a" * 1_000, 1 << 30) > 1_000
