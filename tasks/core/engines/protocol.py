"""What a scoring engine is: from token ids to logits. The engines themselves are in `tasks/core/engines`."""

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
    """Logits for rows of any length, in any number, in the order given."""

    label_names: list[str]

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Logits of unpadded rows, shape (rows, classes), float32; no rows give shape (0, classes)."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is run."""

    device: Device = "auto"
    precision: Precision = "auto"  # of the engines that leave a choice; int8 ones do not
    batch_tokens: int = 4096
    threads: int = 0  # 0 leaves it to the engine


class EngineKind(Protocol):
    """One way to run a model. A module of `tasks/core/engines` has one as `KIND`, and the registry names the module.

    What `build` writes lies with the model, in `<model>/engines/<name>`, and is part of what is registered.
    """

    @property
    def name(self) -> str:
        """As it stands in the registry, such as openvino-int8."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Import names that must be there; none for torch."""
        ...

    @property
    def extra(self) -> str:
        """Which extra of this project installs them."""
        ...

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        """An empty string, or why it cannot run this model on this device, such as "openvino runs on CPUs"."""
        ...

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Write what the engine needs into an empty folder: once, when a model is registered.

        Args:
            classifier: in fp32 on the CPU; left as it is.
            folder: exists, and is empty.
            sample: token rows like those that will be scored, for calibration of int8.
        """
        ...

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        """An engine that can score, from what `build` wrote.

        Raises:
            ModelError: what should lie in the folder does not, or is damaged.
        """
        ...


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Class probabilities, shape as given, computed in float64 so that rows sum to one."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=1, keepdims=True)
