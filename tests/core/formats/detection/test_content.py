"""What a file is, what its output is called, and columns within columns."""

import datetime
import gzip
import io
import json
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import MissingDataError, SettingsError, UnreadableDataError
from tasks.core.formats import reading, writing
from tasks.core.formats.base import Kind, Row
from tasks.core.formats.columns import lookup, require_columns, with_columns
from tasks.core.formats.detection.compression import COMPRESSIONS, packed
from tasks.core.formats.detection.content import HEAD_BYTES, detect
from tasks.core.formats.detection.names import format_of, output_name
from tasks.core.formats.registry import FORMATS

JSONL, CSV = b'{"text": "a"}\n', b"id,text\n1,a\n"


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("r.jsonl", JSONL, Kind("jsonl", None, "jsonl")),
        ("r.csv.gz", gzip.compress(CSV, mtime=0), Kind("csv", "gzip", "csv")),
        ("r.csv", JSONL, Kind("jsonl", None, "csv")),
        ("r.csv", b"PAR1\x15\x04", Kind("parquet", None, "csv")),
        ("r.csv", b"PAR1,text\n", Kind("csv", None, "csv")),
        ("r.csv", b"FEA1,text\n", Kind("csv", None, "csv")),
        ("r.csv", b"FEA1\tFEA2\n", Kind("csv", None, "csv", "\t")),
        ("r.csv", b"PARENT,text\n", Kind("csv", None, "csv")),
        ("r.csv", b"PK,text\n", Kind("csv", None, "csv")),
        ("r.parquet", b"PAR1 not really", Kind("parquet", None, "parquet")),
        ("part-00000", gzip.compress(JSONL, mtime=0), Kind("jsonl", "gzip", None)),
        ("a.b/part-00000", b"id\ttext\n", Kind("tsv", None, None)),
        ("r.txt", CSV, Kind("csv", None, None)),
        ("r.csv", b"text\n", Kind("csv", None, "csv")),
        ("r.jsonl", b"", Kind("jsonl", None, "jsonl")),
        ("r.jsonl", b'\n[1]\n{"text": "a"}\n', Kind("jsonl", None, "jsonl")),
        ("r.csv", b'"a;b",text\n1;,2\n', Kind("csv", None, "csv")),
        (
            "r.gz",
            gzip.compress(b'{"text": "' + b"long " * 100_000, mtime=0),
            Kind("jsonl", "gzip", None),
        ),
    ],
)
def test_kinds(name: str, head: bytes, kind: Kind) -> None:
    assert detect(name, head) == kind


def test_feather_is_refused_by_its_content() -> None:
    with pytest.raises(UnreadableDataError, match="an Arrow or Feather file"):
        detect("r.csv", b"FEA1\x00\x00\x00\x00" + bytes(40))


def test_the_head_of_a_large_file_is_enough() -> None:
    lines = b"".join(b'{"text": "%d"}\n' % (i * 7919 % 10007) for i in range(300_000))
    for name in ("r.gz", "r.bz2", "r.zst"):
        buffer = io.BytesIO()
        with packed(buffer, COMPRESSIONS[name[2:]]) as sink:
            sink.write(lines)
        assert detect("reviews", buffer.getvalue()[:HEAD_BYTES]).format == "jsonl"


@pytest.mark.parametrize(
    ("name", "found", "wanted", "output"),
    [
        ("in/a.csv", "csv", "same", "in/a.csv"),
        ("a.CSV.gz", "csv", "same", "a.CSV.gz"),
        ("a.ndjson", "jsonl", "jsonl", "a.ndjson"),
        ("a.csv", "csv", "parquet", "a.csv.parquet"),
        ("a.jsonl", "jsonl", "parquet", "a.jsonl.parquet"),
        ("a.csv.gz", "csv", "jsonl", "a.csv.jsonl.gz"),
        ("a.csv.gz", "csv", "parquet", "a.csv.gz.parquet"),
        ("a.csv", "jsonl", "same", "a.csv.jsonl"),
        ("part-00000", "jsonl", "same", "part-00000.jsonl"),
        ("part-00000.gz", "csv", "same", "part-00000.csv.gz"),
        ("v1.2/part", "csv", "tsv", "v1.2/part.tsv"),
        ("reviews.txt", "csv", "same", "reviews.txt.csv"),
    ],
)
def test_names_of_outputs(name: str, found: str, wanted: str, output: str) -> None:
    assert output_name(name, Kind(found), wanted) == output
    assert format_of(output)[0] == (found if wanted == "same" else wanted)


def test_an_output_of_no_format() -> None:
    with pytest.raises(SettingsError, match=r"'xml' is not an output format.*parquet"):
        output_name("a.csv", Kind("csv"), "xml")


def test_columns_within_columns() -> None:
    values = {
        "review": {"text": "a", "parts": [{"text": "b"}], "x.y": 1},
        "review.text": "exact",
        "a.b": {"c": 2},
        "none": None,
    }
    assert lookup(values, "review.text") == "exact"
    assert lookup(values, "review.parts.0.text") == "b"
    assert lookup(values, "review.x.y") == 1 and lookup(values, "a.b.c") == 2
    for path in ("review.parts.1.text", "review.parts.-1", "none.a", "b", "", ".", "review..text"):
        assert lookup(values, path) is None and lookup(values, path, 5) == 5
    assert lookup(values, "none", 5) is None


def test_paths_are_looked_for_in_rows() -> None:
    rows = [Row(1, {"review": {"title": "t"}}), Row(2, {"review": {"text": "a"}})]
    assert list(with_columns(rows, ["review.text"], "r.jsonl")) == rows
    with pytest.raises(MissingDataError, match=r"No column 'review\.body'; .* review\.title"):
        list(with_columns(rows, ["review.body"], "r.jsonl"))
    require_columns(["review"], ["review.text"], "a data set")
    with pytest.raises(MissingDataError, match=r"No column 'reviews\.text'"):
        require_columns(["review"], ["reviews.text"], "a data set")


ODD: dict[str, Any] = {
    "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    "day": datetime.date(2026, 1, 2),
    "price": Decimal("1.10"),
    "nested": {"b": [1, None, datetime.date(2026, 1, 2)]},
    "bytes": b"ab\xff",
    "nan": math.nan,
    "yes": True,
    "none": None,
    "huge": 2**80,
    "half": "\ud83d!",
    "empty": {},
}


def test_values_of_any_type_go_into_any_format() -> None:
    """As a JSON Lines file shows them; CSV has texts only, Parquet keeps the types that it has."""
    back: dict[str, Any] = {}
    for kind in FORMATS:
        buffers = [io.BytesIO(), io.BytesIO()]
        for buffer in buffers:
            writing.encode(f"o.{kind}", [ODD, ODD], list(ODD), buffer)
        assert buffers[0].getvalue() == buffers[1].getvalue()
        buffers[0].seek(0)
        back[kind] = [row.values for row in reading.decode(f"o.{kind}", buffers[0])][1]
    assert back["jsonl"] == {
        "at": "2026-01-02T03:04:05.000006+00:00",
        "day": "2026-01-02",
        "price": "1.10",
        "nested": {"b": [1, None, "2026-01-02"]},
        "bytes": "YWL/",
        "nan": None,
        "yes": True,
        "none": None,
        "huge": 2**80,
        "half": "\ud83d!",
        "empty": {},
    }
    assert back["csv"] == back["tsv"]
    assert back["csv"]["nested"] == '{"b": [1, null, "2026-01-02"]}'
    assert (back["csv"]["yes"], back["csv"]["none"], back["csv"]["price"]) == ("true", "", "1.10")
    for name in ("at", "day", "price", "bytes", "yes", "none"):
        assert back["parquet"][name] == ODD[name]
    assert json.loads(back["parquet"]["nested"])["b"][2] == "2026-01-02"
    assert (back["parquet"]["empty"], back["parquet"]["half"]) == ("{}", "?!")
    assert int(back["parquet"]["huge"]) == 2**80


def test_nanoseconds_are_kept() -> None:
    buffer = io.BytesIO()
    times = pa.array([1_000, 1], pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"at": times}), buffer)
    rows = list(reading.decode("r.parquet", io.BytesIO(buffer.getvalue())))
    output = io.BytesIO()
    writing.encode("o.jsonl", [dict(row.values or {}) for row in rows], ["at"], output)
    assert output.getvalue().count(b"1970-01-01") == 2 and b"000000001" in output.getvalue()


def test_gzip_says_no_time() -> None:
    output = io.BytesIO()
    writing.encode("o.csv.gz", [{"a": 1}], ["a"], output)
    assert output.getvalue()[4:8] == bytes(4)


def test_two_columns_of_one_name_in_parquet() -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), buffer)
    buffer.seek(0)
    with pytest.raises(UnreadableDataError, match="two columns are called 'text'"):
        list(reading.decode("r.parquet", buffer))
