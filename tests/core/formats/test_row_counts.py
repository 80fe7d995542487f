"""Rows are counted by something other than the reader: Parquet's footer, the line ends of JSON Lines."""

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UnreadableDataError
from tasks.core.formats import jsonl, reading
from tasks.core.formats.registry import FORMATS

_ROWS = 12_345
pa: Any


def read(name: str, content: bytes) -> int:
    return sum(1 for _ in reading.decode(name, io.BytesIO(content)))


def cut(name: str, content: bytes) -> int:
    return sum(span.rows or 0 for span in reading.cut(name, io.BytesIO(content), 1_000))


def _number(value: int) -> bytes:
    """As Thrift's compact protocol writes it."""
    value, found = value << 1, bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def with_rows(of_file: int, of_group: int) -> bytes:
    """Parquet of one row group, whose footer says other numbers of rows than its column has."""
    buffer = io.BytesIO()
    column = pa.array([f"review {n}" for n in range(_ROWS)])
    pq.write_table(pa.table({"text": column}), buffer, row_group_size=_ROWS, store_schema=False)
    content = buffer.getvalue()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    pages, said, known = content[:footer], content[footer:], _number(_ROWS)
    file, group = said.find(known), said.rfind(known)  # those of the column stand between
    inner = said[file + len(known) : group]
    assert known in inner
    end = said[group + len(known) :]
    return pages + said[:file] + _number(of_file) + inner + _number(of_group) + end


def test_a_footer_that_is_right() -> None:
    content = with_rows(_ROWS, _ROWS)
    assert read("r.parquet", content) == cut("r.parquet", content) == _ROWS


@pytest.mark.parametrize(
    ("of_file", "of_group", "says"),
    [
        (_ROWS + 1, _ROWS, "its row groups have 12,345 rows, but the file has 12,346"),
        (_ROWS - 1, _ROWS - 1, "row group 1 has 12,344 rows .* 'text' has 12,345 values"),
        (_ROWS + 1, _ROWS + 1, "row group 1 has 12,345 rows, but 12,346 according"),
    ],
)
def test_a_footer_that_says_other_rows_than_there_are(
    of_file: int, of_group: int, says: str
) -> None:
    with pytest.raises(UnreadableDataError, match=says):
        read("r.parquet", with_rows(of_file, of_group))


lines = st.lists(
    st.sampled_from(
        [
            b'{"text": "a"}',
            b"",
            b"  ",
            b"\r",
            b"not json",
            b"[1]",
            b"\xef\xbb\xbf",
            b"\x0c",
            b"\x1c",
        ]
    ),
    max_size=12,
)


@given(lines, st.booleans(), st.integers(1, 40))
def test_every_line_is_a_row_or_blank(content: list[bytes], ends: bool, chunk: int) -> None:
    """And none of them is counted twice, wherever the chunks end."""
    whole = b"\n".join(content) + (b"\n" if ends else b"")
    rows = sum(bool(line.strip(b" \t\r\x0b\x0c\x1c\xef\xbb\xbf")) for line in content)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jsonl, "_CHUNK", chunk)
        found = list(FORMATS["jsonl"].decode(io.BytesIO(whole)))
    assert len(found) - sum(row.raw == b"\x1c" for row in found) == rows


@pytest.mark.parametrize("count", [read, cut])
def test_a_reader_that_loses_lines_is_found_out(
    count: Callable[[str, bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "LONGEST_RECORD", 100)
    monkeypatch.setattr(jsonl, "_CHUNK", 64)
    row = json.dumps({"text": "a"}).encode() + b"\n"
    content = row + json.dumps({"text": "a" * 200}).encode() + b"\n" + row * 9
    assert count("r.jsonl", content) == 11

    def losing(lines: Any, passed: int) -> bytes:
        lines._stream.read(1 << 20)
        return b""

    monkeypatch.setattr(jsonl._Lines, "_after_line", losing)
    with pytest.raises(UnreadableDataError, match="only 2 of its 11 lines were read"):
        count("r.jsonl", content)
