"""Text encodings: conversion of other encodings to UTF-8 while reading, and guesses of an unknown encoding."""

import codecs
import io
import re
from typing import IO, Any

UTF8 = "utf-8"
_NOT_AS_NAMED = "not valid in the named encoding"
_MARKS = {
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_INVALID = "\udcc0\udcff"  # becomes two bytes that are invalid in UTF-8 and unlikely in any text
_CHUNK = 1 << 20
_LIKELY, _UNKNOWN = "not UTF-8, likely ", "not UTF-8; name its encoding"
_CYRILLIC = ("cp1251", "koi8-r")
_CYRILLIC_OR = f"{_UNKNOWN}, {' or '.join(_CYRILLIC)}"
_CYRILLIC_LETTER = re.compile("[\u0400-\u04ff]")
_CYRILLIC_WORD = re.compile("[\u0400-\u04ff]+")
_KANA = re.compile("[\u3041-\u3093\u30a1-\u30f6]")
_EAST_ASIAN = {  # encoding -> frequent letters, and the share of the non-ASCII letters they exceed
    "shift_jis": (_KANA, 0.3),
    "euc_jp": (_KANA, 0.3),
    "euc_kr": (re.compile("[\uac00-\ud7a3]"), 0.9),
    "gb18030": (re.compile("[的是了不我一有这很好看电影在人]"), 0.15),
    "big5": (re.compile("[的是了不我一有這很好看電影在人]"), 0.15),
}
_WESTERN = (
    "àâæçéèêëîïôùûüœ",  # French
    "äöüßé",  # German
    "áéíóúüñçàèòï",  # Spanish, Catalan
    "áâãàçéêíóôõú",  # Portuguese
    "àèéìòù",  # Italian
    "åäöæøé",  # the Nordic languages
    "áâäéëèêïíîóôöúûü",  # Dutch
)
_WESTERN_SIGNS = set("«»°¡¿·®©£\xa0") | set(
    bytes(range(0x80, 0x9C)).decode("cp1252", "ignore")
) - set("ŠšŒ")
_OF_ASCII_BYTES = ("iso2022", "hz", "utf-7")  # they write other letters as ASCII with escapes
_NO_FILES = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "charmap"}


def _marked(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _INVALID * (error.end - error.start), error.end


codecs.register_error("nightshift-invalid", _marked)


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding of a byte order mark, or None if there is no mark."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)


def as_utf8(content: bytes, encoding: str) -> bytes:
    """Return the beginning of a text as UTF-8; it may end within a character."""
    return _decoder(encoding).decode(content).encode(UTF8, "surrogateescape")


def is_utf8(content: bytes, is_whole: bool = False) -> bool:
    """True if text is UTF-8; unless it is whole, it may end within a character."""
    try:
        codecs.getincrementaldecoder(UTF8)().decode(content, is_whole)
    except UnicodeDecodeError:
        return False
    return True


def is_surely_utf8(content: bytes, named: str) -> bool:
    """True if the beginning of a text is UTF-8 whatever encoding was named.

    After ASCII, a text may continue in any encoding that extends ASCII.
    """
    if content.count(0) > len(content) // 5 or not is_utf8(content):  # zeros are valid UTF-8
        return False
    return not content.isascii() or (0 not in content and "a,\n".encode(named) != b"a,\n")


def recoded(stream: IO[bytes], encoding: str) -> IO[bytes]:
    """Return a stream of text converted to UTF-8; bytes that are invalid in its encoding become invalid UTF-8.

    Text that begins with ASCII is read as UTF-8 instead of `encoding` if the first part of it that has a letter beyond
    ASCII (up to 2 MiB) is valid UTF-8.
    """
    if encoding == UTF8:
        return stream
    return io.BufferedReader(_Recoded(stream, encoding), _CHUNK)


class _Recoded(io.RawIOBase):
    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        if not _extends_ascii(encoding):
            self._decoder = _decoder(encoding)
        self._pending, self._ended = b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending and not self._ended:
            self._pending = self._decoded(self._read())
        count = min(len(buffer), len(self._pending))
        buffer[:count], self._pending = self._pending[:count], self._pending[count:]
        return count

    def _read(self) -> bytes:
        chunk = self._stream.read(_CHUNK)
        self._ended = not chunk
        return chunk

    def _decoded(self, chunk: bytes) -> bytes:
        if self._decoder is None:
            if chunk.isascii():
                return chunk
            chunk += self._read()  # the first non-ASCII letter may be cut off
            utf8 = is_utf8(chunk, is_whole=self._ended)
            self._decoder = _decoder(UTF8 if utf8 else self._encoding)
        return self._decoder.decode(chunk, self._ended).encode(UTF8, "surrogateescape")


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(encoding)("nightshift-invalid")


def _extends_ascii(encoding: str) -> bool:
    """True if ASCII bytes always mean ASCII in this encoding."""
    if encoding.startswith(_OF_ASCII_BYTES):
        return False
    ascii_bytes = bytes(range(128))
    return ascii_bytes.decode(encoding, "replace") == ascii_bytes.decode()


def not_utf8(content: bytes) -> str:
    """Return the problem text for content that is not UTF-8, with its likely encoding."""
    if b"\xc0\xff" in content:
        return _NOT_AS_NAMED
    if likely := likely_encoding(content):
        return f"{_LIKELY}{likely}"
    return _CYRILLIC_OR if _is_cyrillic(content) else _UNKNOWN


def likely_encoding(content: bytes) -> str:
    """Return the encoding of a text that is not UTF-8, if it is certain enough to suggest; '' if several may fit.

    European languages have few non-ASCII letters, each among ASCII ones. Chinese, Japanese and Korean write them as
    pairs of bytes that not every text happens to have. Single-byte alphabets beyond ASCII are too similar to
    distinguish.
    """
    if _is_mostly_beyond_ascii(content):
        fitting = [name for name, its in _EAST_ASIAN.items() if _fits(content, name, *its)]
        return fitting[0] if len(fitting) == 1 else ""
    return "cp1252" if _is_western(content) else ""


def _is_mostly_beyond_ascii(content: bytes) -> bool:
    beyond = sum(code > 127 for code in content)
    letters = beyond + sum(chr(code).isalpha() for code in content if code < 128)
    return 2 * beyond > letters and beyond > 3


def _fits(content: bytes, encoding: str, letter: re.Pattern[str], fraction: float) -> bool:
    if not _is_text(content, encoding):
        return False
    text = content.decode(encoding)
    return len(letter.findall(text)) > fraction * sum(not character.isascii() for character in text)


def _is_western(content: bytes) -> bool:
    """True if, read as cp1252, all letters are of one Western language; other texts mix several, or fit none."""
    if not _is_text(content, "cp1252"):
        return False
    text = content.decode("cp1252").lower()
    letters = {character for character in text if not character.isascii()} - _WESTERN_SIGNS
    return any(letters <= set(alphabet) for alphabet in _WESTERN)


def _is_cyrillic(content: bytes) -> bool:
    """True if, in one of the Cyrillic encodings, the words are Cyrillic with capitals only at their beginning.

    Greek text does not have that shape. Hebrew looks like lower case, but lacks the last five letters.
    """
    may_be_hebrew = all(code < 128 or 0xE0 <= code < 0xFB for code in content)
    if may_be_hebrew or not _is_mostly_beyond_ascii(content):
        return False
    for name in _CYRILLIC:
        if _fits(content, name, _CYRILLIC_LETTER, 0.9):
            words = _CYRILLIC_WORD.findall(content.decode(name))
            if all(word[1:].islower() for word in words if len(word) > 1):
                return True
    return False


def _is_text(content: bytes, encoding: str) -> bool:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def how_to_name(*encodings: str) -> str:
    """Return the advice to name an encoding, with the options to type; without one, the user has to find it out."""
    names = [name for name in encodings if name]
    typed = " or ".join(f"--data.source.encoding {name}" for name in names)
    scored = " or ".join(f"--encoding {name}" for name in names)
    if names:
        return f"name its encoding: {typed} (of score: {scored}); or save it as UTF-8"
    return (
        "name its encoding with --data.source.encoding (of score: --encoding), or save it as UTF-8"
    )


def advice_for(problem: str, otherwise: str) -> str:
    """Return the advice for a row's problem; `otherwise` if it is not about the encoding."""
    _, likely, encoding = problem.partition(_LIKELY)
    if likely:
        return how_to_name(encoding.split()[0].strip(";,:"))
    if _CYRILLIC_OR in problem:
        return how_to_name(*_CYRILLIC)
    return how_to_name() if _UNKNOWN in problem else otherwise


def canonical_encoding(name: str) -> str:
    """Return the canonical name of a text encoding.

    Raises:
        ValueError: there is no encoding of that name.
    """
    try:
        codec = codecs.lookup(name)
        "".encode(codec.name)
        if codec.name.replace("_", "-") in _NO_FILES:
            raise LookupError
    except (LookupError, ValueError):
        raise ValueError(
            f"unknown encoding {name[:40]!r}; use for example utf-8, cp1252, latin-1, utf-16 or shift_jis"
        ) from None
    return codec.name
