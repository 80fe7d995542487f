"""Recipes: what they fill in, and what they leave."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from flows.forms.pipelines import RetrainParams, TuneParams
from flows.forms.recipes import RECIPES, RecipeName
from tasks.core.training.params import TrainingParams


def made(**given: Any) -> RetrainParams:
    return RetrainParams.model_validate(given)


def test_every_recipe_is_in_the_form_and_fits_it() -> None:
    assert set(RECIPES) == set(get_args(RecipeName))
    for name in RECIPES:
        assert (
            made(recipe=name).recipe == name == TuneParams.model_validate({"recipe": name}).recipe
        )


def test_the_standard_one_is_the_form_as_it_stands() -> None:
    assert made() == made(recipe="standard") == RetrainParams()


def test_it_fills_in_what_was_left_and_keeps_what_was_set() -> None:
    quick = RECIPES["quick"]["training"]
    params = made(recipe="quick", training={"epochs": 7, "base_model": "other"})
    assert params.training.epochs == 7 and params.training.base_model == "other"
    assert params.training.frozen_layers == quick["frozen_layers"]
    assert params.data.split.limit_train_rows == 4000
    assert params.data.split.validation_fraction == RetrainParams().data.split.validation_fraction


def test_a_form_that_comes_back_is_the_same() -> None:
    """As from the UI, which sends every field, or from a run's parameters."""
    for name in RECIPES:
        whole = RetrainParams().model_dump(mode="json") | {"recipe": name}
        assert made(**whole) == made(recipe=name) == made(**made(recipe=name).model_dump())


def test_what_a_sweep_found_is_not_filled_in_again() -> None:
    """A winner may have a value that is the form's own; the recipe, asked again, would overwrite it."""
    swept = TuneParams.model_validate({"recipe": "quick"})
    winner = swept.training.model_copy(update={"batch_size": TrainingParams().batch_size})
    assert swept.training.batch_size != winner.batch_size
    best = swept.retraining(winner)
    assert best.training == winner and best.data == swept.data
    assert made(**best.model_dump(mode="json")) == best


def test_groups_may_be_models() -> None:
    params = RetrainParams(recipe="quick", training=TrainingParams(seed=7))
    assert params.training.seed == 7 and params.training.frozen_layers


def test_what_the_form_refuses_is_refused_with_a_recipe_too() -> None:
    with pytest.raises(ValidationError, match="'standard', 'quick' or 'best'"):
        made(recipe="quik")
    for wrong in ([1], None, {"quick": 1}):
        with pytest.raises(ValidationError, match="recipe"):
            made(recipe=wrong)
    for wrong in ([1], None, "fast", {"epoch": 3}):
        with pytest.raises(ValidationError, match="training"):
            made(recipe="quick", training=wrong)
