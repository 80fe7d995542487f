"""Parameters that are stored under former names of fields: rewritten, and listed."""

from typing import Any

import pytest

from deployments.apply import load
from deployments.stored_parameters import (
    former_names_in,
    rewrite_definition,
    with_current_parameters,
)
from flows.forms.pipelines import RetrainParams
from tasks.core.errors import SettingsError

RETRAIN = load("flows.retrain.retrain")


def test_a_definition_is_rewritten_with_its_schedules() -> None:
    entry: dict[str, Any] = {
        "parameters": {
            "params": {
                "training": {"kept_layers": 3, "epochs": 1},
                "distillation": {"teacher": "", "weight": 0.5},
            }
        },
        "schedules": [
            {"cron": "0 3 * * 0", "parameters": {"params": {"data": {"validation": {"max_unusable_share": 0.2}}}}},
            {"cron": "0 4 * * 0"},
        ],
    }  # fmt: skip
    assert list(rewrite_definition(RETRAIN, entry)) == [
        "left out distillation (no longer a field)",
        "renamed training.kept_layers to training.num_layers",
        "renamed data.validation.max_unusable_share to data.validation.max_unusable_fraction",
    ]
    assert entry["parameters"] == {"params": {"training": {"num_layers": 3, "epochs": 1}}}
    RetrainParams.model_validate(entry["schedules"][0]["parameters"]["params"])
    assert list(rewrite_definition(RETRAIN, entry)) == []


def test_what_is_current_stays_as_it_is() -> None:
    parameters = {"params": {"training": {"epochs": 2}, "recipe": "quick"}}
    assert former_names_in(RETRAIN, parameters) == {}
    assert with_current_parameters(RETRAIN, parameters) == parameters
    assert with_current_parameters(RETRAIN, {"params": {"training": "no mapping"}}) == {
        "params": {"training": "no mapping"}
    }
    assert former_names_in(load("flows.tidy.tidy"), {}) == {}


def test_both_names_at_once_are_an_error_that_names_the_flow() -> None:
    entry = {"parameters": {"params": {"training": {"kept_layers": 3, "num_layers": 2}}}}
    with pytest.raises(SettingsError, match=r"set only num_layers.*parameters of retrain"):
        list(rewrite_definition(RETRAIN, entry))
