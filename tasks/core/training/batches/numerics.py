"""Compare a faster way of computing a training's steps with the plain one, on the first reviews.

Loss and gradient of the first batches are computed both ways, without dropout and without changing a weight. No random
number is drawn, so that the comparison does not affect the training.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from tasks.core.errors import RAISED_BY_MODELS, first_line

Batch = dict[str, Any]
BATCHES = 2  # number of batches tried


def difference(
    model: torch.nn.Module,
    plain: Sequence[Batch],
    fast: Sequence[Batch],
    within: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> float:
    """Return the largest relative difference of the loss or its gradient norm over the batches.

    Args:
        model: on its device, in fp32.
        plain: inputs of the model with `labels`, on its device, for the plain way.
        fast: the same reviews for the fast way.
        within: the context of the fast way, such as autocast.
    Returns:
        The difference as a fraction; infinity if a value is not finite.
    """
    was_training = model.training
    model.eval()
    differences = [0.0]
    for one, other in zip(plain, fast, strict=True):
        with within():
            fast_values = _loss_and_norm(model, other)
        for expected, value in zip(_loss_and_norm(model, one), fast_values, strict=True):
            relative = abs(value - expected) / max(abs(expected), 1e-6)
            differences.append(relative if math.isfinite(relative) else math.inf)
    model.train(was_training)
    return max(differences)


def bf16_problem(model: torch.nn.Module, batches: Sequence[Batch], device: torch.device) -> str:
    """Return the error that a step in bf16 raises, or an empty string. Not every device has all operations in bf16.

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
    """Return the autocast context of a training in bf16."""
    return torch.autocast(device.type, torch.bfloat16)


def _loss_and_norm(model: torch.nn.Module, batch: Batch) -> tuple[float, float]:
    model.zero_grad(set_to_none=True)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    loss = cross_entropy(model(**inputs).logits.float(), batch["labels"])
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    model.zero_grad(set_to_none=True)
    return float(loss.detach()), float(norm)
