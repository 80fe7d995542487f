"""Parameter groups of the optimizer: learning rate and weight decay of each parameter.

Layer-wise decay gives each layer a fraction of the learning rate of the layer above it, so that lower layers keep more
of what they learned before: Howard & Ruder, 2018, "Universal Language Model Fine-tuning for Text Classification"
(section 3.2, discriminative fine-tuning); Sun et al., 2019, "How to Fine-Tune BERT for Text Classification?" (section
5.3.3).
"""

from collections.abc import Collection
from typing import Any

from torch.nn import Module, Parameter

from tasks.core.errors import SettingsError
from tasks.core.models import classifier


def parameter_groups(
    model: Module, decayed: Collection[str], learning_rate: float, weight_decay: float, share: float
) -> list[dict[str, Any]]:
    """Return AdamW's groups of trained parameters, by depth and by weight decay.

    Args:
        model: of any family. The head, all else after the layers, and the top layer have the full rate.
        decayed: names of the parameters with weight decay: no biases, no norms.
        learning_rate: the rate of the top layer.
        weight_decay: the weight decay of `decayed`.
        share: the fraction of a layer's rate that the layer below it has; embeddings come below the lowest layer.
    Returns:
        The groups without empty ones, top first, so that the logged rate is the highest.
    Raises:
        SettingsError: the model's layers are not separate (ALBERT shares one).
    """
    below = _layers_below_the_top(model) if share < 1 else {}
    groups: dict[tuple[int, bool], list[Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = (below.get(id(parameter), 0), name not in decayed)
            groups.setdefault(group, []).append(parameter)
    return [
        {
            "params": groups[depth, fixed],
            "lr": learning_rate * share**depth,
            "weight_decay": 0.0 if fixed else weight_decay,
        }
        for depth, fixed in sorted(groups)
    ]


def _layers_below_the_top(model: Module) -> dict[int, int]:
    """Map parameter ids to the number of layers above them. Parameters after the layers are left out."""
    layers = classifier.layers_of(model)
    if layers is None:
        raise SettingsError(
            f"The layers of a {type(model).__name__} cannot be told apart",
            "training.layerwise_lr_decay",
            "set it to 1",
        )
    depth = len(layers)
    below = {id(p): depth - 1 - i for i, layer in enumerate(layers) for p in layer.parameters()}
    for parameter in model.parameters():  # in forward order: embeddings first
        if id(parameter) in below:
            break
        below[id(parameter)] = depth
    return below
