"""Scoring engines that are torch with noise, and that turn the hands of a clock as they score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models.classifier import Classifier

BUILT = "built"


class Clock:
    """Goes on only when an engine works."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


CLOCK = Clock()


class TimedEngine:
    """Answers of torch in fp32 with noise that a row's own tokens decide, or surer ones."""

    def __init__(
        self,
        exact: TorchEngine,
        noise: float,
        seconds_a_row: float,
        scale: float = 1.0,
        mixes: bool = False,
    ) -> None:
        self.label_names = exact.label_names
        self._exact, self._noise, self._seconds = exact, noise, seconds_a_row
        self._scale, self._mixes = scale, mixes

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        CLOCK.seconds += self._seconds * len(input_ids)
        found = self._exact.logits(input_ids) * np.float32(self._scale)
        for row, ids in enumerate(input_ids):
            drawn = np.random.default_rng(list(ids)).normal(0, self._noise, found.shape[1])
            found[row] += drawn.astype(np.float32)
        return found - found.mean(axis=0) if self._mixes else found


@dataclass(frozen=True)
class TimedKind:
    """A kind of engine."""

    name: str
    seconds_a_row: float
    noise: float = 0.0
    scale: float = 1.0
    mixes: bool = False
    breaks: str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        return ""

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        if self.breaks:
            raise RuntimeError(f"{self.breaks}\nand a long trace")
        (folder / BUILT).write_text(f"{len(sample)}", encoding="utf-8")

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        assert self.name in ("torch", "torch-fp32") or (folder / BUILT).is_file()
        exact = TorchEngine(classifier, "cpu", "fp32", packed=False)
        return TimedEngine(exact, self.noise, self.seconds_a_row, self.scale, self.mixes)


TORCH = TimedKind("torch", 10.0)
UNSHOWN_TORCH = TimedKind("torch", 10.0, noise=9.0)
TORCH_FP32 = TimedKind("torch-fp32", 20.0)
EXACT = TimedKind("openvino", 5.0)
INT8 = TimedKind("openvino-int8", 1.0, noise=0.02)
QUICK = TimedKind("other", 0.01)
SURER = TimedKind("other", 0.5, scale=20.0)
MIXING = TimedKind("other", 0.01, mixes=True)
BROKEN = TimedKind("other", 1.0, breaks="no kernel for this")
