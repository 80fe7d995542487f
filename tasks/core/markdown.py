"""Somebody else's text inside Markdown: names, columns and labels may hold anything."""

import re

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~$])")


def cell(value: object) -> str:
    """Text on one line in which nothing is Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(value).split()))
