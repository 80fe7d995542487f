"""Markdown in which somebody else's text is only text: names, columns, labels and messages may hold anything.

`Markdown` is to Markdown what markupsafe's `Markup` is to HTML: its template is a literal of ours, and every value that
is put into it is escaped unless it is Markdown itself. What is shown on a run's page has to be `Markdown`.
"""

import re
import string
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString, SupportsIndex

from tasks.core.readable import visible

# What can begin emphasis, code, a link, an image, HTML, a table's cell or mathematics, wherever it stands.
_ALWAYS = re.compile(r"[\\`*\[\]<>|$]")
_SOMETIMES = (
    (re.compile(r"(?<![^\W_])_|_(?![^\W_])"), r"\\_"),  # inside a word it is only itself
    (re.compile(r"~~"), r"\\~\\~"),
    (re.compile(r"^([#~=]|[+-](?=[+\s-]|$))"), r"\\\1"),
    (re.compile(r"^(\d{1,9})([.)])(?=\s|$)"), r"\1\\\2"),
    (re.compile(r"&(?=#?\w+;)"), r"\\&"),
)
# Renderers turn these into links by themselves, after they have resolved escapes: only a code span is safe from it.
_LINKED_BY_ITSELF = re.compile(r"(?i)(https?|ftp|dict|mailto|xmpp):|www\.|@")
# Figures and intervals of ours stay readable where the source is read: without a colon or a parenthesis, nothing of
# this is a link.
_FIGURES = re.compile(r"[0-9., %\[\]+-]*")


class Markdown(str):
    """A text of ours, in which what is somebody else's is escaped."""

    __slots__ = ()

    def __new__(cls, text: LiteralString = "") -> "Markdown":
        return super().__new__(cls, text)

    def format(self, *values: object, **named: object) -> "Markdown":
        """The template with the values, escaped."""
        return _trusted(_ESCAPING.vformat(self, values, named))

    def join(self, iterable: Iterable[object], /) -> "Markdown":
        """Values, escaped, with this text between them."""
        return _trusted(super().join(escape(value) for value in iterable))

    def __add__(self, value: str, /) -> "Markdown":
        return _trusted(super().__add__(escape(value)))

    def __mul__(self, value: SupportsIndex, /) -> "Markdown":
        return _trusted(super().__mul__(value))


class _Escaping(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Markdown):
            return value
        return escape(format(value, format_spec))


_ESCAPING = _Escaping()


def escape(value: object) -> Markdown:
    """A value on one line in which nothing is Markdown, HTML or a link; Markdown stays as it is.

    A value with an address in it becomes a code span.
    """
    if isinstance(value, Markdown):
        return value
    text = " ".join(visible(value).split())
    if _LINKED_BY_ITSELF.search(text):
        return code(text)
    if _FIGURES.fullmatch(text) and not re.match(r"[+-]([+\s-]|$)|\d+\.(\s|$)", text):
        return _trusted(text)
    text = _ALWAYS.sub(r"\\\g<0>", text)
    for pattern, escaped in _SOMETIMES:
        text = pattern.sub(escaped, text)
    return _trusted(text)


def code(value: object) -> Markdown:
    """A name to copy, as a code span which neither it nor a table can end; nothing where there is none."""
    text = " ".join(visible(value).split()).replace("`", "'").replace("|", "%7C")
    return _trusted(f"`{text}`" if text else "")


def link(text: object, url: str) -> Markdown:
    """A link to a page; only its text where the address is not one of http or https."""
    address = re.sub(r"[\x00-\x20<>\\\x7f]", lambda found: f"%{ord(found[0]):02X}", visible(url))
    if not re.match(r"https?://", address):
        return code(text)
    return _trusted(f"[{escape(text)}](<{address}>)")


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> Markdown:
    """A table, its cells escaped; each line ends with a line end."""
    lines = [columns, [Markdown("---")] * len(columns), *rows]
    return _trusted("".join(f"| {' | '.join(map(escape, line))} |\n" for line in lines))


def bullets(items: Iterable[object]) -> Markdown:
    """A list, its items escaped."""
    return _trusted("".join(f"- {escape(item)}\n" for item in items))


def _trusted(text: str) -> Markdown:
    return str.__new__(Markdown, text)
