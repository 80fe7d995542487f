"""Parser for files of behavioural checks: user-written YAML, turned into `Check`s or refused with explanations.

    lexicons:               # words a slot, for all checks of the file
      thing: [film, book]
    checks:
      - name: plain praise
        kind: MFT
        label: positive
        templates: ["I loved this {thing}."]

All problems of a file are reported at once, each with its check, its field and what to do. docs/behaviour.md is the
guide to writing such files.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import Field, ValidationError, field_validator

from tasks.core.errors import SettingsError
from tasks.core.evaluation.behaviour.kinds import KINDS, Check, Lexicons, checked_lexicons
from tasks.core.forms import Form
from tasks.core.parsing.bounded_yaml import load_yaml

MAX_BYTES = 1_000_000
BUILT_IN = Path(__file__).parents[3] / "checks"
_EXPLAINED = {"missing", "literal_error", "greater_than_equal", "less_than_equal"}
_FIX = "correct the file; docs/behaviour.md shows what it may hold"


class _File(Form):
    lexicons: Lexicons = Field(default={}, max_length=200, description="Words for each slot.")
    checks: list[dict[str, Any]] = Field(
        min_length=1, max_length=200, description="The checks, each with a name and a kind."
    )

    @field_validator("lexicons")
    @classmethod
    def _lexicons_are_of_use(cls, lexicons: Lexicons) -> Lexicons:
        return checked_lexicons(lexicons)


def load_checks(content: str | bytes, name: str) -> list[Check]:
    """Return the checks of a file, in its order.

    Args:
        content: of the file, YAML in UTF-8.
        name: of the file, for messages.
    Raises:
        SettingsError: with everything that is wrong with it.
    """
    raw = _parsed(content, name)
    try:
        file = _File.model_validate(raw)
    except ValidationError as error:
        raise _refused(name, list(_sentences(error, _File))) from None
    checks: list[Check] = []
    problems: list[str] = []
    for number, fields in enumerate(file.checks, 1):
        called = fields.get("name")
        location = f"check {called[:80]!r}" if isinstance(called, str) else f"check number {number}"
        outcome = _check(fields, file.lexicons)
        if isinstance(outcome, Check):
            checks.append(outcome)
        else:
            problems += [f"{location}: {problem}" for problem in outcome]
    problems += _twice(checks)
    if problems:
        raise _refused(name, problems)
    return checks


@cache
def built_in_checks() -> tuple[Check, ...]:
    """Return the checks that come with Nightshift: English sentiment, and checks that apply to every review."""
    files = sorted(BUILT_IN.glob("*.yaml"))
    return tuple(c for f in files for c in load_checks(f.read_bytes(), f"tasks/checks/{f.name}"))


def _parsed(content: str | bytes, name: str) -> Any:
    if len(content) > MAX_BYTES:
        raise SettingsError(
            f"The file of checks is larger than {MAX_BYTES:,} bytes",
            name,
            "make sure that it is the right file, or shorten its lists",
        )
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        return load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(
            f"Not YAML: {_reason(error)}", f"{name}{line}", "correct it there, or name another file"
        ) from None


def _reason(error: Exception) -> str:
    """Return why YAML refuses the file, without any of the file's text."""
    if isinstance(error, UnicodeDecodeError):
        return "the file is not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    problem = getattr(error, "problem", None)
    return str(problem) if problem else "it contains an invalid value"


def _check(fields: dict[str, Any], shared: Lexicons) -> Check | list[str]:
    """Return a check, or the list of its problems."""
    fields = dict(fields)
    kind = fields.pop("kind", None)
    model = KINDS.get(kind.upper()) if isinstance(kind, str) else None
    if model is None:
        problem = (
            f"{kind!r} is not a kind"
            if isinstance(kind, str | int | float)
            else "is missing or not a kind"
        )
        return [f"kind: {problem}; write one of {', '.join(KINDS)}"]
    own = fields.get("lexicons", {})
    if isinstance(own, dict):
        fields["lexicons"] = shared | cast(dict[str, Any], own)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        return list(_sentences(error, model))


def _sentences(error: ValidationError, model: type[Form]) -> Iterator[str]:
    """Yield each of pydantic's findings as field, what is wrong, and what to do."""
    for detail in error.errors(include_url=False, include_context=False):
        path = detail["loc"]
        location = ", ".join(f"number {p + 1}" if isinstance(p, int) else str(p) for p in path)
        field = model.model_fields.get(str(path[0])) if path else None
        text = _problem(detail["type"], detail["msg"], detail["input"], model)
        about = f" ({field.description})" if field and detail["type"] in _EXPLAINED else ""
        yield f"{location}: {text}{about}" if location else text


def _problem(kind: str, message: str, value: Any, model: type[Form]) -> str:
    """Describe what is wrong with one value, and what to do; texts of the file are not repeated."""
    number = isinstance(value, bool | int | float)
    match kind:
        case "value_error":
            return message.removeprefix("Value error, ")
        case "missing":
            return "is missing; add it"
        case "extra_forbidden":
            return f"is not a field; the fields are {', '.join(model.model_fields)}"
        case "string_type" if number or value is None:
            return f"YAML reads this as {value!r}, not as a text; put it in quotes"
        case "string_type":
            return "must be one text; write it after the colon or the dash"
        case "list_type":
            return "must be a list; write [one, two], or a line with a dash for each"
        case "dict_type" | "model_type":
            return "must be fields with values; write lines of the form `name: value`"
        case "string_pattern_mismatch":
            return "contains a character that is not allowed; use letters, digits, spaces and , . ' ( ) / + -"
        case _:
            requirement = re.sub(r"^\w+ should ", "", message).removesuffix(
                " after validation, not 0"
            )
            return f"must {requirement}" + (f", not {value!r}" if number else "")


def _twice(checks: list[Check]) -> list[str]:
    times = Counter(check.name for check in checks)
    return [
        f"check {name!r}: {n} checks have this name; rename all but one"
        for name, n in times.items()
        if n > 1
    ]


def _refused(name: str, problems: list[str]) -> SettingsError:
    return SettingsError(f"These checks cannot be used: {'; '.join(problems)}", name, _FIX)
