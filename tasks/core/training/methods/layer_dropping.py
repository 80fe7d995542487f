"""A student of fewer layers: some of a base model's, as they are, without those between them.

A model that begins with every other layer of a trained one learns far better than one that begins at random: Sanh et
al., 2019, "DistilBERT, a distilled version of BERT" (section 3); Sun et al., 2019, "Patient Knowledge Distillation for
BERT Model Compression". It can be trained with a teacher (`tasks/core/training/methods/distillation.py`) and without.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tasks.core.errors import SettingsError
from tasks.core.models.classifier import Classifier, layers_of
from tasks.core.models.folders import depth, read_config
from tasks.core.training.params import TrainingParams

_FIELD = "training.kept_layers"
_ONE_A_LAYER = ("layer_types", "mlp_layer_types")  # lists in configurations


def places_of(depth: int, kept: int) -> list[int]:
    """Which of `depth` layers are kept, from 0: evenly spaced, the first and the last among them; of one, the first."""
    if kept == 1:
        return [0]
    return [(2 * i * (depth - 1) + kept - 1) // (2 * (kept - 1)) for i in range(kept)]


def require_kept_layers(folder: Path, params: TrainingParams) -> None:
    """Check that a base model has the layers to be kept, before anything is spent on it; its weights are not read.

    Raises:
        SettingsError: it has fewer, they cannot be told apart (those of ALBERT are one), or more are to be frozen.
    """
    if not params.kept_layers:
        return
    _require(depth(folder), params.kept_layers)
    if params.frozen_layers > params.kept_layers:
        raise SettingsError(
            f"{params.kept_layers} layers are kept, and {params.frozen_layers} are to be frozen",
            "training.frozen_layers",
            "freeze fewer, or raise training.kept_layers",
        )
    with torch.device("meta"):
        _stack(AutoModelForSequenceClassification.from_config(read_config(folder)))


def keep_layers(classifier: Classifier, kept: int) -> Classifier:
    """A classifier of some of another's layers; the rest of its weights are the same, and its configuration says so.

    Args:
        classifier: as `load_for_training` gives it; left as it is.
        kept: how many; 0, or all there are, gives the same classifier.
    Raises:
        SettingsError: it has fewer, or they cannot be told apart.
    """
    model: Any = classifier.model
    layers = int(model.config.get_text_config().num_hidden_layers)
    if kept in (0, layers):
        return classifier
    _require(layers, kept)
    name = _stack(model)
    places = places_of(layers, kept)
    config = copy.deepcopy(model.config)
    _shorten(config.get_text_config(), places)
    student: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    try:
        student.load_state_dict(_renamed(model.state_dict(), name, places))
    except RuntimeError as error:  # layers of several kinds, in an order that only the model knows
        raise _not_apart(model) from error
    return replace(classifier, model=student.train(model.training))


def _require(layers: int, kept: int) -> None:
    if kept > layers:
        raise SettingsError(
            f"The model has {layers} layers, and {kept} are to be kept", _FIELD, "keep fewer"
        )


def _stack(model: PreTrainedModel) -> str:
    """The name of the stack of layers among the model's modules."""
    stack = layers_of(model)
    if stack is None:
        raise _not_apart(model)
    return next(name for name, module in model.named_modules() if module is stack)


def _not_apart(model: PreTrainedModel) -> SettingsError:
    return SettingsError(
        f"The layers of a {type(model).__name__} cannot be told apart", _FIELD, "set it to 0"
    )


def _shorten(config: Any, places: Sequence[int]) -> None:
    for name in _ONE_A_LAYER:
        if given := getattr(config, name, None):
            setattr(config, name, [given[place] for place in places])
    config.num_hidden_layers = len(places)


def _renamed(
    weights: dict[str, torch.Tensor], stack: str, places: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Weights by their names in the student; those of layers that are not kept are left out."""
    numbers = {str(old): new for new, old in enumerate(places)}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        number, _, rest = name.removeprefix(f"{stack}.").partition(".")
        if not name.startswith(f"{stack}."):
            found[name] = tensor
        elif number in numbers:
            found[f"{stack}.{numbers[number]}.{rest}"] = tensor
    return found
