"""Protocols of scoring engines, which turn token ids into logits. The engines are in `tasks/core/engines`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.models.classifier import Classifier
from tasks.core.models.params import Device, Precision


class Engine(Protocol):
    """Computes logits for any number of rows of any length, in the order given."""

    label_names: list[str]

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Logits of unpadded rows, shape (rows, classes), float32; no rows give shape (0, classes)."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """The settings that an engine is run with."""

    device: Device = "auto"
    # Of engines that leave a choice; in openvino-int8, of everything that is not in int8.
    precision: Precision = "auto"
    batch_tokens: int = 4096
    threads: int = 0  # 0: the engine decides


class EngineKind(Protocol):
    """One way to run a model. Each is the `KIND` of a module in `tasks/core/engines`, which the registry lists.

    `build` writes to the model's folder, `<model>/engines/<name>`, and its files are registered with the model.
    """

    @property
    def name(self) -> str:
        """The name in the registry, such as openvino-int8."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """The import names of required packages; none for torch."""
        ...

    @property
    def extra(self) -> str:
        """The extra of this project that installs the packages."""
        ...

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        """Return why it cannot run this model on this device ("openvino runs on CPUs"), or an empty string."""
        ...

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Write the engine's files into an empty folder. This runs once, when a model is registered.

        Args:
            classifier: in fp32 on the CPU; not changed.
            folder: exists and is empty.
            sample: token rows like those that will be scored, for calibration of int8.
        """
        ...

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        """Open an engine from the files that `build` wrote.

        Raises:
            ModelError: files are missing or damaged.
        """
        ...


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return class probabilities of the same shape, computed in float64 so that rows sum to one."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=1, keepdims=True)
