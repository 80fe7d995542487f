"""Base of all parameter models, which people fill in as forms in the Prefect UI."""

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.parsing.patterns import NOT_OF_SHAPE

_LONGEST_VALUE = 200  # characters of a given value that a message quotes


def _describe_fields(schema: dict[str, Any]) -> None:
    """Give each property its `title` and `position`.

    Without a title, the Prefect UI shows the title of the group's class, or "Field". Without a position, it sorts the
    form alphabetically.
    """
    for position, (name, field) in enumerate(schema.get("properties", {}).items()):
        field.setdefault("title", name.replace("_", " ").title())
        field["position"] = position


class Form(BaseModel):
    """Base class of forms: fields appear in the order of the class body; unknown fields are refused, not ignored."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        json_schema_extra=_describe_fields,
    )


def problems_of(
    error: ValidationError, before: str = "", form: type[BaseModel] | None = None
) -> str:
    """Return everything that is wrong with the given values, field by field.

    Args:
        error: pydantic's error.
        before: path of the form itself, such as params.
        form: the form that was filled in; its fields are suggested instead of unknown ones.
    """
    return "; ".join(_problem(dict(e), before, form) for e in error.errors())


def _problem(error: dict[str, Any], before: str, form: type[BaseModel] | None) -> str:
    place = ".".join(map(str, [*filter(None, [before]), *error["loc"]]))
    message, given = error["msg"].removeprefix("Value error, "), _shortened(repr(error["input"]))
    start = f"{place}: " * bool(place)
    if error["type"] == NOT_OF_SHAPE:
        return f"{start}{given} {message}"
    if error["type"] == "missing":
        return f"{start}it is required"
    if error["type"] == "extra_forbidden":
        near = form and suggestions(".".join(map(str, error["loc"])), _with_groups(form))
        return f"{start}there is no such field" + (f", did you mean {near}?" if near else "")
    return (
        f"{start}{message}" if error["type"] == "value_error" else f"{start}{message}, not {given}"
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def field_paths(form: type[BaseModel], prefix: str = "") -> list[str]:
    """Return all fields of a form that take a value, as group.field, in the form's order."""
    found: list[str] = []
    for name, field in form.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += field_paths(kind, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _with_groups(form: type[BaseModel]) -> list[str]:
    paths = field_paths(form)
    groups = dict.fromkeys(path.rpartition(".")[0] for path in paths if "." in path)
    return [*groups, *paths]


def suggestions(wrong: str, known: Sequence[str]) -> str:
    """Return the names that an unknown name may stand for; '' if none is similar.

    A field's own name counts more than its group's: `location` suggests data.source.location and pretraining.location,
    while `source.location` suggests the first alone. Shorter paths come first, then those that stand first in the form.

    Args:
        wrong: the unknown name, such as data.location; dots separate groups.
        known: all existing names.
    """
    leaf = wrong.rpartition(".")[2]
    leaves = [name.rpartition(".")[2] for name in known]
    found = [name for name in known if name.endswith(f".{wrong}")]
    if not found:
        found = [name for name, own in zip(known, leaves, strict=True) if own == leaf]
    if not found:
        found = difflib.get_close_matches(wrong, known, 1, 0.8)
    if not found:
        near = difflib.get_close_matches(leaf, leaves, 1, 0.7)
        found = [name for name, own in zip(known, leaves, strict=True) if own in near]
    if not found:
        found = difflib.get_close_matches(wrong, known, 1)
    return " or ".join(sorted(found, key=len)[:3])
