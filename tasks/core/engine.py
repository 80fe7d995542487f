"""Scoring engines: from token ids to logits. One class an engine; all pass the same contract test."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core import batching
from tasks.core.modeling import Classifier, Device, Precision, resolve_device, resolve_precision


class Engine(Protocol):
    """Logits for rows of any length, in any number, in the order given."""

    label_names: list[str]

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Logits of unpadded rows, shape (rows, classes), float32."""
        ...


class TorchEngine:
    """Any transformers sequence classifier, run by torch in batches planned by length."""

    def __init__(
        self,
        classifier: Classifier,
        device: Device = "auto",
        precision: Precision = "auto",
        batch_tokens: int = 4096,
    ) -> None:
        self.label_names = classifier.label_names
        self._device = resolve_device(device)
        bf16 = resolve_precision(precision, self._device) == "bf16"
        model: Any = classifier.model  # transformers' decorated `to` confuses type checkers
        self._model = model.to(self._device, torch.bfloat16 if bf16 else torch.float32).eval()
        self._pad_id = classifier.pad_id
        self._batch_tokens = batch_tokens

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        logits = np.empty((len(input_ids), len(self.label_names)), dtype=np.float32)
        for batch in batching.plan(
            [len(row) for row in input_ids], self._batch_tokens, max_rows=256
        ):
            ids, mask = batching.pad([input_ids[i] for i in batch], self._pad_id)
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.from_numpy(ids).to(self._device),
                    attention_mask=torch.from_numpy(mask).to(self._device),
                )
            logits[batch] = output.logits.float().cpu().numpy()
        return logits


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Class probabilities, shape as given, computed in float64 so that rows sum to one."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=1, keepdims=True)
