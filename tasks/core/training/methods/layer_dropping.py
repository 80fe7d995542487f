"""Layer dropping: build a smaller model from some of a base model's layers.

A model initialised with every other layer of a trained model learns far better than one initialised at random: Sanh
et al., 2019, "DistilBERT, a distilled version of BERT" (section 3); Sun et al., 2019, "Patient Knowledge Distillation
for BERT Model Compression".
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

_FIELD = "training.num_layers"
_ONE_A_LAYER = ("layer_types", "mlp_layer_types")  # lists in configurations, one entry per layer


def layer_indices(depth: int, num_layers: int) -> list[int]:
    """Return the indices of the layers to keep, from 0: evenly spaced, including the first and the last.

    If one layer is kept, it is the first.
    """
    if num_layers == 1:
        return [0]
    return [
        (2 * i * (depth - 1) + num_layers - 1) // (2 * (num_layers - 1)) for i in range(num_layers)
    ]


def require_num_layers(folder: Path, params: TrainingParams) -> None:
    """Check early, without reading its weights, that a base model has the layers to keep.

    Raises:
        SettingsError: it has fewer, its layers are not separate (ALBERT shares one), or more are to be frozen.
    """
    if not params.num_layers:
        return
    _require(depth(folder), params.num_layers)
    if params.frozen_layers > params.num_layers:
        raise SettingsError(
            f"{params.num_layers} layers are kept, and {params.frozen_layers} are to be frozen",
            "training.frozen_layers",
            "freeze fewer, or raise training.num_layers",
        )
    with torch.device("meta"):
        _stack(AutoModelForSequenceClassification.from_config(read_config(folder)))


def keep_layers(classifier: Classifier, num_layers: int) -> Classifier:
    """Return a classifier with some of another's layers, the same other weights, and an adapted configuration.

    Args:
        classifier: as `load_for_training` returns it; not changed.
        num_layers: the number of layers; 0, or all there are, returns the same classifier.
    Raises:
        SettingsError: it has fewer, or its layers are not separate.
    """
    model: Any = classifier.model
    layers = int(model.config.get_text_config().num_hidden_layers)
    if num_layers in (0, layers):
        return classifier
    _require(layers, num_layers)
    name = _stack(model)
    indices = layer_indices(layers, num_layers)
    config = copy.deepcopy(model.config)
    _shorten(config.get_text_config(), indices)
    smaller: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    try:
        smaller.load_state_dict(_renamed(model.state_dict(), name, indices))
    except RuntimeError as error:  # layers of several kinds, in an order only the model knows
        raise _not_apart(model) from error
    return replace(classifier, model=smaller.train(model.training))


def _require(layers: int, num_layers: int) -> None:
    if num_layers > layers:
        raise SettingsError(
            f"The model has {layers} layers, and {num_layers} are to be kept", _FIELD, "keep fewer"
        )


def _stack(model: PreTrainedModel) -> str:
    """Return the module name of the model's stack of layers."""
    stack = layers_of(model)
    if stack is None:
        raise _not_apart(model)
    return next(name for name, module in model.named_modules() if module is stack)


def _not_apart(model: PreTrainedModel) -> SettingsError:
    return SettingsError(
        f"The layers of a {type(model).__name__} cannot be told apart", _FIELD, "set it to 0"
    )


def _shorten(config: Any, indices: Sequence[int]) -> None:
    for name in _ONE_A_LAYER:
        if values := getattr(config, name, None):
            setattr(config, name, [values[index] for index in indices])
    config.num_hidden_layers = len(indices)


def _renamed(
    weights: dict[str, torch.Tensor], stack: str, indices: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Return the weights under their names in the smaller model, without those of dropped layers."""
    numbers = {str(old): new for new, old in enumerate(indices)}
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        number, _, rest = name.removeprefix(f"{stack}.").partition(".")
        if not name.startswith(f"{stack}."):
            renamed[name] = tensor
        elif number in numbers:
            renamed[f"{stack}.{numbers[number]}.{rest}"] = tensor
    return renamed
