"""CSV and TSV that people open in a spreadsheet: no cell is a formula, and each can be read back."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.formats import reading, writing
from tasks.core.formats.delimited.formulas import guarded, unguarded
from tasks.core.scoring.sharding import Entry
from tests.core.scoring.scoring_runs import scoring_run

FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "=cmd|' /C calc'!A0",
    "-",
    "+a",
]
PLAIN = ["", "a=b", "1", "-1.5", "+2", "-1e-05", " =1", "'quoted'", "評論"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_a_text(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("value", [*PLAIN, -1.5, -3, None, True])
def test_other_values_stay(value: Any) -> None:
    assert guarded(value) == value


@given(st.text(alphabet="'=+-@\t\r\n1.ax", max_size=8))
def test_what_was_guarded_can_be_read_back(text: str) -> None:
    cell = guarded(text)
    assert unguarded(cell) == text
    assert not cell.startswith(("=", "@", "\t", "\r", "\n")), cell


@given(st.lists(st.text(alphabet="'=+-@1.a", max_size=6), unique=True, max_size=30))
def test_two_texts_never_become_one(texts: list[str]) -> None:
    assert len({guarded(text) for text in texts}) == len(texts)


def written(name: str, guard: bool) -> list[dict[str, Any]]:
    rows = [{"id": "=1+1", "score": -0.5, "kept": ["-x"], "=head": "-2.5"}]
    stream = io.BytesIO()
    writing.encode(name, rows, ["id", "score", "kept", "=head"], stream, guard=guard)
    stream.seek(0)
    return [dict(row.values or {}) for row in reading.decode(name, stream)]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.csv.gz"])
def test_cells_and_headers_are_guarded_in_csv_and_tsv(name: str) -> None:
    (row,) = written(name, guard=True)
    assert row == {"id": "'=1+1", "score": "-0.5", "kept": '["-x"]', "'=head": "-2.5"}
    (row,) = written(name, guard=False)
    assert row["id"] == "=1+1" and "=head" in row


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_other_formats_are_not_touched(name: str) -> None:
    assert written(name, guard=True) == written(name, guard=False)


# Digests of the version before there was a guard.
BEFORE = {
    "a.jsonl": "d166bace380d699f3bdd28940766b3bd",
    "a.csv": "64d8b0a0428d0aba8204e9c19451f190",
    "a.parquet": "50b372b3a5e17e5124e9af8fb6cd5956",
}


@pytest.mark.parametrize("key", BEFORE)
def test_what_the_guard_does_not_change_is_found_again(key: str) -> None:
    entry = Entry(key, 10, "etag")
    assert scoring_run().fingerprint(entry) == BEFORE[key], "a run of before"
    guards = key == "a.csv"
    assert (scoring_run(csv_formula_guard=True).fingerprint(entry) == BEFORE[key]) is not guards
    plain, as_csv = (
        scoring_run(output_format="csv"),
        scoring_run(output_format="csv", csv_formula_guard=True),
    )
    assert as_csv.fingerprint(entry) != plain.fingerprint(entry)
