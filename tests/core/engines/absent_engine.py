"""A scoring engine that wants a package nobody has."""

from collections.abc import Sequence
from pathlib import Path

import torch

from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.models.classifier import Classifier


class _Absent:
    name = "absent"
    packages = ("no_such_package",)
    extra = "absent"

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        return ""

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        raise AssertionError("never built")

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        raise AssertionError("never opened")


KIND = _Absent()
