"""The contract every file format keeps, and what each makes of odd files."""

import gzip
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import MissingDataError, UnreadableDataError
from tasks.core.formats import reading, writing
from tasks.core.formats.base import Row
from tasks.core.formats.columns import with_columns
from tasks.core.formats.detection.names import format_of, is_hidden
from tasks.core.formats.registry import FORMATS

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=60)
tables = st.lists(st.fixed_dictionaries({"id": texts, "text": texts}), max_size=30)


def encoded(name: str, rows: list[dict[str, Any]], columns: list[str]) -> bytes:
    buffer = io.BytesIO()
    writing.encode(name, rows, columns, buffer)
    return buffer.getvalue()


def decoded(name: str, content: bytes) -> list[Row]:
    return list(reading.decode(name, io.BytesIO(content)))


@pytest.mark.parametrize("compression", ["", ".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("kind", sorted(FORMATS))
@given(rows=tables)
def test_decode_after_encode_is_the_identity(
    kind: str, compression: str, rows: list[dict[str, str]]
) -> None:
    name = f"reviews.{kind}{compression}"
    content = encoded(name, rows, ["id", "text"])
    assert content == encoded(name, rows, ["id", "text"])  # the same rows, the same bytes
    back = decoded(name, content)
    assert [dict(r.values or {}) for r in back] == rows
    assert [r.number for r in back] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("name", ["a/b.c/reviews.JSONL.gz", "x.json", "x.ndjson"])
def test_names(name: str) -> None:
    assert format_of(name)[0] == "jsonl"


@pytest.mark.parametrize("name", ["reviews", "reviews.txt", "reviews.gz", "jsonl"])
def test_an_unknown_name_says_which_are_known(name: str) -> None:
    with pytest.raises(UnreadableDataError, match=r"jsonl.*parquet"):
        format_of(name)


def test_compression_is_told_by_content() -> None:
    assert len(decoded("plain.jsonl", gzip.compress(b'{"text": "a"}\n'))) == 1
    assert len(decoded("said.to.be.jsonl.gz", b'{"text": "a"}\n')) == 1


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("compression", ["gz", "zst", "bz2"])
def test_a_truncated_file_is_an_error_and_not_a_shorter_file(kind: str, compression: str) -> None:
    name = f"r.{kind}.{compression}"
    content = encoded(name, [{"text": f"review {i * 7919 % 1000}"} for i in range(2000)], ["text"])
    with pytest.raises(UnreadableDataError, match=r"complete"):
        decoded(name, content[: len(content) // 2])


def test_not_parquet() -> None:
    with pytest.raises(UnreadableDataError, match=r"Not readable as parquet.*x\.parquet"):
        decoded("x.parquet", b"PAR1 not really")


def test_csv_tells_empty_texts_from_words_like_null() -> None:
    rows = decoded("r.csv", b'\xef\xbb\xbfid,text\r\n1,""\r\n2,NA\r\n3,null\r\n4,"two\nlines"\r\n')
    assert [r.values["text"] for r in rows if r.values] == ["", "NA", "null", "two\nlines"]


def test_rows_that_cannot_be_read_come_with_a_reason() -> None:
    rows = decoded("r.csv", b"id,text\n1\n2,caf\xe9\n3,fine\n")
    assert [(r.number, r.problem) for r in rows] == [
        (1, "1 fields where the header has 2"),
        (2, "not UTF-8, likely cp1252"),
        (3, ""),
    ]
    rows = decoded("r.jsonl", b'{"text": "a"}\n\nnot json\n[1]\n"\xff"\n{"text": "b"}')
    assert [(r.number, r.problem) for r in rows] == [
        (1, ""), (2, "not JSON"), (3, "not a JSON object"), (4, "not UTF-8; name its encoding"), (5, ""),
    ]  # fmt: skip


def test_an_empty_csv_has_no_header() -> None:
    with pytest.raises(UnreadableDataError, match="header"):
        decoded("r.csv", b"")
    assert decoded("r.jsonl", b"") == []


def test_a_missing_column_lists_those_there_are() -> None:
    rows = decoded("r.jsonl", b'{"review": "a", "stars": 5}')
    with pytest.raises(MissingDataError, match=r"No column 'text'; the columns are: review, stars"):
        list(with_columns(rows, ["text"], "r.jsonl"))


def test_a_row_that_lacks_a_column_does_not_spoil_the_file() -> None:
    rows = decoded("r.jsonl", b'{"id": 1}\nnot json\n{"text": "a"}\n{"id": 2}\n')
    assert list(with_columns(rows, ["text"], "r.jsonl")) == rows
    long = decoded("r.jsonl", b'{"id": 1}\n' * 1500)
    seen: list[Row] = []
    with pytest.raises(MissingDataError, match="No column 'text'"):
        seen.extend(with_columns(long, ["text"], "r.jsonl"))
    assert seen == []


def test_a_review_in_the_place_of_a_header_is_not_shown() -> None:
    rows = decoded("r.csv", b"I told my doctor about it and he laughed out loud at me,1\nx,0\n")
    with pytest.raises(MissingDataError) as caught:
        list(with_columns(rows, ["text"], "r.csv"))
    assert "header?" in str(caught.value) and "laughed" not in str(caught.value)


@pytest.mark.parametrize("name", ["_SUCCESS", "a/_temporary/x.csv", ".crc", "b/.x.parquet.crc"])
def test_hidden_names(name: str) -> None:
    assert is_hidden(name) and not is_hidden("a/b_c.csv")


def test_a_quote_that_is_never_closed_is_an_error_and_not_a_shorter_file() -> None:
    with pytest.raises(UnreadableDataError, match="quote of line 3 is never closed"):
        decoded("r.csv", b'id,text\n1,fine\n2,"never closed\n3,second\n4,third\n')
    rows = decoded("r.csv", b'id,text\n1,"odd"quote\n2,fine\n')
    assert [(r.values is None, r.raw) for r in rows] == [
        (True, b'1,"odd"quote'),
        (False, b"2,fine"),
    ]
    assert "malformed quotes" in rows[0].problem and "1,fine" not in rows[0].problem


def test_a_number_too_long_is_a_row_with_a_problem() -> None:
    (row,) = decoded("r.jsonl", b'{"id": ' + b"9" * 5000 + b"}")
    assert row.problem == "not JSON"


def test_parquet_with_nulls_and_numbers() -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", None], "label": [0, None]}), buffer)
    assert [r.values for r in decoded("p.parquet", buffer.getvalue())] == [
        {"text": "a", "label": 0},
        {"text": None, "label": None},
    ]


def test_a_lone_surrogate_survives_as_an_escape() -> None:
    assert decoded("r.jsonl", encoded("r.jsonl", [{"text": "\ud83d"}], ["text"]))[0].values == {
        "text": "\ud83d"
    }
