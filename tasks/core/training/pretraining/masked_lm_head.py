"""The language head of an encoder, computed at masked positions only.

A head costs as much as the body of a small model, because it multiplies with the whole vocabulary, and 85 % of its
output takes no part in the loss. Body and head are not changed: a hook runs between them.
"""

import contextlib
import logging
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-5  # relative, of the fp32 loss: only the order of its sums differs


class _MaskedPositions:
    """Hooks that pass the head one row with the masked positions of the batch, and the loss their labels."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._keep: torch.Tensor | None = None
        body: Any = model.base_model
        self._handles = [
            model.register_forward_pre_hook(self._note, with_kwargs=True),
            body.register_forward_hook(self._select),
        ]

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _note(self, _: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        labels = kwargs.get("labels")
        self._keep = None if labels is None else labels != -100
        if labels is None or self._keep is None or not bool(self._keep.any()):
            self._keep = None
            return args, kwargs
        return args, kwargs | {"labels": labels[self._keep][None]}

    def _select(self, _: Any, __: Any, output: Any) -> Any:
        if self._keep is not None:
            output["last_hidden_state"] = output["last_hidden_state"][self._keep][None]
        return output


@contextlib.contextmanager
def at_masked_positions(
    model: PreTrainedModel, batches: Iterable[Mapping[str, Any]], is_masked: bool
) -> Generator[bool]:
    """Compute the head at masked positions only, within a context, if the loss of the first batch stays the same.

    Args:
        model: an encoder with a language head.
        batches: the first one is tried, on the model's device.
        is_masked: False does not change the model: decoders predict the next token at every position.
    Yields:
        True if the head is computed at masked positions only.
    """
    hooks: _MaskedPositions | None = None
    if is_masked:
        batch = next(iter(batches))
        whole = _loss(model, batch)
        hooks = _MaskedPositions(model)
        try:
            same = abs(_loss(model, batch) - whole) <= _TOLERANCE * max(1.0, abs(whole))
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            logger.info("The language head is computed at all positions: %s", type(error).__name__)
            same = False
        if not same:
            hooks.remove()
            hooks = None
    try:
        yield hooks is not None
    finally:
        if hooks is not None:
            hooks.remove()


@torch.no_grad()
def _loss(model: PreTrainedModel, batch: Mapping[str, Any]) -> float:
    was_training = model.training
    model.eval()
    loss = float(model(**{k: v.to(model.device) for k, v in batch.items()}).loss)
    model.train(was_training)
    return loss
