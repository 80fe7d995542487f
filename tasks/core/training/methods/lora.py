"""LoRA: freeze a large model's matrices and train a low-rank product of two thin matrices beside each.

Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models". The package peft makes the adapters. They are
merged into the weights when training ends, so code that loads the model needs to know nothing of them.
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

_SCALE = 2  # alpha over rank: the scale of what adapters add


def require_package(params: TrainingParams) -> None:
    """Raise SettingsError if adapters are requested and the package peft is missing."""
    if params.lora_rank and importlib.util.find_spec("peft") is None:
        raise SettingsError(
            "LoRA needs the package peft",
            "training.lora_rank",
            "install nightshift with the extra 'lora', or set it to 0",
        )


def require_layers(params: TrainingParams, layers: int) -> None:
    """Raise SettingsError if adapters are requested and all layers of the model are frozen."""
    if params.lora_rank and params.frozen_layers >= layers:
        raise SettingsError(
            f"All {layers} layers are frozen, and none is left for LoRA",
            "training.frozen_layers",
            "freeze fewer, or set training.lora_rank to 0",
        )


def insert(model: PreTrainedModel, params: TrainingParams) -> None:
    """Freeze embeddings and layers, and add adapters to the matrices of layers above `frozen_layers`.

    The head and everything else after the layers is trained in full. Checkpoints hold only what is trained.

    Raises:
        SettingsError: the package is missing, no layer is left, or the model's layers are not separate.
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
    """Merge the adapters into the weights and remove them. A model without adapters is not changed."""
    if importlib.util.find_spec("peft") is None:
        return
    kind: Any = importlib.import_module("peft.tuners.lora").LoraLayer
    adapters = [(name, m) for name, m in model.named_modules() if isinstance(m, kind)]
    for name, layer in adapters:
        adapter: Any = layer
        adapter.merge()
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, adapter.get_base_layer())
    if adapters:
        model._keys_to_ignore_on_save = None  # pyright: ignore[reportPrivateUsage]
