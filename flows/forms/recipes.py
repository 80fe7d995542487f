"""Recipes: named groups of settings that people choose in the form.

A recipe sets the fields that still have the form's defaults; changed fields stay. `standard` is the form itself.
docs/training.md lists the cost and the accuracy of each on IMDb, as far as they were measured.
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
        "training": {"epochs": 3, "layerwise_lr_decay": 0.9},
    },
}


def filled_in(values: Mapping[str, Any], form: type[BaseModel], name: RecipeName) -> dict[str, Any]:
    """Return values of a form, with a recipe's settings for the fields that have the form's defaults.

    A form cannot distinguish a typed value from an untouched default: a field with the default takes the recipe's
    value.

    Args:
        values: the form's contents: models or mappings, by field.
        form: the model that has `recipe`'s groups.
        name: the recipe.
    """
    contents = _plain(values)
    for group, settings in RECIPES[name].items():
        _fill(contents, form, group.split("."), settings)
    return contents


def _fill(
    group: dict[str, Any], form: type[BaseModel], path: Sequence[str], settings: Mapping[str, Any]
) -> None:
    """Fill in the fields of one group, in place; leave anything that is not a group to the form's validation."""
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


def _plain(values: Any) -> dict[str, Any]:
    return values.model_dump() if isinstance(values, BaseModel) else dict(values)


def _group(form: type[BaseModel], name: str) -> type[BaseModel]:
    group: Any = form.model_fields[name].annotation
    return group
