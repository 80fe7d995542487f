"""What is held at once: all of it counts, readable or not, and an object that is the wrong one is given up early."""

import gzip
import io
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.faults.parts import CharacterEncoder
from tasks.core.errors import MissingDataError, UnreadableDataError, ValidationError
from tasks.core.formats import columns, reading, writing
from tasks.core.formats.base import MOST_COLUMNS, Row
from tasks.core.formats.columns import with_columns
from tasks.core.scoring import predict
from tasks.core.scoring.plan import Columns
from tasks.core.scoring.predict import End, Review


class CountingEngine:
    """Says how many reviews were handed to it at once."""

    label_names = ("a", "b")

    def __init__(self) -> None:
        self.windows: list[int] = []

    def logits(self, input_ids: Any) -> Any:
        self.windows.append(len(input_ids))
        return np.zeros((len(input_ids), 2), np.float32)


def reviews(count: int, kept: Any) -> Iterator[Review | End]:
    columns = Columns(keep=["x"])
    for number in range(count):
        row = Row(number + 1, {"text": f"review {number}", "x": kept})
        yield predict.to_review(row, columns)
    yield End()


@pytest.mark.parametrize(
    ("kept", "windows"),
    [("short", [40]), ("x" * (3 << 20), [3] * 13 + [1]), ([[]] * 50_000, [3] * 13 + [1])],
)
def test_columns_that_go_along_fill_a_window(kept: Any, windows: list[int]) -> None:
    engine: Any = CountingEngine()
    encoder: Any = CharacterEncoder()
    found = list(predict.score([reviews(40, kept)], encoder, engine, 1_000))
    assert engine.windows == windows and len(found) == 41


def test_a_row_that_keeps_too_much_is_rejected() -> None:
    row = Row(1, {"text": "fine", "x": [[] for _ in range(1_500_000)]}, raw=b"the row")
    review = predict.to_review(row, Columns(keep=["x"]))
    assert review.problem == "kept columns of more than 64 MiB in memory"
    assert (review.kept, review.raw) == ((), b"the row")
    assert predict.to_review(row, Columns()).problem == ""


@pytest.mark.parametrize("name", ["text", "id"])
def test_a_text_that_a_format_lets_through_is_not_scored(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "LONGEST_RECORD", 100)
    values = {"text": "fine", "id": "7"}
    assert predict.to_review(Row(1, values), Columns()).problem == ""
    review = predict.to_review(Row(1, values | {name: "a" * 100}), Columns())
    assert (review.id, review.text, review.raw) == ("1", "", b"")
    assert review.problem == "longer than 16 MiB"


def test_rejects_end_an_object_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "_ROWS_TO_JUDGE", 10)
    bad = [Review(n, "", "", "not JSON") for n in range(5)]
    good = [Review(n, "", "fine") for n in range(100)]
    assert list(predict.within_fraction([*bad, *good, *bad], 0.5, "x")) == [*bad, *good, *bad]
    assert list(predict.within_fraction(bad, 0.5, "x")) == bad  # few: judged at the end
    with pytest.raises(ValidationError, match=r"6 of its first 10 rows.*not JSON.*\[x\]"):
        list(predict.within_fraction([*bad, *good[:4], *bad], 0.5, "x"))
    assert len(list(predict.within_fraction(bad * 9, 1.0, "x"))) == 45


def test_rows_that_are_held_for_a_column_are_few_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_MOST_ROWS_HELD", 10)
    monkeypatch.setattr(columns, "_MOST_BYTES_HELD", 10_000)
    unreadable = [Row(n, None, "not JSON", raw=b"x") for n in range(1, 10)]
    readable = Row(10, {"text": "fine"})
    found = with_columns([*unreadable, readable, *unreadable * 9], ["text"], "f")
    assert len(list(found)) == 9 * 10 + 1
    with pytest.raises(UnreadableDataError, match=r"first 10 rows.*the first: not JSON \[f\]"):
        list(with_columns(unreadable * 2, ["text"], "f"))
    large = [Row(n, None, "odd", raw=b"x" * 4_000) for n in range(1, 5)]
    with pytest.raises(UnreadableDataError, match="first 3 rows"):
        list(with_columns(large, ["text"], "f"))
    nested = [Row(n, {"x": [[]] * 100}) for n in range(1, 5)]
    with pytest.raises(MissingDataError, match="No column 'text'"):
        list(with_columns([*nested, readable], ["text"], "f"))
    other = Row(1, {"x": 1})
    assert list(with_columns([other, readable, *unreadable * 9], ["text"], "f"))
    with pytest.raises(MissingDataError, match="No column 'text'; the columns are: x"):
        list(with_columns([other, *unreadable, readable], ["text"], "f"))


def test_every_row_that_is_held_counts_itself() -> None:
    number = 10**6  # each of its own, as numbers of rows are
    tracemalloc.start()
    held = [Row(number + n, None, "not JSON", 10**9 + n, b"x") for n in range(5_000)]
    taken = tracemalloc.get_traced_memory()[0] / len(held)
    tracemalloc.stop()
    assert taken < columns._ROW_BYTES + len(held[0].raw) + 40


def test_nothing_is_read_beyond_what_shows_that_it_is_the_wrong_file() -> None:
    stream = io.BytesIO(gzip.compress(b"x\n" * 2_000_000))
    rows = reading.decode("f.jsonl.gz", stream)
    with pytest.raises(UnreadableDataError, match="None of its first 10,000 rows"):
        list(with_columns(rows, ["text"], "f.jsonl.gz"))


def test_columns_have_a_bound_in_every_format() -> None:
    many = {f"c{n}": "x" for n in range(MOST_COLUMNS + 1)}
    for name in ("r.csv", "r.tsv", "r.parquet", "r.jsonl"):
        buffer = io.BytesIO()
        writing.encode(name, [many], list(many), buffer)
        buffer.seek(0)
        if name == "r.jsonl":
            assert next(reading.decode(name, buffer)).problem == "more than 4,096 columns"
            continue
        with pytest.raises(UnreadableDataError, match=r"4,097 columns; the limit is 4,096"):
            list(reading.decode(name, buffer))
        few = dict(list(many.items())[1:])
        buffer = io.BytesIO()
        writing.encode(name, [few], list(few), buffer)
        buffer.seek(0)
        assert next(reading.decode(name, buffer)).values == few
