"""Base of all parameter models, which people fill in as forms in the Prefect UI."""

import difflib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tasks.core.parsing.patterns import NOT_OF_SHAPE

logger = logging.getLogger(__name__)

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
    """Base class of forms: fields appear in the order of the class body; unknown fields are refused, not ignored.

    Attributes:
        former_names: fields that were renamed, with their first names. A first name is still accepted, with a warning,
            and remains the name in digests.
        removed_fields: fields that were removed. A value given to one is left out, with a warning.
        later_fields: fields that digests leave out while they have their default, because they were added later.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        json_schema_extra=_describe_fields,
    )
    former_names: ClassVar[Mapping[str, str]] = {}
    removed_fields: ClassVar[frozenset[str]] = frozenset()
    later_fields: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _accept_former_fields(cls, values: Any) -> Any:
        return _renamed(cls, values) if isinstance(values, Mapping) else values

    def identity(
        self, include: Collection[str] | None = None, exclude: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the values as they enter digests: under first names, so that a renamed field changes no digest.

        Args:
            include: names of the fields to return; None for all.
            exclude: names of fields to leave out.
        """
        dumped, values = self.model_dump(), dict[str, Any]()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            is_new = name in self.later_fields and value == field.default
            if name in exclude or is_new or (include is not None and name not in include):
                continue
            first_name = self.former_names.get(name, name)
            values[first_name] = value.identity() if isinstance(value, Form) else dumped[name]
        return values


def with_current_names(form: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace former names and leave out removed fields in all groups of a form's values, with a warning for each."""
    current = _renamed(form, values)
    for name, group in _groups(form):
        if isinstance(current.get(name), Mapping):
            current[name] = with_current_names(group, current[name])
    return current


def _renamed(form: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    current = dict(values)
    if not issubclass(form, Form):
        return current
    for name in sorted(form.removed_fields & current.keys()):
        logger.warning("The field %s is no longer part of Nightshift, and is left out", name)
        del current[name]
    for name, former in form.former_names.items():
        if former not in current:
            continue
        if name in current:
            raise ValueError(f"{former} is the former name of {name}: set only {name}")
        logger.warning("The field %s is now called %s", former, name)
        current[name] = current.pop(former)
    return current


def former_paths(form: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Return the former paths of a form's fields, such as training.schedule, with the current ones.

    Those of removed fields have the current path ''.
    """
    paths: dict[str, str] = {}
    if issubclass(form, Form):
        paths = {f"{prefix}{former}": f"{prefix}{n}" for n, former in form.former_names.items()}
        paths |= {f"{prefix}{name}": "" for name in sorted(form.removed_fields)}
    for name, group in _groups(form):
        paths |= former_paths(group, f"{prefix}{name}.")
    return paths


def _groups(form: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the fields of a form that are forms themselves, also those that may be None."""
    for name, field in form.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield name, kind


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
    path = ".".join(map(str, [*filter(None, [before]), *error["loc"]]))
    message, value = error["msg"].removeprefix("Value error, "), _shortened(repr(error["input"]))
    start = f"{path}: " * bool(path)
    if error["type"] == NOT_OF_SHAPE:
        return f"{start}{value} {message}"
    if error["type"] == "missing":
        return f"{start}it is required"
    if error["type"] == "extra_forbidden":
        near = form and suggestions(".".join(map(str, error["loc"])), _with_groups(form))
        return f"{start}there is no such field" + (f", did you mean {near}?" if near else "")
    return (
        f"{start}{message}" if error["type"] == "value_error" else f"{start}{message}, not {value}"
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def field_paths(form: type[BaseModel], prefix: str = "") -> list[str]:
    """Return all fields of a form that take a value, as group.field, in the form's order."""
    paths: list[str] = []
    for name, field in form.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            paths += field_paths(kind, f"{prefix}{name}.")
        else:
            paths.append(prefix + name)
    return paths


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
    similar = [name for name in known if name.endswith(f".{wrong}")]
    if not similar:
        similar = [name for name, own in zip(known, leaves, strict=True) if own == leaf]
    if not similar:
        similar = difflib.get_close_matches(wrong, known, 1, 0.8)
    if not similar:
        near = difflib.get_close_matches(leaf, leaves, 1, 0.7)
        similar = [name for name, own in zip(known, leaves, strict=True) if own in near]
    if not similar:
        similar = difflib.get_close_matches(wrong, known, 1)
    return " or ".join(sorted(similar, key=len)[:3])
