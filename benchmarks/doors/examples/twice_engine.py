"""An engine that computes every answer twice, and takes the second."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models.classifier import Classifier


class TwiceEngine:
    def __init__(self, classifier: Classifier, options: EngineOptions) -> None:
        self.label_names = classifier.label_names
        self._torch = TorchEngine(classifier, "cpu", "fp32", options.batch_tokens)

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self._torch.logits(input_ids)
        return self._torch.logits(input_ids)


class _Twice:
    name = "twice"
    packages: tuple[str, ...] = ()
    extra = ""

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        return ""

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Do nothing."""

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        return TwiceEngine(classifier, options)


KIND = _Twice()
