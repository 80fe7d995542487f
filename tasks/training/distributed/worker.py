"""One of the processes that train a model together, as torchrun starts it.

    python -m tasks.training.distributed.worker <job>

It needs only torch and transformers. The job is a folder shared by all processes: `job.json` describes the training,
the first process writes the model to `model/` and the result to `outcome.json`; a process that fails writes
`failed-<number>.json`. On other machines it is started without a job and receives the job's folder from the first one.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.distributed as distributed
import transformers

from tasks.core.data.tokens.token_tables import read_tokens
from tasks.core.errors import NightshiftError
from tasks.core.models import classifier
from tasks.core.training import fine_tuning
from tasks.core.training.job import TrainingJob
from tasks.core.training.protocols import SilentListener, TrainingPruned
from tasks.training.distributed.channel import ParentChannel

JOB, OUTCOME, MODEL = "job.json", "outcome.json", "model"


def main(job: str | None) -> None:
    """Join the process group, train, and write the result."""
    _end_with_the_parent()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    use_cuda = torch.cuda.is_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if use_cuda else "gloo")
    if use_cuda:
        torch.cuda.set_device(distributed.get_rank() % torch.cuda.device_count())
    jobs: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(jobs, job, group=distributed.new_group(backend="gloo"))
    folder = Path(next(filter(None, jobs)))
    rank = distributed.get_rank()
    try:
        _train(folder, _read(folder), rank)
    except NightshiftError as error:
        failed = {"kind": type(error).__name__, "given": [error.what, error.where, error.fix]}
        (folder / f"failed-{rank}.json").write_text(json.dumps(failed))
        raise
    distributed.destroy_process_group()


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / JOB).read_text(encoding="utf-8"))


def _train(folder: Path, job: dict[str, Any], rank: int) -> None:
    address = job["address"]
    channel = None
    if rank == 0:
        where = tuple(address) if isinstance(address, list) else address
        channel = ParentChannel(where, bytes.fromhex(job["key"]))
    train, validation = read_tokens(
        Path(job["data"]), ("train", "validation"), folder / f"cache-{rank}"
    )
    outcome: dict[str, Any]
    try:
        done = fine_tuning.fine_tune(
            TrainingJob.model_validate(job["training"]),
            train,
            validation,
            folder / "checkpoints",
            channel or SilentListener(),
            channel,
            judge=channel,
        )
    except TrainingPruned as pruned:
        outcome = {"pruned": vars(pruned)}
    else:
        outcome = {"facts": done.facts, "validation": done.validation}
        if rank == 0:
            classifier.save(done.classifier, folder / MODEL)
    if channel:
        (folder / OUTCOME).write_text(json.dumps(outcome))
        channel.close()


def _end_with_the_parent() -> None:
    """End this process when its parent ends; a killed parent cannot send a message."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
