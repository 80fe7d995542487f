"""The base of every parameter model: what people fill in as a form in the Prefect UI."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


def _describe_fields(schema: dict[str, Any]) -> None:
    """Give each property its `title` and `position`.

    Without a title, the Prefect UI shows the one of the group's class, or "Field". Without a position, it sorts the
    form by the alphabet.
    """
    for position, (name, field) in enumerate(schema.get("properties", {}).items()):
        field.setdefault("title", name.replace("_", " ").title())
        field["position"] = position


class Form(BaseModel):
    """Fields appear in the order they are written in; an unknown field is refused, not ignored."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        json_schema_extra=_describe_fields,
    )


def problems_of(error: ValidationError, before: str = "") -> str:
    """All that is wrong with what was given, field by field."""
    said: list[str] = []
    for e in error.errors():
        place = ".".join(map(str, [*filter(None, [before]), *e["loc"]]))
        given = "" if e["type"] == "value_error" else f", not {e['input']!r}"
        said.append(f"{place}: " * bool(place) + e["msg"].removeprefix("Value error, ") + given)
    return "; ".join(said)
