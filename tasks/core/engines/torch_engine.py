"""Any transformers sequence classifier, run by torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core import batching
from tasks.core.engine import Engine, EngineOptions
from tasks.core.modeling import Classifier, Device, Precision, resolve_device, resolve_precision


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


class _Torch:
    name = "torch"
    packages: tuple[str, ...] = ()
    extra = ""

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        return ""

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Nothing: torch runs the model as it is."""

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        return TorchEngine(classifier, options.device, options.precision, options.batch_tokens)


KIND = _Torch()
