"""Flows with one form as their parameter, validated again when a run begins.

The UI lets people skip the server's validation, and programs may too. Prefect's own validation in the flow ends in a
stack trace; this one ends in a sentence that names each field, what is wrong with it, and the value given.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from prefect import Flow, flow
from pydantic import ValidationError

from tasks.core.errors import SettingsError
from tasks.core.forms import Form, problems_of
from tasks.runtime.reporting.logs import log_for_people
from tasks.runtime.runs.preflight import require_passwords
from tasks.runtime.settings import go_past_proxies_to_loopback, read_settings

FormT = TypeVar("FormT", bound=Form)
R = TypeVar("R")


def form_flow(form: type[FormT], name: str) -> Callable[[Callable[[FormT], R]], Flow[..., R]]:
    """Make a flow with one parameter `params`, which is optional if every field of the form has a default.

    Args:
        form: the model of the parameter.
        name: the flow's name.
    """

    def decorate(function: Callable[[FormT], R]) -> Flow[..., R]:
        @functools.wraps(function)
        def checked(params: Any) -> R:
            go_past_proxies_to_loopback()
            log_for_people()
            require_passwords(read_settings())
            try:
                values = form.model_validate(params)
            except ValidationError as error:
                raise SettingsError(
                    problems_of(error, "params", form), name, "correct the form and run it again"
                ) from None
            return function(values)

        return flow(name=name, validate_parameters=False)(checked)

    return decorate
