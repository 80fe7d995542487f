"""Rewrite stored parameters, of a file of deployments and of schedules, that name renamed or removed form fields."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from prefect import Flow

from tasks.core.errors import SettingsError
from tasks.core.forms import Form, former_paths, with_current_names

_FORM = "params"  # the one parameter of every flow of Nightshift


def former_names_in(flow: Flow[..., Any], parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the former names in a flow's parameters, such as training.schedule, with the current ones.

    Removed fields have the current name ''.
    """
    form, values = _form_of(flow), parameters.get(_FORM)
    if form is None or not isinstance(values, Mapping):
        return {}
    return {
        former: path
        for former, path in former_paths(form).items()
        if _holds(values, former.split("."))
    }


def with_current_parameters(flow: Flow[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flow's parameters under the current names of its form's fields, without removed fields.

    Raises:
        SettingsError: they hold a field under both its names.
    """
    form = _form_of(flow)
    if form is None or not former_names_in(flow, parameters):
        return dict(parameters)
    try:
        return {**parameters, _FORM: with_current_names(form, parameters[_FORM])}
    except ValueError as error:
        raise SettingsError(
            str(error), f"the parameters of {flow.name}", "correct them, and apply again"
        ) from None


def described(former: str, path: str) -> str:
    """Describe a change: "renamed former to current", or "left out former (no longer a field)"."""
    return f"renamed {former} to {path}" if path else f"left out {former} (no longer a field)"


def rewrite_definition(flow: Flow[..., Any], entry: dict[str, Any]) -> Iterator[str]:
    """Rewrite a deployment's definition in place: its parameters, and those of its schedules.

    Args:
        flow: of the deployment.
        entry: as in prefect.yaml.
    Yields:
        What was changed, as `described` says it.
    Raises:
        SettingsError: a field stands under both its names.
    """
    renamed: dict[str, None] = {}
    for holder in (entry, *entry.get("schedules", ())):
        parameters = holder.get("parameters")
        if not isinstance(parameters, Mapping):
            continue
        names = former_names_in(flow, parameters)
        renamed |= dict.fromkeys(described(former, path) for former, path in names.items())
        holder["parameters"] = with_current_parameters(flow, parameters)
    yield from renamed


def _form_of(flow: Flow[..., Any]) -> type[Form] | None:
    parameter = inspect.signature(flow.fn).parameters.get(_FORM)
    annotation: Any = parameter.annotation if parameter else None
    is_form = isinstance(annotation, type) and issubclass(annotation, Form)
    return annotation if is_form else None


def _holds(values: Mapping[str, Any], path: list[str]) -> bool:
    for part in path[:-1]:
        inner = values.get(part)
        if not isinstance(inner, Mapping):
            return False
        values = inner
    return path[-1] in values
