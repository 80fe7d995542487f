"""The classification head: the last linear layer of a model of any family, which computes the logits."""

from typing import Any

import torch

from tasks.core.errors import ModelError


def head_of(model: Any, classes: int) -> Any:
    """Return the head of a classifier, a `torch.nn.Linear`.

    Raises:
        ModelError: it is not a linear layer.
    """
    body = {id(module) for module in model.base_model.modules()}
    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
        and module.out_features == classes
        and id(module) not in body
    ]
    if not heads:
        raise ModelError("The classification head is not a linear layer", type(model).__name__)
    return heads[-1]


def lacks_bias(model: Any, classes: int) -> bool:
    """True if the head has no bias of its own, as those of decoders."""
    return not isinstance(head_of(model, classes).bias, torch.nn.Parameter)


def add_to_bias(model: Any, classes: int, values: torch.Tensor) -> None:
    """Add values to the bias of the head, in place. A head without a bias gets one that is not saved."""
    head = head_of(model, classes)
    values = values.to(head.weight)
    if head.bias is None:
        del head.bias
        head.register_buffer("bias", values, persistent=False)
    else:
        with torch.no_grad():
            head.bias.add_(values)
