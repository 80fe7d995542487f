"""Small files that ended a night or filled the memory."""

import gzip
import io
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.formats.detection.compression import packed
from tests.cases.case import Case, Files, Found, both, done, fails, scored
from tests.core.formats.packings import pzstd, zipped

_TEXTS = ("I liked it very much", "It was a waste of time")
MIB = 1 << 20


def good(name: str) -> bytes:
    """Two good reviews as JSON Lines."""
    rows = [{"id": f"{name}{n}", "text": text} for n, text in enumerate(_TEXTS, start=1)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def beside_good(name: str, content: Callable[[], bytes]) -> Callable[[], Files]:
    """A hostile file between two good ones."""
    return lambda: {"a.jsonl": good("a"), name: content(), "c.jsonl": good("c")}


def table(columns: dict[str, Any], **options: Any) -> bytes:
    """A Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", **options)
    return buffer.getvalue()


def with_times(kind: Any, values: list[int]) -> Callable[[], bytes]:
    """Two reviews with a column of times."""
    texts = {"id": ["b1", "b2"], "text": ["good one", "bad one"]}
    return lambda: table(texts | {"valid_until": pa.array(values, kind)})


_ZONE = with_times(pa.timestamp("us", "tzutc()"), [1_700_000_000_000_000, 1])
_DATE = with_times(
    pa.timestamp("us"), [1_700_000_000_000_000, 400_000_000_000_000_000]
)  # year 14,645


_IN_TEXT = ("2023-11-14T22:13:20", "2023-11-14T22:13:20.000000001")


def end_of_time() -> bytes:
    """A review with a time of 96 bits."""
    end = pa.array([253_402_214_400_000_000], pa.timestamp("us"))  # 9999-12-31
    return table(
        {"id": ["b1"], "text": ["good one"], "valid_until": end},
        use_deprecated_int96_timestamps=True,
    )


def nanoseconds() -> bytes:
    """Two reviews, the time of one of which ends in a nanosecond."""
    times = [1_700_000_000 * 10**9, 1_700_000_000 * 10**9 + 1]
    kind = pa.timestamp("ns")
    columns = {
        "valid_until": pa.array(times, kind),
        "seen": pa.array([[t] for t in times], pa.list_(kind)),
    }
    return table({"id": ["b1", "b2"], "text": ["good one", "bad one"], **columns})


def dictionary_bomb(**options: Any) -> Callable[[], bytes]:
    """2,048 rows of one text of 4 MB: 8 GB in 600 bytes."""
    big = pa.array(["a" * 4_000_000])
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 2048, pa.int32()), big)
    return lambda: table({"text": rows}, use_dictionary=True, **options)


def list_bomb() -> bytes:
    """One row with a list of 2,048 texts of 4 MB."""
    big = pa.DictionaryArray.from_arrays(
        pa.array([0] * 2048, pa.int32()), pa.array(["a" * 4_000_000])
    )
    lists = pa.ListArray.from_arrays(pa.array([0, 2048], pa.int32()), big)
    return table({"text": ["good one"], "tags": lists}, store_schema=False)


def views_behind_gz() -> bytes:
    """12 reviews of 250 MB that were views in Arrow, beside 60 MB of zeros, all of it in 60 kB."""
    text = pa.array(["a" * 250_000_000], pa.string_view())
    review = pa.table({"text": text, "x": [bytes(5_000_000)]})
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        review.schema,
        use_dictionary=["text"],
        compression={"text": "zstd", "x": "none"},
    ) as writer:
        for _ in range(12):
            writer.write_table(review)
    return gzip.compress(buffer.getvalue(), mtime=0)


def nulls(rows: int = 50_000_000) -> bytes:
    """Parquet of as many rows without anything, which has no bytes for them; gzip makes it 1 kB."""
    return gzip.compress(table({name: pa.nulls(rows) for name in ("text", "label")}), mtime=0)


def letters(rows: int = 12_000_000) -> bytes:
    """Parquet of as many reviews of one letter."""
    texts = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int8), pa.array(["a"]))
    return table({"text": texts, "label": pa.array(np.arange(rows) % 2 == 0)})


def columns(number: int) -> Callable[[], bytes]:
    """Parquet with so many columns."""
    return lambda: table({"text": ["x"], **{f"c{n}": ["x"] for n in range(number - 1)}})


def lists_in_a_row() -> bytes:
    """A row of 16 MB of empty lists, which are half a gigabyte of objects."""
    lists = "[]," * (16 * MIB // 3 - 100) + "[]"
    odd = f'{{"id": "b1", "text": "good one", "tags": [{lists}]}}\n'
    return (odd + '{"id": "b2", "text": "bad one", "tags": []}\n').encode()


def as_pzstd() -> bytes:
    """Two good reviews in a frame each, as the parallel zstd writes them."""
    return pzstd(*good("b").splitlines(keepends=True))


def archive(*names: str) -> bytes:
    """A zip archive of files of these names."""
    return zipped(b"id,text\n1,good one\n", *names)


def large_columns() -> bytes:
    """700 reviews, each with 1.5 MB in a column that goes along, in about 8 MB."""
    draw = random.Random(0)
    buffer = io.BytesIO()
    with packed(buffer, "zstd") as sink:
        for number in range(700):
            note = draw.randbytes(10_000).hex() + "x" * 1_500_000
            row = {"id": str(number), "text": f"{_TEXTS[number % 2]}, {number}", "note": note}
            sink.write(json.dumps(row).encode() + b"\n")
    return buffer.getvalue()


def no_json(rows: int = 20_000_000) -> Callable[[], bytes]:
    """Lines that are no JSON."""
    return lambda: gzip.compress(b"x\n" * rows, mtime=0)


def good_files() -> Files:
    """2,000 reviews in each format."""
    rows = [{"id": str(n), "text": f"{_TEXTS[n % 2]}, {n}. " * 30} for n in range(2_000)]
    csv = "id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in rows)
    return {
        "lines.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "table.csv": csv.encode(),
        "table2.parquet": table({name: [row[name] for row in rows] for name in rows[0]}),
    }


GOOD = Case(
    "good",
    "",
    "6,000 rows; what the others are measured by",
    good_files,
    both(done, scored(lines=2_000, table=2_000, table2=2_000)),
)
_TRAINED = ("retrain", "--data.source.location", "{input}", "--registration.model-name", "never")
_BESIDE = scored(a=2, c=2)


def _zone_is_carried(found: Found) -> str:
    kept = found.content.get("b.parquet", b"")
    column = pq.read_table(io.BytesIO(kept)).column("valid_until") if kept else pa.array([""])
    times = column.cast(pa.string()).to_pylist()  # Python has no year 14,645
    whole = len(times) == 2 and times[0].startswith("2023-11-14")
    return "" if whole or found.rejected.get("b.parquet") == 2 else f"valid_until is {times}"


def kept_is(*texts: str) -> Callable[[Found], str]:
    """These are the values of `valid_until`, in order."""

    def wrong(found: Found) -> str:
        name, content = next(iter(found.content.items()), ("", b""))
        if name.endswith(".parquet"):
            rows: list[Any] = pq.read_table(io.BytesIO(content)).to_pylist()
            kept = [row["valid_until"].isoformat() for row in rows]
        else:
            kept = [json.loads(line)["valid_until"] for line in content.splitlines()]
        return "" if kept == list(texts) else f"valid_until is {kept}"

    return wrong


CASES = [
    Case("zone", "UnknownTimeZoneError, the run dies", "6 rows; the column was not asked for",
         beside_good("b.parquet", _ZONE), both(done, scored(a=2, b=2, c=2))),
    Case("zone-kept", "the same", "6 rows, the value as text; or its rows rejected with the reason",
         beside_good("b.parquet", _ZONE), both(done, _zone_is_carried),
         ("score", "--keep-columns", "valid_until", "--input", "{input}b.parquet")),
    Case("date", "OverflowError, the run dies", "6 rows; the column was not asked for",
         beside_good("b.parquet", _DATE), both(done, scored(a=2, b=2, c=2))),
    Case("date-kept", "the same", "2 rows with the value",
         beside_good("b.parquet", _DATE), both(done, _zone_is_carried),
         ("score", "--keep-columns", "valid_until", "--input", "{input}b.parquet")),
    Case("int96", "1816-03-29", "9999-12-31T00:00:00",
         beside_good("b.parquet", end_of_time), both(done, kept_is("9999-12-31T00:00:00")),
         ("score", "--keep-columns", "valid_until", "--input", "{input}b.parquet")),
    Case("int96-text", "1816-03-29", "9999-12-31T00:00:00 in JSON Lines",
         beside_good("b.parquet", end_of_time), both(done, kept_is("9999-12-31T00:00:00")),
         ("score", "--keep-columns", "valid_until", "--input", "{input}b.parquet", "--output-format", "jsonl")),
    Case("nanoseconds-kept", "the first without, the others with nine digits; cut in lists", "each in its own form",
         lambda: {"b.parquet": nanoseconds()},
         both(done, kept_is(*_IN_TEXT)),
         ("score", "--keep-columns", "valid_until,seen", "--output-format", "jsonl")),
    Case("bomb", "9 GB, the process aborts", "a and c scored, b fails by name",
         beside_good("b.parquet", dictionary_bomb()), both(fails("b.parquet", "200 times"), _BESIDE)),
    Case("bomb-plain", "9 GB", "the same without Arrow's schema in the file",
         beside_good("b.parquet", dictionary_bomb(store_schema=False)),
         both(fails("b.parquet", "200 times"), _BESIDE)),
    Case("bomb-list", "9 GB", "one row that holds too much, not asked for: 5 rows",
         beside_good("b.parquet", list_bomb), both(done, scored(a=2, b=1, c=2))),
    Case("commas", "44 s of a core", "an error at once",
         beside_good("b.csv", lambda: b"," * 80_000 + b"\n"),
         both(fails("b.csv", "80,001 columns"), _BESIDE), most_seconds=20.0),
    Case("columns", "7 s", "an error at once",
         beside_good("b.parquet", columns(20_000)),
         both(fails("b.parquet", "20,000 columns"), _BESIDE), most_seconds=20.0),
    Case("nojson", "3 GB, 143 s", "a and c scored, b fails by name",
         beside_good("b.jsonl.gz", no_json()), both(fails("b.jsonl.gz", "not JSON"), _BESIDE)),
    Case("nojson-behind", "3 GB", "the same behind a good row",
         beside_good("b.jsonl.gz", lambda: gzip.compress(good("b") + b"x\n" * 20_000_000, mtime=0)),
         both(fails("b.jsonl.gz", "cannot be scored"), _BESIDE)),
    Case("views", "3.9 GB, not done in 3 minutes", "a and c scored, b fails by name",
         beside_good("b.parquet.gz", views_behind_gz), both(fails("b.parquet.gz", "200 times"), _BESIDE)),
    Case("nojson-other", "3 GB", "a and c scored, b fails by name",
         beside_good("b.jsonl.gz", lambda: gzip.compress(b'{"x": 1}\n' + b"x\n" * 20_000_000, mtime=0)),
         both(fails("b.jsonl.gz", "No column 'text'"), _BESIDE)),
    Case("kept", "2.4 GB", "700 rows with all they bring along",
         lambda: {"b.jsonl.zst": large_columns()}, both(done, scored(b=700)),
         ("score", "--keep-columns", "note"), most_seconds=120.0),
    Case("lists", "510 MiB a row", "b1 is rejected, all others are scored",
         lambda: {"b.jsonl": lists_in_a_row()}, both(done, scored(b=1)),
         ("score", "--keep-columns", "tags")),
    Case("pzstd", "neither text nor any other format", "6 rows",
         beside_good("b.jsonl.zst", as_pzstd), both(done, scored(a=2, b=2, c=2))),
    Case("workbook", "a zip archive or an Excel workbook", "said what it is, and what to do",
         beside_good("b.xlsx", lambda: archive("[Content_Types].xml", "xl/workbook.xml")),
         both(fails("b.xlsx", "is an Excel workbook", "CSV UTF-8"), _BESIDE)),
    Case("archive", "a zip archive or an Excel workbook", "said what it is, and what to do",
         beside_good("b.csv", lambda: archive("reviews.csv")),
         both(fails("is a zip archive", "though its name says CSV", "unzip b.csv"), _BESIDE)),
    Case("workbook-trained", "cannot tell the format from the name", "said what it is, and what to do",
         lambda: {"train.xlsx": archive("xl/workbook.xml")}, fails("is an Excel workbook", "CSV UTF-8"), _TRAINED),
    Case("bomb-trained", "9 GB", "an error that names the file",
         lambda: {"train.parquet": dictionary_bomb()()}, fails("200 times"),
         (*_TRAINED, "--data.source.label-column", "text")),
    Case("nulls-trained", "7 GB", "an error that names the file",
         lambda: {"train.parquet.gz": nulls()}, fails("200 times", "train.parquet.gz"), _TRAINED),
    Case("letters-trained", "2.5 GB", "an error that names the file",
         lambda: {"train.parquet": letters()}, fails("200 times", "train.parquet"), _TRAINED),
    Case("rows-trained", "4 GB", "an error that names the file",
         lambda: {"train.jsonl.gz": gzip.compress(
             b'{"text": "a", "label": "b"}\n' + b"{}\n" * 20_000_000, mtime=0)},
         fails("200 times", "train.jsonl.gz"), _TRAINED),
    Case("nojson-trained", "3 GB", "an error that names the file",
         lambda: {"train.jsonl.gz": no_json()()}, fails("not JSON", "train.jsonl.gz"), _TRAINED),
]  # fmt: skip
