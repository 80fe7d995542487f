"""Training batches without padding: reviews concatenated with attention within each, or one length at a time.

The model itself is trained, with its own class and parameters. For a packed batch its `forward` runs `PackedModel`,
which shares the parameters. A model whose answers depend on padding splits a padded batch instead.
"""

from collections.abc import Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from tasks.core.models.batching import plan
from tasks.core.models.batching.packed_model import PackedModel
from tasks.core.models.batching.packing import PackedBatch, UnpackableError
from tasks.core.models.batching.plan import BatchRule

_CPU = torch.device("cpu")


class PackingCollator:
    """A collator that packs rows of a data set into one batch.

    Args:
        packed: the model that runs it.
    """

    def __init__(self, packed: PackedModel) -> None:
        self._packed = packed

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch with its labels. `input_ids` is included so that tokens can be counted."""
        by_length = sorted(rows, key=lambda row: -len(row["input_ids"]))
        batch = self._packed.pack([row["input_ids"] for row in by_length], _CPU)
        labels = torch.tensor([row["labels"] for row in by_length])
        return {"packed": batch, "input_ids": batch.input_ids, "labels": labels}


def run_packed(model: PreTrainedModel, pad_id: int, longest: int) -> PackedModel:
    """Make the model also accept packed batches, until `run_plain`.

    Args:
        model: a classifier of any family.
        pad_id: the padding id of its tokenizer.
        longest: the most tokens of a row.
    Raises:
        UnpackableError: its architecture does not allow it.
    """
    try:
        runs = PackedModel(model, pad_id, longest, narrow=True)
    except UnpackableError:
        runs = PackedModel(model, pad_id, longest, narrow=False)
    plain = model.forward

    @wraps(plain)
    def forward(*args: Any, packed: PackedBatch | None = None, **kwargs: Any) -> Any:
        if packed is None:
            return plain(*args, **kwargs)
        return SequenceClassifierOutput(logits=runs.run(packed, model.training))

    vars(model)["forward"] = forward
    return runs


def run_apart(model: PreTrainedModel, rule: BatchRule) -> None:
    """Make the model split padded batches by a rule and run the parts without padding, until `run_plain`.

    Args:
        model: a classifier of any family.
        rule: the rows it may answer together.
    """
    plain = model.forward

    @wraps(plain)
    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        real = attention_mask.bool()
        lengths = real.sum(dim=1).tolist()
        parts = plan.plan(lengths, max(1, real.numel()), len(lengths), rule)
        logits = [
            plain(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            for ids in (_without_padding(input_ids[part], real[part]) for part in parts)
        ]
        order = torch.from_numpy(np.argsort(np.concatenate(parts))).to(input_ids.device)
        return SequenceClassifierOutput(logits=torch.cat(logits)[order])

    vars(model)["forward"] = forward


def _without_padding(ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return rows of one length without their padding."""
    return ids[real].unflatten(0, (len(ids), -1))


def run_plain(model: PreTrainedModel) -> None:
    """Remove the wrappers that `run_packed`, `run_apart` and Accelerate put around a model's `forward`."""
    vars(model).pop("forward", None)
