"""Texts in other encodings than UTF-8: read where they are named or marked, else said by their likely name."""

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.parameters import ScoreParams
from tasks.connectors.sources import SourceParams
from tasks.core import formats
from tasks.core.errors import MissingDataError, UnreadableDataError
from tasks.core.formats.text_encodings import likely_encoding, recoded

ROWS = 'id,text\n1,séance\n2,"naïve,\nso naïve"\n'


def texts(name: str, content: bytes, encoding: str = "utf-8") -> list[object]:
    rows = formats.decode(name, io.BytesIO(content), encoding=encoding)
    return [row.values["text"] if row.values else row.problem for row in rows]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "mac-roman"]
)
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_a_text_in_an_encoding_is_read_whole_and_in_spans(encoding: str, packed: object) -> None:
    content = (gzip.compress if packed is gzip.compress else bytes)(ROWS.encode(encoding))
    assert texts("r.csv", content, encoding) == ["séance", "naïve,\nso naïve"]
    rows = list(formats.decode("r.csv", io.BytesIO(content), encoding=encoding))
    spanned: list[formats.Row] = []
    for span in formats.cut("r.csv", io.BytesIO(content), 5, encoding):
        part = content[slice(*span.byte_range)] if span.byte_range else content
        spanned += formats.decode("r.csv", io.BytesIO(part), span)
    assert spanned == rows


def test_what_is_utf8_is_found_out_beside_what_is_not() -> None:
    assert texts("r.csv", ROWS.encode(), "cp1252")[0] == "séance"
    assert texts("r.jsonl", '{"text": "séance"}\n'.encode("cp1252"), "cp1252") == ["séance"]
    assert texts("r.jsonl", '{"text": "séance"}\n'.encode("utf-16")) == ["séance"]


def test_bytes_that_are_no_text_are_never_replaced_in_silence() -> None:
    assert texts("r.csv", b"id,text\n1,\xe9\x81\n2,fine\n", "cp1252") == [
        "not of the encoding that was named",
        "fine",
    ]


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=50), st.integers(1, 9))
def test_any_text_is_recoded(text: str, size: int) -> None:
    for encoding in ("utf-16", "utf-32", "gb18030"):
        stream = recoded(io.BytesIO(text.encode(encoding)), encoding)
        content = b""
        while piece := stream.read(size):
            content += piece
        assert content.decode() == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("1,une séance très réussie", "cp1252"),
        ("“fine”, he said… and left", "cp1252"),
        ("1,Превосходный фильм", "cp1251"),
        ("とても良い映画です", "shift_jis"),
        ("아주 좋은 영화입니다", "euc_kr"),
    ],
)
def test_likely_encodings(text: str, encoding: str) -> None:
    assert likely_encoding(text.encode(encoding)) == encoding


def test_the_encoding_of_a_form_is_one() -> None:
    assert SourceParams(encoding="Latin1").encoding == "iso8859-1"
    assert ScoreParams(encoding="UTF8").encoding == "utf-8"
    for form in (SourceParams, ScoreParams):
        for name in ("klingon", "rot13", "hex"):
            with pytest.raises(ValidationError, match="there is no encoding"):
                form.model_validate({"encoding": name})


def missing(content: bytes) -> str:
    rows = formats.decode("r.csv", io.BytesIO(content))
    with pytest.raises(MissingDataError) as caught:
        list(formats.with_columns(rows, ["nosuch"], "r.csv"))
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"Question ID,Kategorie / Class,The question (text)\n1,x,good one\n",
        b"My label,The review\n" + b"pos,so good\nneg,so bad\n" * 8,
        b"Bought on;The review\n2026-01-02;so good\n",
    ],
)
def test_names_of_a_header_are_shown(content: bytes) -> None:
    header = content.decode().splitlines()[0].replace(";", ",")
    said = missing(content)
    assert all(name in said for name in header.split(",")) and "not shown" not in said


@pytest.mark.parametrize(
    "content",
    [
        b"Anna Schmidt,I liked it\nBob,it was bad\n",
        b"Anna Schmidt,pos\nBob,neg\nCarl,pos\n",
        b"17,Anna Schmidt\n18,Bob\n",
        b"Anna Schmidt bought it,a\n" + b"Bob bought it,a\nCarl did,b\n" * 9,
        b"Anna Schmidt says it is fine.,x1\nBob,5\n",
    ],
)
def test_a_first_row_of_data_is_not_shown(content: bytes) -> None:
    assert "Anna Schmidt" not in missing(content) and "is there a header?" in missing(content)


def test_an_error_in_the_header_says_what_to_type() -> None:
    with pytest.raises(UnreadableDataError, match=r"line 1 .*likely cp1252.*encoding cp1252"):
        texts("r.csv", "id,séance\n".encode("cp1252"))
