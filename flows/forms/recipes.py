"""Recipes: settings that go together, by a name that people choose in the form.

A recipe fills in what a form leaves as it is; what somebody has set differently stays. `standard` is the form itself.
What each costs and gives on IMDb, as far as it was measured, stands in docs/training.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

RecipeName: TypeAlias = Literal["standard", "quick", "best"]

#: Group of the form, then field; `data.split` is the group split within data.
RECIPES: dict[RecipeName, dict[str, dict[str, Any]]] = {
    "standard": {},
    "quick": {
        "data.split": {"limit_train_rows": 4000},
        "training": {
            "epochs": 2,
            "batch_size": 32,
            "learning_rate": 3e-4,
            "frozen_layers": 3,
            "best_epoch_by": "last",
        },
        "engines": {"cascade": "blended"},
    },
    "best": {
        "tokenization": {"max_length_tokens": 512},
        "training": {"epochs": 3, "layer_decay": 0.9},
    },
}


def filled_in(given: Mapping[str, Any], form: type[BaseModel], name: RecipeName) -> dict[str, Any]:
    """What was given to a form, with a recipe's settings where it leaves the form's own.

    A form cannot tell what was typed from what stood there: a field that has the form's own value takes the recipe's.

    Args:
        given: what the form is made from: models or mappings, by field.
        form: which has `recipe`'s groups.
        name: of the recipe.
    """
    told = _plain(given)
    for place, settings in RECIPES[name].items():
        _fill(told, form, place.split("."), settings)
    return told


def _fill(
    group: dict[str, Any], form: type[BaseModel], path: Sequence[str], settings: Mapping[str, Any]
) -> None:
    """One group's fields, in place; what is no group is left for the form to refuse."""
    for part in path:
        form = _group(form, part)
        inner = group.get(part, {})
        if not isinstance(inner, BaseModel | Mapping):
            return
        group[part] = _plain(inner)
        group = group[part]
    for field, value in settings.items():
        default = form.model_fields[field].default
        if group.get(field, default) == default:
            group[field] = value


def _plain(given: Any) -> dict[str, Any]:
    return given.model_dump() if isinstance(given, BaseModel) else dict(given)


def _group(form: type[BaseModel], name: str) -> type[BaseModel]:
    found: Any = form.model_fields[name].annotation
    return found
