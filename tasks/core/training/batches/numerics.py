"""Is a faster way of computing a training's steps as right as the plain one? Tried on its first reviews.

Loss and gradient of the first batches are computed both ways, without dropout and without changing a weight; nothing
random is drawn, so that what follows is what it would have been.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from tasks.core.errors import RAISED_BY_MODELS, first_line

Batch = dict[str, Any]
BATCHES = 2  # that are tried


def difference(
    model: torch.nn.Module,
    plain: Sequence[Batch],
    fast: Sequence[Batch],
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> float:
    """By how much the loss or the norm of its gradient differs, as a share: the largest over the batches.

    Args:
        model: on its device, in fp32.
        plain: inputs of the model with `labels`, on its device, for the plain way.
        fast: the same reviews for the fast way.
        within: the context of the fast way, such as autocast.
    Returns:
        Infinity where either is no number.
    """
    was_training = model.training
    model.eval()
    shares = [0.0]
    for one, other in zip(plain, fast, strict=True):
        with within():
            found = _loss_and_norm(model, other)
        for expected, value in zip(_loss_and_norm(model, one), found, strict=True):
            share = abs(value - expected) / max(abs(expected), 1e-6)
            shares.append(share if math.isfinite(share) else math.inf)
    model.train(was_training)
    return max(shares)


def bf16_problem(model: torch.nn.Module, batches: Sequence[Batch], device: torch.device) -> str:
    """Empty, or what a model's code raises of a step in bf16: not every operation knows it on every device.

    Args:
        model: on the device, in fp32; its gradients are empty afterwards.
        batches: inputs of the model with `labels`, on the device.
        device: where it computes.
    """
    try:
        for batch in batches:
            with autocast(device):
                output: Any = model(**{n: v for n, v in batch.items() if n != "labels"})
                output.logits.float().sum().backward()
    except torch.OutOfMemoryError:
        raise
    except RAISED_BY_MODELS as error:
        return first_line(error)
    finally:
        model.zero_grad(set_to_none=True)
    return ""


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """What a training in bf16 computes within."""
    return torch.autocast(device.type, torch.bfloat16)


def _loss_and_norm(model: torch.nn.Module, batch: Batch) -> tuple[float, float]:
    model.zero_grad(set_to_none=True)
    given = {name: value for name, value in batch.items() if name != "labels"}
    loss = cross_entropy(model(**given).logits.float(), batch["labels"])
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    model.zero_grad(set_to_none=True)
    return float(loss.detach()), float(norm)
