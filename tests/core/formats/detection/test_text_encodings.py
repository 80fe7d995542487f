"""Texts in other encodings than UTF-8: read where they are named or marked, else said by their likely name."""

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.forms.scoring import ScoreParams
from tasks.connectors.sources.params import SourceParams
from tasks.core.errors import MissingDataError, UnreadableDataError
from tasks.core.formats import reading
from tasks.core.formats.base import Row
from tasks.core.formats.columns import with_columns
from tasks.core.formats.detection.text_encodings import (
    advice_for,
    likely_encoding,
    not_utf8,
    recoded,
)

ROWS = 'id,text\n1,séance\n2,"naïve,\nso naïve"\n'


def texts(name: str, content: bytes, encoding: str = "utf-8") -> list[object]:
    rows = reading.decode(name, io.BytesIO(content), encoding=encoding)
    return [row.values["text"] if row.values else row.problem for row in rows]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "mac-roman"]
)
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_a_text_in_an_encoding_is_read_whole_and_in_spans(encoding: str, packed: object) -> None:
    content = (gzip.compress if packed is gzip.compress else bytes)(ROWS.encode(encoding))
    assert texts("r.csv", content, encoding) == ["séance", "naïve,\nso naïve"]
    rows = list(reading.decode("r.csv", io.BytesIO(content), encoding=encoding))
    spanned: list[Row] = []
    for span in reading.cut("r.csv", io.BytesIO(content), 5, encoding):
        part = content[slice(*span.byte_range)] if span.byte_range else content
        spanned += reading.decode("r.csv", io.BytesIO(part), span)
    assert spanned == rows


def test_what_is_utf8_is_found_out_beside_what_is_not() -> None:
    assert texts("r.csv", ROWS.encode(), "cp1252")[0] == "séance"
    assert texts("r.jsonl", '{"text": "séance"}\n'.encode("cp1252"), "cp1252") == ["séance"]
    assert texts("r.jsonl", '{"text": "séance"}\n'.encode("utf-16")) == ["séance"]


def test_bytes_that_are_no_text_are_never_replaced_in_silence() -> None:
    assert texts("r.csv", b"id,text\n1,\xe9\x81\n2,fine\n", "cp1252") == [
        "not valid in the named encoding",
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
        ("Was für ein schöner Film, ein Genuß", "cp1252"),
        ("¿Qué pasó, señor? ¡Nada!", "cp1252"),
        ("Não é boa, mas a atuação é", "cp1252"),
        ("Perché non è così, più o meno", "cp1252"),
        ("Æblegrød på gården", "cp1252"),
        ("とても良い映画です", "shift_jis"),
        ("아주 좋은 영화입니다", "euc_kr"),
        ("とても良い映画です", "euc_jp"),
        ("这部电影很好看 我喜欢的演员都在", "gb18030"),
        ("這部電影很好看 我喜歡的演員都在", "big5"),
    ],
)
def test_likely_encodings(text: str, encoding: str) -> None:
    assert likely_encoding(text.encode(encoding)) == encoding


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("1,Превосходный фильм", "cp1251", "not UTF-8; name its encoding, cp1251 or koi8-r"),
        ("1,Превосходный фильм", "koi8-r", "not UTF-8; name its encoding, cp1251 or koi8-r"),
        ("1,Εξαιρετική ταινία", "cp1253", "not UTF-8; name its encoding"),
        ("1,סרט נפלא ומרגש מאוד", "cp1255", "not UTF-8; name its encoding"),
        (
            "Świetny film, bardzo się podobał, żal że krótki",
            "cp1250",
            "not UTF-8; name its encoding",
        ),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250", "not UTF-8; name its encoding"),
        ("Çok güzel bir film, şahane bir oyunculuk", "cp1254", "not UTF-8; name its encoding"),
    ],
)
def test_what_may_be_several_encodings_is_not_said_to_be_one(
    text: str, encoding: str, said: str
) -> None:
    content = text.encode(encoding)
    assert likely_encoding(content) == "" and not_utf8(content) == said
    advice = advice_for(said, "")
    assert all(
        f"--data.source.encoding {name}" in advice for name in ("cp1251", "koi8-r") if name in said
    )
    assert "likely" not in advice and "--encoding" in advice


LONG = "id,text\n" + "1,so good\n" * 10_000


def test_a_named_encoding_is_used_where_the_begin_is_ascii() -> None:
    content = LONG.encode() + b'2,"caf\xe9"\n'
    assert texts("r.csv", content, "cp1252")[-1] == "café"
    assert set(texts("r.csv", LONG.encode() + "2,café\n".encode(), "utf-8")) == {"so good", "café"}
    for encoding in ("utf-16", "utf-32-le"):  # in which no ASCII text is
        assert set(texts("r.csv", LONG.encode(), encoding)) == {"so good"}


@pytest.mark.parametrize("encoding", ["cp1252", "shift_jis", "gb18030"])
@pytest.mark.parametrize(
    "rows", [6_000, 105_000]
)  # beyond what is looked at first, and in a later chunk
def test_the_first_letter_beyond_ascii_decides_whether_a_file_is_utf8(
    encoding: str, rows: int
) -> None:
    content = ("id,text\n" + "1,so good\n" * rows).encode()
    for late in ("2,á\n", "2,á", "2,良い\n"):
        assert texts("r.csv", content + late.encode(), encoding)[-1] == late[2:].strip()
    chunk = content[: (1 << 20) - 3]
    if len(chunk) < len(content):  # a letter in two chunks
        assert texts("r.csv", chunk + "\n2á,b\n".encode(), encoding)[-1] == "b"


def test_a_text_that_is_not_utf8_at_its_end_is_read_as_named() -> None:
    assert texts("r.csv", LONG.encode() + b"2,caf\xe9", "cp1252")[-1] == "café"


@pytest.mark.parametrize("encoding", ["iso2022_jp", "iso2022_kr", "hz", "utf-7"])
def test_ascii_bytes_of_other_encodings_are_never_taken_for_ascii(encoding: str) -> None:
    text = "id,text\n" + "1,so good\n" * 10_000 + "2,良い\n"
    assert texts("r.csv", text.encode(encoding), encoding)[-1] == "良い"


@pytest.mark.parametrize("encoding", ["iso2022_jp", "hz", "utf-7"])
def test_encodings_of_ascii_bytes_are_used_where_they_are_named(encoding: str) -> None:
    text = "id,text\n1,良い\n"
    assert texts("r.csv", text.encode(encoding), encoding) == ["良い"]


@pytest.mark.parametrize(
    ("content", "named", "typed"),
    [
        (ROWS.encode("cp1252"), "utf-16", "--data.source.encoding cp1252"),
        (ROWS.encode("utf-16-le"), "utf-16", "--data.source.encoding utf-16-le"),
        (ROWS.encode("cp1252"), "idna", "--data.source.encoding cp1252"),
    ],
)
def test_a_wrong_encoding_is_said_with_the_file(content: bytes, named: str, typed: str) -> None:
    with pytest.raises(
        UnreadableDataError, match=rf"not in the named encoding {named} \[r\.csv\].*{typed}"
    ):
        texts("r.csv", content, named)


def test_the_encoding_of_a_form_is_one() -> None:
    assert SourceParams(encoding="Latin1").encoding == "iso8859-1"
    assert ScoreParams(encoding="UTF8").encoding == "utf-8"
    for form in (SourceParams, ScoreParams):
        for name in ("klingon", "rot13", "hex", "idna", "punycode", "unicode_escape"):
            with pytest.raises(ValidationError, match="unknown encoding"):
                form.model_validate({"encoding": name})


def missing(content: bytes) -> str:
    rows = reading.decode("r.csv", io.BytesIO(content))
    with pytest.raises(MissingDataError) as caught:
        list(with_columns(rows, ["nosuch"], "r.csv"))
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
    assert ": 2 whose names are not shown" in missing(content)


def test_an_error_in_the_header_says_what_to_type() -> None:
    with pytest.raises(UnreadableDataError, match=r"line 1 .*likely cp1252.*encoding cp1252"):
        texts("r.csv", "id,séance\n".encode("cp1252"))
