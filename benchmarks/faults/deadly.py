"""A scoring run in a process of its own that is killed by certain reviews, as by the kernel when memory runs out."""

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults import worker
from benchmarks.faults.delivered import Delivered
from benchmarks.faults.episodes import FORK
from benchmarks.faults.parts import CharacterEncoder, TextEngine
from tasks.core.scoring.results import ScoreSummary
from tasks.scoring import shards

DEADLY = "deadly"


class _Classifier:
    encoder = CharacterEncoder()
    class_costs = ()


class _DeadlyEngine(TextEngine):
    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        if any(DEADLY in "".join(map(chr, ids)) for ids in input_ids):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().logits(input_ids)


def score_apart(night: Delivered, run: str, folder: Path, host: str = "") -> ScoreSummary | None:
    """Plan, score and finish in another process; None if it was killed.

    Args:
        night: the reviews to score.
        run: the run's name.
        folder: for passing the summary back.
        host: the host name that the process reports; '' for the real one.
    """
    told = folder / "summary.json"
    told.unlink(missing_ok=True)

    def work() -> None:
        if host:
            socket.gethostname = lambda: host
        worker.small_shards()
        loaded: Any = (_Classifier(), _DeadlyEngine())
        shards.__dict__["_loaded"] = lambda *_: loaded
        told.write_text(worker.run_to_end(night.draft(run)).model_dump_json())
        os._exit(0)

    process = FORK.Process(target=work)
    process.start()
    process.join(120)
    if process.exitcode == -signal.SIGKILL:
        return None
    assert process.exitcode == 0
    return ScoreSummary.model_validate_json(told.read_text())
