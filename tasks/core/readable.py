"""Text for people: foreign text with escapes for what is invisible or controls a terminal, and figures in words."""

import re
from collections.abc import Mapping
from typing import Any

# C0 and C1 controls (a terminal obeys them), line and paragraph separators, direction marks (they reorder the text
# around them), the byte order mark, lone surrogates, tags. Joiners stay: emoji and Persian need them.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# An s3:// URI has no user, but its key may contain an @; it ends at a quote or where another URL begins. In other URLs,
# also malformed ones, everything up to the last @ before a space is removed, as a password may hold any character.
_USER_INFO = re.compile(r"""s3://(?:(?!:/)[^\s'"<>])*|(:/+|//)\S*@""")
# `_USER_INFO` is applied only within these matches, where it takes linear time.
_UP_TO_LAST_AT = re.compile(r"(?<!\S)\S*@")


def visible(text: object) -> str:
    """Return text with controls and direction marks as escapes; line ends and tabs stay."""
    return _STEERING.sub(_escaped, str(text))


def on_one_line(text: object) -> str:
    """Return `visible` text with line ends and tabs as escapes as well, so that a name cannot forge a second line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def duration(seconds: float) -> str:
    """Format a duration for people: 40 s, 12 min, 3 h 20 min."""
    if seconds < 180:  # rounded to minutes, it could be off by more than a sixth
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def without_passwords(text: object) -> str:
    """Return text without user names and passwords in its URLs: libraries quote URLs in their errors."""
    return _UP_TO_LAST_AT.sub(lambda word: _USER_INFO.sub(_without_user, word[0]), str(text))


def _without_user(match: re.Match[str]) -> str:
    return match[1] or match[0]


def said_to_people(text: object) -> str:
    """Return text that is safe for a log or a terminal: `visible`, and without passwords."""
    return visible(without_passwords(text))


def figure(value: Any) -> str:
    """Format a number, or a figure with its interval; '' for anything else."""
    if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
        return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def figures(values: Mapping[str, Any]) -> dict[str, str]:
    """Format the figures among values, by name; all else is left out."""
    return {name: text for name, value in values.items() if (text := figure(value))}


def counts_text(counts: Mapping[str, int], unit: str = "rows") -> str:
    """Format counts by split: train 90 rows, test 30 rows."""
    order = ("train", "validation", "test")
    names = [name for name in order if name in counts] + [n for n in counts if n not in order]
    return ", ".join(f"{name} {counts[name]:,} {unit}" for name in names)
