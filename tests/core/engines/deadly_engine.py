"""An engine whose compiler divides by zero, and the program that builds it: as OpenVINO's did for a decoder in bf16."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tasks.core.engines import registry
from tasks.core.models.classifier import Classifier
from tests.core.engines.timed_engines import TimedKind


class DeadlyKind(TimedKind):
    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        os.kill(os.getpid(), signal.SIGFPE)


KIND = DeadlyKind("openvino", 0.0, 0.0)

if __name__ == "__main__":
    from tasks.engines.build import build_job

    registry._MODULES["openvino"] = "tests.core.engines.deadly_engine"
    build_job(Path(sys.argv[1]))
