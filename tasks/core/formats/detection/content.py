"""Detection of a file's kind: by its content if that is certain, else by its name; an error if the two conflict."""

import json
import re
import shlex

from tasks.core.errors import UnreadableDataError
from tasks.core.formats.base import Kind
from tasks.core.formats.detection.compression import compression_of, unpacked_head
from tasks.core.formats.detection.foreign import foreign_content, foreign_name
from tasks.core.formats.detection.names import said_by
from tasks.core.formats.detection.text_encodings import (
    UTF8,
    as_utf8,
    how_to_name,
    is_surely_utf8,
    is_utf8,
    likely_encoding,
    marked_encoding,
)
from tasks.core.formats.registry import MAGIC

HEAD_BYTES = 1024 * 1024  # of a file, for detection: more than a block of bz2
_LOOKED_AT = 64 * 1024  # bytes of the content that are examined

_PAGE = re.compile(rb"(?:<\?xml|<!doctype|<html|<error)\b", re.IGNORECASE)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_OBJECT_BEGINS = re.compile(rb'\{\s*"(?:[^"\\]|\\.)*"\s*:')
_ARRAY_OF_OBJECTS = re.compile(rb"\[\s*(?:\{|$)")
SEPARATORS = {b"\t": "tabs", b",": "commas", b";": "semicolons", b"|": "bars"}
_DELIMITED = {"csv": b",", "tsv": b"\t"}
_QUOTED = re.compile(rb'"(?:[^"]|"")*"')
_LINES_LOOKED_AT = 50


def detect(name: str, head: bytes, encoding: str = UTF8) -> Kind:
    """Detect the kind of a file.

    Args:
        name: file name or key.
        head: its first `HEAD_BYTES`, or all of it if it is shorter.
        encoding: of a text that has no byte order mark and whose beginning is not certainly UTF-8.
    Raises:
        UnreadableDataError: the file is of no supported kind, or not of the kind that its name says.
    """
    compression, name_format = compression_of(head), said_by(name)[0]
    content = unpacked_head(head, compression, _LOOKED_AT)
    if binary := _binary_format(name, content, name_format):
        return Kind(binary, compression, name_format)
    encoding = marked_encoding(content) or (UTF8 if is_surely_utf8(content, encoding) else encoding)
    if encoding != UTF8:
        content = _recoded(name, content, encoding)
    _refuse_foreign(name, content, compression, name_format)
    text = _Text(content)
    if _is_jsonl(name, text, name_format):
        return Kind("jsonl", compression, name_format, encoding=encoding)
    if name_format in MAGIC and text.lines:
        raise _error(
            name,
            f"Not readable as {name_format}: it does not begin as {name_format.capitalize()} files do",
        )
    if name_format == "jsonl":
        _refuse_delimited(name, text)
        return Kind("jsonl", compression, name_format, encoding=encoding)
    own = name_format or _delimited(name, text)
    if own not in _DELIMITED:  # an empty file with the name of a binary format
        return Kind(own, compression, name_format)
    delimiter = _separator(name, text, _DELIMITED[own])
    return Kind(own, compression, name_format, delimiter, encoding)


def _recoded(name: str, content: bytes, encoding: str) -> bytes:
    try:
        return as_utf8(content, encoding)
    except UnicodeError as error:
        likely = _wide_encoding(content) or likely_encoding(content)
        raise _error(
            name, f"The file is not in the named encoding {encoding}", how_to_name(likely)
        ) from error


def _binary_format(name: str, content: bytes, name_format: str | None) -> str:
    """Return the binary format of the content; '' if it is a text. Magic letters may begin a header: PARENT, PAR1."""
    binary = content[4:5] < b" " and content[4:5] not in b"\t\r\n"
    if content.startswith(b"PARE") and binary:
        raise _error(
            name,
            "The file is an encrypted Parquet file, which is not supported",
            "write it without encryption; the store can encrypt it",
        )
    return next(
        (
            kind
            for kind, magic in MAGIC.items()
            if content.startswith(magic) and (binary or name_format == kind)
        ),
        "",
    )


class _Text:
    """The first non-blank lines of a text; the last one may be cut off."""

    def __init__(self, content: bytes) -> None:
        content = content.removeprefix(b"\xef\xbb\xbf")
        self.ends_in_cr = b"\r" in content and b"\n" not in content
        self.lines = [line.strip(b"\r\n") for line in content.splitlines() if line.strip()]
        self.first = self.lines[0].strip() if self.lines else b""


def _refuse_foreign(
    name: str, content: bytes, compression: str | None, name_format: str | None
) -> None:
    if foreign := foreign_content(name, content):
        raise foreign.error(name, name_format)
    if compression and compression_of(content):
        raise _error(name, "The file is compressed twice", "unpack it once")
    if _PAGE.match(content.removeprefix(b"\xef\xbb\xbf").lstrip()[:20]):
        raise _error(
            name,
            "The file is an HTML or XML page and holds no table; it may be an error page of the server it came from",
            "download it again and check its content",
        )
    if _is_binary(content):
        if foreign := foreign_name(name):
            raise foreign.error(name, by_name=True)
        if wide := _wide_encoding(content):
            raise _error(name, f"The file is not UTF-8, likely {wide}", how_to_name(wide))
        raise _error(
            name,
            "The file is neither text nor in a supported format",
            "provide JSON Lines, CSV, TSV (UTF-8) or Parquet",
        )


def _is_binary(content: bytes) -> bool:
    if content.count(0) > len(content) // 5:
        return True
    controls = len(content) - len(content.translate(None, _CONTROL))
    return controls > len(content) // 20 and not is_utf8(content)


def _wide_encoding(content: bytes) -> str:
    """Detect UTF-16 without a byte order mark: in Latin text, every other byte is zero. '' if it is not."""
    for name, zeros in (("utf-16-le", content[1::2]), ("utf-16-be", content[::2])):
        if (
            len(zeros) > 1
            and 0.8 * len(zeros) < zeros.count(0)
            and content.count(0) < 1.2 * len(zeros)
        ):
            return name
    return ""


def _is_jsonl(name: str, text: _Text, name_format: str | None) -> bool:
    """True if the content is certainly JSON Lines. Raises if it is JSON of another shape."""
    if text.first.startswith(b"{"):
        if text.ends_in_cr and len(text.lines) > 1 and _is_json(text.first):
            raise _error(
                name,
                "The lines of the file end in CR alone, as on old Macs",
                "rewrite it, with `tr '\\r' '\\n'` for example",
            )
        if _is_json(text.first) or _OBJECT_BEGINS.match(text.first):
            return True
        if text.first == b"{" and name_format in (None, "jsonl"):
            raise _error(
                name,
                "The file is JSON spread over several lines; it must have one object per line",
                "rewrite it, with `jq -c .` for example",
            )
    others = any(line.lstrip().startswith(b"{") for line in text.lines[1:])
    if name_format == "jsonl" and others and _is_json(text.first):
        return False  # a bad first row of a JSON Lines file
    if text.first.startswith(b"[") and (
        name_format in (None, "jsonl") or _ARRAY_OF_OBJECTS.match(text.first)
    ):
        raise _error(
            name,
            "The file is one JSON array; it must have one object per line",
            "rewrite it, with `jq -c '.[]'` for example",
        )
    return False


def _refuse_delimited(name: str, text: _Text) -> None:
    """Raise if a file named as JSON Lines is a table with a header."""
    if any(line.lstrip().startswith(b"{") for line in text.lines):
        return
    separator = _separating(text)
    if separator:
        raise _error(
            name,
            f"The name says JSON Lines, but no line begins a JSON object and {SEPARATORS[separator]} separate fields",
            "let the name end in .csv or .tsv if it is a table with a header",
        )


def _separator(name: str, text: _Text, own: bytes) -> str:
    """Return the separator of the fields if it is not the format's own; else ''."""
    if text.first.lower().startswith(b"sep="):
        raise _error(
            name,
            "The first line is Excel's sep=, not a header",
            f"remove that line: sed -i 1d {shlex.quote(name.rsplit('/', 1)[-1])}",
        )
    separator = _separating(text, own)
    return separator.decode() if separator != own else ""


def _separating(text: _Text, own: bytes = b"") -> bytes:
    """Return the separator of the fields: the mark whose count in the header most other lines have as well.

    The format's own separator wins a tie.
    """
    lines = [_QUOTED.sub(b"", line) for line in text.lines[:_LINES_LOOKED_AT]]
    header, rows = lines[:1], lines[1:]
    marks = [mark for mark in (own, *SEPARATORS) if mark and header and mark in header[0]]
    if not rows:
        return marks[0] if marks else own
    alike = {m: sum(line.count(m) == header[0].count(m) for line in rows) for m in marks}
    candidates = [mark for mark in marks if mark == own or mark in rows[0] or alike[mark]]
    return max(candidates, key=lambda mark: alike[mark]) if candidates else own


def _delimited(name: str, text: _Text) -> str:
    """Return csv or tsv, by the separator."""
    separator = _separating(text)
    if separator:
        return "tsv" if separator == b"\t" else "csv"
    if foreign := foreign_name(name):
        raise foreign.error(name, by_name=True)
    raise _error(
        name,
        "Cannot tell the format of this file from its name or its content",
        "let its name end in .jsonl, .csv, .tsv or .parquet",
    )


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _error(
    name: str, what: str, fix: str = "check that it is the right file"
) -> UnreadableDataError:
    return UnreadableDataError(what, name, fix)
