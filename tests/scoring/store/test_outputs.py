"""Predictions of an object as a file: the types of their columns are those of the input, whatever rows there are."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.formats import reading
from tasks.core.formats.base import Row
from tasks.core.scoring.plan import Columns
from tasks.core.scoring.predict import End, Prediction, Result, to_review
from tasks.core.scoring.sharding import Entry
from tasks.scoring.store.outputs import Output
from tests.core.scoring.scoring_runs import scoring_run

_TIMES = pa.array([1_700_000_000_000_000_001, None, 0], pa.timestamp("ns"))
_MADE = {
    "input": "string",
    "row": "int64",
    "id": "string",
    "label": "string",
    "score": "double",
    "probability_neg": "double",
    "probability_pos": "double",
    "model": "string",
    "model_version": "string",
}


def predictions(folder: Path, keep: Sequence[str], **columns: Any) -> Any:
    """The output of a Parquet file with these columns; rows without a text are rejected."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=2)
    known = Columns(keep=list(keep))
    asked_for = [known.text, known.id, *keep]

    def results() -> Any:
        for row in reading.decode("b.parquet", buffer, columns=asked_for):
            review = to_review(row, known)
            made: Result = (
                review if review.problem else Prediction(review, "pos", 0.75, [0.25, 0.75])
            )
            yield made
        yield End()

    buffer.seek(0)
    entry = Entry("b.parquet", len(buffer.getvalue()), "etag")
    output = Output(scoring_run(columns=known), entry, folder / "out", ["neg", "pos"])
    output.encode(results())
    assert output.error is None
    return pq.read_table(output.path)


def test_what_goes_along_keeps_its_type(tmp_path: Path) -> None:
    nested = pa.array([{"at": [1]}, None, {"at": []}], pa.struct([("at", pa.list_(pa.int8()))]))
    found = predictions(
        tmp_path,
        ["seen", "log", "log.at", "price"],
        text=["good", None, "bad"],
        seen=_TIMES,
        log=nested,
        price=pa.array([1, 2, 3], pa.uint16()),
    )
    kept = {
        "seen": _TIMES.type,
        "log": nested.type,
        "log.at": pa.list_(pa.int8()),
        "price": pa.uint16(),
    }
    assert {name: str(found.schema.field(name).type) for name in _MADE} == _MADE
    for name, kind in kept.items():
        assert str(found.schema.field(name).type).replace("element", "item") == str(kind)
    assert found.column("seen").cast(pa.int64()).to_pylist() == [1_700_000_000_000_000_001, 0]
    assert found.column("log").to_pylist() == [{"at": [1]}, {"at": []}]
    assert found.column("log.at").to_pylist() == [[1], []]


def test_columns_have_their_types_where_no_row_is_scored(tmp_path: Path) -> None:
    found = predictions(tmp_path, [], text=pa.array([None, ""], pa.string()))
    assert found.num_rows == 0
    assert {name: str(found.schema.field(name).type) for name in _MADE} == _MADE


def test_rows_that_are_neither_scored_nor_rejected_fail_the_object(tmp_path: Path) -> None:
    row = Row(1, {"text": "good"})
    made = Prediction(to_review(row, Columns()), "pos", 0.75, [0.25, 0.75])
    output = Output(scoring_run(), Entry("b.jsonl", 9, "etag"), tmp_path / "out", ["neg", "pos"])
    output.encode(iter([made, End(rows=2)]))
    assert "2 rows were read, and 1 scored or rejected [s3://b/in/b.jsonl]" in str(output.error)


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (_TIMES[:1].take([0, 0]), ["2023-11-14T22:13:20.000000001"] * 2),
        (pa.array([7, None]), ["7", "2"]),
    ],
)
def test_an_id_is_the_text_of_its_value(ids: Any, texts: list[str], tmp_path: Path) -> None:
    found = predictions(tmp_path, [], text=["good", "bad"], id=ids)
    assert found.column("id").to_pylist() == texts
