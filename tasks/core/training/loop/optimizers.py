"""Which parameters are trained at which rate.

Layer-wise decay gives each layer a share of the rate of the layer above it, so that what lower layers have learned
before is changed less: Howard & Ruder, 2018, "Universal Language Model Fine-tuning for Text Classification" (section
3.2, discriminative fine-tuning); Sun et al., 2019, "How to Fine-Tune BERT for Text Classification?" (section 5.3.3).
"""

from collections.abc import Collection
from typing import Any

from torch.nn import Module, Parameter

from tasks.core.errors import SettingsError
from tasks.core.models import classifier


def parameter_groups(
    model: Module, decayed: Collection[str], learning_rate: float, weight_decay: float, share: float
) -> list[dict[str, Any]]:
    """AdamW's groups: what is trained, by its depth and by whether its weights decay.

    Args:
        model: of any family. Its head, whatever else comes after the layers, and the top layer have the full rate.
        decayed: names of the parameters that decay: no biases, no norms.
        learning_rate: of the top.
        weight_decay: of those.
        share: of a layer's rate that the layer below it has; the embeddings lie below the lowest.
    Returns:
        Top first, so that the rate that is logged is the highest; empty ones left out.
    Raises:
        SettingsError: the model's layers cannot be told apart (those of ALBERT are one).
    """
    below = _layers_below_the_top(model) if share < 1 else {}
    groups: dict[tuple[int, bool], list[Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            place = (below.get(id(parameter), 0), name not in decayed)
            groups.setdefault(place, []).append(parameter)
    return [
        {
            "params": groups[depth, fixed],
            "lr": learning_rate * share**depth,
            "weight_decay": 0.0 if fixed else weight_decay,
        }
        for depth, fixed in sorted(groups)
    ]


def _layers_below_the_top(model: Module) -> dict[int, int]:
    """For each parameter, by id, how far below the top layer it lies. What comes after the layers is not in it."""
    layers = classifier.layers_of(model)
    if layers is None:
        raise SettingsError(
            f"The layers of a {type(model).__name__} cannot be told apart",
            "training.layer_decay",
            "set it to 1",
        )
    depth = len(layers)
    below = {id(p): depth - 1 - i for i, layer in enumerate(layers) for p in layer.parameters()}
    for parameter in model.parameters():  # in the order of the forward pass: embeddings first
        if id(parameter) in below:
            break
        below[id(parameter)] = depth
    return below
