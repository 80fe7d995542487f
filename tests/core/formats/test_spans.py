"""Spans of a file are the file: the same rows with the same numbers, offsets, bytes and problems."""

import bz2
import dataclasses
import gzip
import io
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UnreadableDataError
from tasks.core.formats import jsonl, reading, writing
from tasks.core.formats.base import Row, Span
from tasks.core.formats.delimited import delimited_format, physical_lines
from tasks.core.formats.detection.compression import packed
from tasks.core.formats.registry import FORMATS


def zstd(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with packed(buffer, "zstd") as sink:
        sink.write(content)
    return buffer.getvalue()


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstd,
    ".bz2": bz2.compress,
}
ends = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n", b"\r"])
json_lines = st.one_of(
    st.builds(lambda t: json.dumps({"text": t}).encode(), st.text(max_size=20)),
    st.sampled_from(
        [b"not json", b"[1]", b'"\xff"', b"", b"  ", b"\xef\xbb\xbf", b'{"a": 1,\r"b": 2}']
    ),
)
csv_records = st.one_of(
    st.builds(lambda t: b'%d,"%s"' % (len(t), t.replace('"', '""').encode()), st.text(
        st.characters(exclude_categories=("Cs",)), max_size=20)),
    st.sampled_from([b"1,a", b'1,"two\nlines"', b'1,"two\r\nlines\r"', b"1", b"1,2,3", b'1,"odd"quote',
                     b"1,\xff", b'1,a"b', b"", b'""', b'"x\n"y,"z', b"a\tb"]),
)  # fmt: skip


def laid_out(records: list[tuple[bytes, bytes]], last: bool) -> bytes:
    content = b"".join(record + end for record, end in records)
    return content + b"1,end" * last


def rows_of(name: str, content: bytes) -> list[Row]:
    return list(reading.decode(name, io.BytesIO(content)))


def rows_by_span(name: str, content: bytes, part_bytes: int) -> list[Row]:
    """As a task does it that was handed the span as JSON and reads only what it asks for."""
    rows: list[Row] = []
    for span in reading.cut(name, io.BytesIO(content), part_bytes):
        given_span = Span(**json.loads(json.dumps(dataclasses.asdict(span))))
        assert given_span == span
        part = content[slice(*span.byte_range)] if span.byte_range else content
        rows += reading.decode(name, io.BytesIO(part), given_span)
    return rows


def check(name: str, content: bytes, part_bytes: int, unpacked: bytes | None) -> None:
    try:
        whole = rows_of(name, content)
    except UnreadableDataError:
        with pytest.raises(UnreadableDataError):
            reading.cut(name, io.BytesIO(content), part_bytes)
        return
    assert rows_by_span(name, content, part_bytes) == whole
    for row in whole if unpacked is not None else ():
        assert unpacked[row.offset : row.offset + len(row.raw)] == row.raw


@pytest.mark.parametrize("compression", sorted(COMPRESSED))
@given(st.lists(st.tuples(json_lines, ends), max_size=12), st.integers(0, 60), st.booleans())
def test_spans_of_json_lines(
    compression: str, records: list[tuple[bytes, bytes]], part_bytes: int, last: bool
) -> None:
    content = laid_out([(b'{"text": "first"}', b"\n"), *records], last)
    check(f"r.jsonl{compression}", COMPRESSED[compression](content), part_bytes, content)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("compression", sorted(COMPRESSED))
@given(st.lists(st.tuples(csv_records, ends), max_size=12), st.integers(0, 60), st.booleans())
def test_spans_of_csv(
    compression: str,
    bom: bytes,
    records: list[tuple[bytes, bytes]],
    part_bytes: int,
    last: bool,
) -> None:
    content = bom + laid_out([(b"id,text", b"\r\n"), *records], last)
    check(f"r.csv{compression}", COMPRESSED[compression](content), part_bytes, content)


tsv_records = st.sampled_from(
    [
        b"1\ta",
        b'2\t"two\nlines"',
        b'3\t"a',
        b'4\tb"',
        b'5\t"odd" one',
        b"6",
        b"",
        b'"all\tof"\t"it\n"',
        b'"\t"',
    ]
)


@pytest.mark.parametrize("header", [b"id\ttext", b'"id"\t"text"', b"text"])
@pytest.mark.parametrize("compression", ["", ".gz"])
@given(st.lists(st.tuples(tsv_records, ends), max_size=12), st.integers(0, 60), st.booleans())
def test_spans_of_tsv(
    header: bytes, compression: str, records: list[tuple[bytes, bytes]], part_bytes: int, last: bool
) -> None:
    content = laid_out([(header, b"\n"), *records], last)
    check(f"r.tsv{compression}", COMPRESSED[compression](content), part_bytes, content)


@pytest.mark.parametrize("compression", ["", ".gz"])
@given(st.lists(st.text(max_size=9), max_size=30), st.integers(1, 9), st.integers(0, 400))
def test_spans_of_parquet(compression: str, texts: list[str], group: int, part_bytes: int) -> None:
    texts = [t.encode("utf-8", "replace").decode() for t in texts]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), buffer, row_group_size=group)
    content = COMPRESSED[compression](buffer.getvalue())
    check(f"r.parquet{compression}", content, part_bytes, None)
    rows = rows_of("r.parquet", content)
    assert [(r.number, r.offset) for r in rows] == [(i + 1, i) for i in range(len(texts))]


def test_a_span_is_a_range_read_where_the_bytes_allow_it() -> None:
    content = b"id,text\n" + b"1,a\n" * 100
    spans = reading.cut("r.csv", io.BytesIO(content), 100)
    assert [s.byte_range for s in spans] == [(8, 108), (108, 208), (208, 308), (308, 408)]
    assert [s.first_row for s in spans] == [1, 26, 51, 76] and spans[0].columns == ("id", "text")
    assert reading.cut("r.csv", io.BytesIO(gzip.compress(content)), 100)[1].byte_range is None
    (small,) = reading.cut("r.csv", io.BytesIO(content), 1000)
    assert (small.rows, small.byte_range) == (100, (8, 408))


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_files_larger_than_what_is_read_at_once(name: str) -> None:
    rows = [{"id": i, "text": f"review {i}\r\nof two lines, " * (i % 40)} for i in range(9000)]
    buffer = io.BytesIO()
    writing.encode(name, rows, ["id", "text"], buffer)
    assert len(buffer.getvalue()) > 3_000_000
    check(name, buffer.getvalue(), 700_000, buffer.getvalue())
    assert [int(r.values["id"]) for r in rows_of(name, buffer.getvalue()) if r.values] == list(
        range(9000)
    )


def test_a_span_of_a_file_that_has_changed_is_an_error() -> None:
    content = b'{"text": "a"}\n' * 10
    span = reading.cut("r.jsonl", io.BytesIO(content), 50)[0]
    with pytest.raises(UnreadableDataError, match="it has 3 rows here, but had 4"):
        list(reading.decode("r.jsonl", io.BytesIO(content[: 3 * 14]), span))


@pytest.mark.parametrize("compression", sorted(COMPRESSED))
@pytest.mark.parametrize("kind", sorted(FORMATS))
@given(st.lists(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=9), max_size=4),
                min_size=1, max_size=5))  # fmt: skip
def test_joined_parts_are_the_whole(kind: str, compression: str, texts: list[list[str]]) -> None:
    name, parts = f"out.{kind}{compression}", list[io.BytesIO]()
    for index, part in enumerate(texts):
        parts.append(io.BytesIO())
        rows = [{"row": i, "text": text} for i, text in enumerate(part)]
        writing.encode(name, rows, ["row", "text"], parts[-1], header=index == 0)
    outputs = [joined(name, parts), joined(name, parts)]
    assert outputs[0] == outputs[1]
    back = rows_of(name, outputs[0])
    assert [r.values["text"] for r in back if r.values] == [t for part in texts for t in part]
    assert [r.number for r in back] == list(range(1, len(back) + 1))


def joined(name: str, parts: list[io.BytesIO]) -> bytes:
    output = io.BytesIO()
    for part in parts:
        part.seek(0)
    writing.join(name, parts, output)
    return output.getvalue()


@pytest.mark.parametrize("compression", [c for c in COMPRESSED if c])
def test_files_of_several_members(compression: str) -> None:
    pack = COMPRESSED[compression]
    first, second = pack(b'{"text": "a"}\n' * 500), pack(b'{"text": "b"}\n' * 500)
    assert len(rows_of("r.jsonl", first + second)) == 1000
    for content in (first + second[:-5], first + second[:3], first + b"what is this?"):
        with pytest.raises(UnreadableDataError, match=r"Not readable as jsonl.*complete"):
            rows_of("r.jsonl", content)


def test_types_that_show_late_do_not_break_parquet() -> None:
    early = [{"a": None, "b": 1, "c": 1, "d": {"x": 1}} for _ in range(20_000)]
    late = [
        {"a": "text", "b": 0.5, "c": "1", "d": {"y": {}}},
        {"a": "z", "b": 2**60, "c": 2, "d": []},
    ]
    buffer = io.BytesIO()
    writing.encode("o.parquet", early + late, list("abcd"), buffer)
    rows = [r.values for r in rows_of("o.parquet", buffer.getvalue()) if r.values]
    assert [r["a"] for r in rows[-3:]] == [None, "text", "z"] and len(rows) == 20_002
    assert rows[0]["c"] == "1" and rows[-1]["c"] == "2" and rows[-1]["d"] == "[]"
    assert json.loads(rows[0]["d"])["x"] == 1
    assert str(2**60) == str(rows[-1]["b"])


quotes = st.text('",x\r\n', max_size=40)
long_records = st.one_of(
    csv_records,
    st.builds(lambda t: b'1,"%s"' % t.replace('"', '""').encode(), quotes),
    st.builds(lambda t: b"1,%s" % t.encode(), quotes),
    st.just(b'1,"' + b"x" * 40 + b'\nand, ""so"" on\n"'),
)


def starts_and_rows(
    name: str, content: bytes
) -> tuple[list[tuple[int, int]], dict[int, Row]] | str:
    try:
        rows = rows_of(name, content)
    except UnreadableDataError as error:
        return str(error)
    return [(r.number, r.offset) for r in rows], {r.number: r for r in rows}


@pytest.mark.parametrize("behind", [b"", b"\n", b"\n\n", b"\n \n", b"\n\n{}", b"\n\n{}\n\n"])
def test_blank_lines_behind_a_line_that_is_too_long(
    behind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of lines is checked; it once missed a blank line read together with such a line's end."""
    monkeypatch.setattr(jsonl, "LONGEST_RECORD", 24)
    rows = rows_of("r.jsonl", b'{"a": 1}\n{"text": "' + b"x" * 40 + b'"}' + behind)
    assert [r.number for r in rows] == list(range(1, 3 + behind.count(b"{}")))
    assert rows[1].problem.startswith("longer than") and rows[0].values == {"a": 1}


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
@given(data=st.data())
def test_records_too_long_end_where_they_would_have_ended(name: str, data: st.DataObject) -> None:
    """With a limit of 24 bytes and 7 bytes read at once, against the same file under the usual limits."""
    records = json_lines if name == "r.jsonl" else long_records
    parts = data.draw(st.lists(st.tuples(records, ends), max_size=12))
    first = b'"id","text"' if name == "r.csv" else b'{"a": 1}'
    content = laid_out([(first, b"\n"), *parts], True)
    usual = starts_and_rows(name, content)
    with pytest.MonkeyPatch.context() as patch:
        for module in (physical_lines, jsonl, delimited_format):
            patch.setattr(module, "LONGEST_RECORD", 24)
        patch.setattr(physical_lines, "_CHUNK", 7)
        patch.setattr(jsonl, "_CHUNK", 7)
        strict = starts_and_rows(name, content)
    if isinstance(usual, str) or isinstance(strict, str):
        assert isinstance(strict, str) and (strict == usual or "a quote is never closed" in strict)
        return
    assert strict[0] == usual[0]
    for number, row in strict[1].items():
        if row.problem.startswith("longer than"):
            assert row.raw == b"" and row.values is None and len(usual[1][number].raw) > 20
        else:
            assert row == usual[1][number]
