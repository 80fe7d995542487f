"""Markdown with foreign text escaped: names, columns, labels and messages may hold anything.

`Markdown` is to Markdown as markupsafe's `Markup` is to HTML: the template is a literal of ours, and every value
inserted into it is escaped unless it is `Markdown` itself. Everything on a run's page has to be `Markdown`.
"""

import re
import string
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString, SupportsIndex

from tasks.core.readable import visible

# Characters that can begin emphasis, code, a link, an image, HTML, a table cell or mathematics at any position.
_ALWAYS = re.compile(r"[\\`*\[\]<>|$]")
_SOMETIMES = (
    (re.compile(r"(?<![^\W_])_|_(?![^\W_])"), r"\\_"),  # inside a word it is only itself
    (re.compile(r"~~"), r"\\~\\~"),
    (re.compile(r"^([#~=]|[+-](?=[+\s-]|$))"), r"\\\1"),
    (re.compile(r"^(\d{1,9})([.)])(?=\s|$)"), r"\1\\\2"),
    (re.compile(r"&(?=#?\w+;)"), r"\\&"),
)
# Renderers turn these into links after they have resolved escapes: only a code span prevents that.
_LINKED_BY_ITSELF = re.compile(r"(?i)(https?|ftp|dict|mailto|xmpp):|www\.|@")
# Our figures and intervals stay unescaped, so that the source is readable: without a colon or a parenthesis they
# cannot form a link.
_FIGURES = re.compile(r"[0-9., %\[\]+-]*")


class Markdown(str):
    """Our own Markdown text, in which foreign text is escaped."""

    __slots__ = ()

    def __new__(cls, text: LiteralString = "") -> "Markdown":
        return super().__new__(cls, text)

    def format(self, *values: object, **named: object) -> "Markdown":
        """Fill the template with the values, escaped."""
        return _trusted(_ESCAPING.vformat(self, values, named))

    def join(self, iterable: Iterable[object], /) -> "Markdown":
        """Join the values, escaped, with this text between them."""
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
    """Return a value on one line, escaped so that nothing in it is Markdown, HTML or a link.

    `Markdown` stays as it is. A value that contains an address becomes a code span.
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
    """Return a name to copy as a code span that neither the name nor a table can end; '' if it is empty."""
    text = " ".join(visible(value).split()).replace("`", "'").replace("|", "%7C")
    return _trusted(f"`{text}`" if text else "")


def link(text: object, url: str) -> Markdown:
    """Return a link to a page, or only its text as code if the address is not http or https."""
    address = re.sub(r"[\x00-\x20<>\\\x7f]", lambda match: f"%{ord(match[0]):02X}", visible(url))
    if not re.match(r"https?://", address):
        return code(text)
    return _trusted(f"[{escape(text)}](<{address}>)")


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> Markdown:
    """Return a table with escaped cells; each line ends with a line end."""
    lines = [columns, [Markdown("---")] * len(columns), *rows]
    return _trusted("".join(f"| {' | '.join(map(escape, line))} |\n" for line in lines))


def bullets(items: Iterable[object]) -> Markdown:
    """Return a list with escaped items."""
    return _trusted("".join(f"- {escape(item)}\n" for item in items))


def _trusted(text: str) -> Markdown:
    return str.__new__(Markdown, text)
