"""Pairs that people type into one field (`1=NEGATIVE, 3=-` or `{1: NEGATIVE, 3: -}`), or a mapping of a job file."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, WithJsonSchema

LEAVE_OUT = "-"  # on the right side: the left side is left out

_QUOTED = r'"(?:[^"\\]|\\.)*"|\'[^\']*\''
_PAIR = re.compile(rf"\s*({_QUOTED}|[^=:,\n]+?)\s*[=:]\s*({_QUOTED}|[^,\n]+?)\s*(?:[,\n]|$)")
_PLAIN = re.compile(r"[^=:,\n{}\"'\s](?:[^=:,\n{}\"']*[^=:,\n{}\"'\s])?")


def parse_pairs(text: str) -> dict[str, str]:
    """Return the pairs of a text, in their order.

    Raises:
        ValueError: it is not of the form `one=two, three=four`, or gives one name two values.
    """
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1].strip()
    pairs: dict[str, str] = {}
    at = 0
    while at < len(inner):
        pair = _PAIR.match(inner, at)
        if not pair:
            raise ValueError(f"write pairs such as NAME=VALUE, OTHER=VALUE, not {inner[at:]!r}")
        name, value = map(_unquoted, pair.groups())
        if pairs.setdefault(name, value) != value:
            raise ValueError(f"{name!r} appears twice, as {pairs[name]!r} and as {value!r}")
        at = pair.end()
        at += len(inner[at:]) - len(inner[at:].lstrip(", \n"))
    return pairs


def pairs_text(pairs: Mapping[str, str]) -> str:
    """Return the pairs as a text that `parse_pairs` reads."""
    return ", ".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs.items())


def _normal_text(value: Any) -> Any:
    """Convert a typed text or a mapping to the canonical text of pairs; other values stay as they are."""
    if isinstance(value, Mapping):
        entries = cast(Mapping[Any, Any], value)
        return pairs_text({_name(key): _value(key, value) for key, value in entries.items()})
    return pairs_text(parse_pairs(value)) if isinstance(value, str) else value


def _name(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _value(key: Any, value: Any) -> str:
    if value is None:
        return LEAVE_OUT
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(
            f"the value of {key!r} is read as {value!r}, not as a text; put it in quotes"
        )
    return str(value)


def _quoted(part: str) -> str:
    return part if _PLAIN.fullmatch(part) else json.dumps(part, ensure_ascii=False)


def _unquoted(part: str) -> str:
    if part[0] == '"' and len(part) > 1:
        try:
            return str(json.loads(part))
        except ValueError:
            return part[1:-1]
    return part[1:-1] if part[0] == "'" and len(part) > 1 else part


def holds_pairs(metadata: Iterable[Any]) -> bool:
    """True if a field with this metadata holds pairs."""
    return any(isinstance(one, BeforeValidator) and one.func is _normal_text for one in metadata)


# Pairs as a text, in forms and on the command line; the parameters of a job may also give a mapping.
PairsText = Annotated[
    str,
    BeforeValidator(_normal_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}},
            ]
        }
    ),
]
