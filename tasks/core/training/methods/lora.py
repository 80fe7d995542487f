"""LoRA: a large model's matrices stay as they are, and a small product of two thin ones is trained beside each.

Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models". The package peft makes the adapters; they are
added into the weights when training ends, so that whatever loads the model knows nothing of them.
"""

import importlib
import importlib.util
import itertools
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tasks.core.errors import SettingsError
from tasks.core.models import classifier
from tasks.core.training.params import TrainingParams

_SCALE = 2  # of what adapters add: alpha over rank


def require_package(params: TrainingParams) -> None:
    """Raises SettingsError where adapters are asked for and the package that makes them is missing."""
    if params.lora_rank and importlib.util.find_spec("peft") is None:
        raise SettingsError(
            "LoRA needs the package peft",
            "training.lora_rank",
            "install nightshift with the extra 'lora', or set it to 0",
        )


def require_layers(params: TrainingParams, layers: int) -> None:
    """Raises SettingsError where adapters are asked for and all of a model's layers are frozen."""
    if params.lora_rank and params.frozen_layers >= layers:
        raise SettingsError(
            f"All {layers} layers are frozen, and none is left for LoRA",
            "training.frozen_layers",
            "freeze fewer, or set training.lora_rank to 0",
        )


def insert(model: PreTrainedModel, params: TrainingParams) -> None:
    """Freeze embeddings and layers, and put adapters beside the matrices of all layers that are not frozen otherwise.

    The head and what else comes after the layers is trained whole. Checkpoints hold what is trained only.

    Raises:
        SettingsError: the package is missing, no layer is left, or the model's layers cannot be told apart.
    """
    if not params.lora_rank:
        return
    require_package(params)
    layers = classifier.layers_of(model)
    if layers is None:
        raise SettingsError(
            f"The layers of a {type(model).__name__} cannot be told apart",
            "training.lora_rank",
            "set it to 0",
        )
    require_layers(params, len(layers))
    peft: Any = importlib.import_module("peft")
    adapted = {id(m) for layer in layers[params.frozen_layers :] for m in layer.modules()}
    targets = {
        name: module
        for name, module in model.named_modules()
        if id(module) in adapted and isinstance(module, torch.nn.Linear | Conv1D)
    }
    of_layers = {id(p) for p in layers.parameters()}
    before = itertools.takewhile(lambda p: id(p) not in of_layers, model.parameters())
    fixed = of_layers | {id(p) for p in before}
    whole = [p for p in model.parameters() if id(p) not in fixed and p.requires_grad]
    config = peft.LoraConfig(
        r=params.lora_rank,
        lora_alpha=_SCALE * params.lora_rank,
        lora_dropout=0.0,
        target_modules=list(targets),
        fan_in_fan_out=all(isinstance(m, Conv1D) for m in targets.values()),  # GPT-2's way
    )
    peft.inject_adapter_in_model(config, model)
    for parameter in whole:
        parameter.requires_grad_(True)
    untrained = [name for name, p in model.named_parameters() if not p.requires_grad]
    model._keys_to_ignore_on_save = set(untrained)  # pyright: ignore[reportPrivateUsage]


def merge(model: PreTrainedModel) -> None:
    """Add what adapters have learned into the weights, and remove them. A model without any stays as it is."""
    if importlib.util.find_spec("peft") is None:
        return
    kind: Any = importlib.import_module("peft.tuners.lora").LoraLayer
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, kind)]
    for name, layer in found:
        adapter: Any = layer
        adapter.merge()
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, adapter.get_base_layer())
    if found:
        model._keys_to_ignore_on_save = None  # pyright: ignore[reportPrivateUsage]
