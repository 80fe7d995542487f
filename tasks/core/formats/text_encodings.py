"""Text in other encodings than UTF-8, read as if it were UTF-8, and what an encoding likely is."""

import codecs
import io
import re
from typing import IO, Any

UTF8 = "utf-8"
_NOT_AS_NAMED = "not of the encoding that was named"
_MARKS = {
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_INVALID = "\udcc0\udcff"  # becomes two bytes that neither UTF-8 nor any text is likely to have
_CHUNK = 1 << 20
_EAST_ASIAN = {  # and what each is mostly written with
    "shift_jis": re.compile("[\u3040-\u30ff\u4e00-\u9fff]"),
    "euc_kr": re.compile("[\uac00-\ud7a3]"),
    "gb18030": re.compile("[\u4e00-\u9fff]"),
}


def _marked(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _INVALID * (error.end - error.start), error.end


codecs.register_error("nightshift-invalid", _marked)


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark says."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)


def as_utf8(content: bytes, encoding: str) -> bytes:
    """The begin of a text as UTF-8; it may end within a character."""
    decoder = codecs.getincrementaldecoder(encoding)("nightshift-invalid")
    return decoder.decode(content).encode(UTF8, "surrogateescape")


def is_utf8(content: bytes) -> bool:
    """Whether the begin of a text is UTF-8; it may end within a character."""
    try:
        codecs.getincrementaldecoder(UTF8)().decode(content)
    except UnicodeDecodeError:
        return False
    return True


def recoded(stream: IO[bytes], encoding: str) -> IO[bytes]:
    """A text in an encoding as UTF-8. What is no text in it becomes bytes that are none in UTF-8."""
    if encoding == UTF8:
        return stream
    return io.BufferedReader(_Recoded(stream, encoding), _CHUNK)


class _Recoded(io.RawIOBase):
    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("nightshift-invalid")
        self._left, self._ended = b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and not self._ended:
            chunk = self._stream.read(_CHUNK)
            self._ended = not chunk
            text = self._decoder.decode(chunk, self._ended)
            self._left = text.encode(UTF8, "surrogateescape")
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def not_utf8(content: bytes) -> str:
    """That a text is not UTF-8, with what it likely is."""
    if b"\xc0\xff" in content:
        return _NOT_AS_NAMED
    likely = likely_encoding(content)
    return f"not UTF-8, likely {likely}" if likely else "not UTF-8"


def likely_encoding(content: bytes) -> str:
    """What a text that is not UTF-8 likely is; '' where nothing fits.

    European languages have few letters beyond ASCII, each among others; Cyrillic has hardly any ASCII letters; Chinese,
    Japanese and Korean have them in pairs that not every text happens to have.
    """
    beyond = sum(code > 127 for code in content)
    letters = beyond + sum(chr(code).isalpha() for code in content if code < 128)
    if 2 * beyond > letters and beyond > 3:
        if sum(code >= 0xC0 for code in content) > 0.9 * beyond:
            return "cp1251"
        for name, letter in _EAST_ASIAN.items():
            if _is_text(content, name) and _is_mostly(letter, content.decode(name)):
                return name
    return next((name for name in ("cp1252", "latin-1") if _is_text(content, name)), "")


def _is_text(content: bytes, encoding: str) -> bool:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _is_mostly(letter: re.Pattern[str], text: str) -> bool:
    others = sum(not character.isascii() for character in text)
    return 2 * len(letter.findall(text)) > others


def how_to_name(encoding: str = "cp1252") -> str:
    """What to type so that an encoding is read."""
    typed = f"--data.source.encoding {encoding} (of score: --encoding {encoding})"
    return f"name its encoding: {typed}; or save it as UTF-8"


def advice_for(problem: str, otherwise: str) -> str:
    """What to do about a row's problem."""
    _, likely, encoding = problem.partition("not UTF-8, likely ")
    return how_to_name(encoding.split()[0].strip(";,:")) if likely else otherwise


def canonical_encoding(name: str) -> str:
    """The one name of a text encoding.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        found = codecs.lookup(name)
        "".encode(found.name)
    except (LookupError, ValueError):
        raise ValueError(
            f"there is no encoding {name[:40]!r}; write such as utf-8, cp1252, latin-1, utf-16 or shift_jis"
        ) from None
    return found.name
