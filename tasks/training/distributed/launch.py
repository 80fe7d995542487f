"""Run one training in several processes: one per GPU of this machine, and of other machines if configured.

torchrun (`torch.distributed.run`) starts them and ends all when one dies; each runs `worker.py` of this package. None
of them outlives this process. A training that died this way resumes from its newest checkpoint when it is retried.
"""

import json
import logging
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tasks.connectors.servers.child_process import ChildProcess
from tasks.core import errors
from tasks.core.errors import NightshiftError, RunCrashedError, SettingsError
from tasks.core.models import classifier, devices
from tasks.core.training.fine_tuning import Trained
from tasks.core.training.job import TrainingJob
from tasks.core.training.protocols import (
    CheckpointKeeper,
    TrainingListener,
    TrainingPruned,
    TrialPruner,
)
from tasks.runtime.settings import Settings, read_settings
from tasks.training.distributed.channel import WorkerChannel
from tasks.training.distributed.worker import JOB, MODEL, OUTCOME

logger = logging.getLogger(__name__)

_LAST_LINES = 30
_LONGEST_SOCKET_NAME = 100  # 104 on macOS, 108 on Linux


def fine_tune_in_processes(
    processes: int,
    job: TrainingJob,
    data_folder: Path,
    work_folder: Path,
    listener: TrainingListener,
    keeper: CheckpointKeeper,
    judge: TrialPruner | None = None,
) -> Trained:
    """Run `training.fine_tune` in several processes per machine; `batch_size` applies to each process.

    Args:
        processes: their number on this machine, and on each of the others.
        job: the model to train and its settings.
        data_folder: holds train.parquet and validation.parquet.
        work_folder: empty, and shared by all machines; the caller removes it.
        listener, keeper, judge: live in this process; the first child process uses them through it.
    Raises:
        TrainingPruned: the judge stopped the training.
        RunCrashedError: one of the processes died.
        NightshiftError: as raised by `fine_tune`, the keeper or the judge.
    """
    settings = read_settings()
    # Resolve the device here, where an error is one readable sentence.
    devices.resolve_device(job.params.device)
    work_folder.mkdir(parents=True, exist_ok=True)
    key = secrets.token_bytes(32)
    channel = WorkerChannel(_address(work_folder, settings), key, listener, keeper, judge)
    content = {
        "address": channel.address,
        "key": key.hex(),
        "data": str(data_folder),
        "training": job.model_dump(mode="json"),
    }
    _write_private(work_folder / JOB, json.dumps(content))
    child = ChildProcess(
        "A training process",
        launch_command(processes, settings, work_folder),
        settings.environment_without_keys | {"OMP_NUM_THREADS": str(_threads(processes))},
        work_folder / "processes.log",
    )
    try:
        while child.running() and channel.error is None:
            time.sleep(0.1)
    finally:
        child.stop()
        channel.close()
    return _result(work_folder, channel, processes)


def _address(work_folder: Path, settings: Settings) -> Any:
    """Return the address where this process listens for the first child: a Unix socket if all are on this machine."""
    if settings.training_nodes > 1:
        return (socket.gethostname(), 0)
    path = str(work_folder / "line")
    return path if len(path) <= _LONGEST_SOCKET_NAME else ("127.0.0.1", 0)


def machines() -> int:
    """Return the number of machines that train together. Raises SettingsError if no meeting point is configured."""
    settings = read_settings()
    if settings.training_nodes > 1 and not settings.training_rendezvous:
        raise SettingsError(
            f"{settings.training_nodes} machines are to train together, but no address for them to meet is set",
            "NIGHTSHIFT_TRAINING_RENDEZVOUS",
            "set it to host:port of one of them",
        )
    return settings.training_nodes


def launch_command(processes: int, settings: Settings, job: Path) -> list[str]:
    """Return the command that starts the processes of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += [f"--nnodes={settings.training_nodes}", "--max-restarts=0", "--rdzv-id=nightshift"]
    if settings.training_nodes > 1:
        command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={settings.training_rendezvous}"]
    else:
        command += ["--standalone", "--local-addr=127.0.0.1"]
    return [*command, "-m", "tasks.training.distributed.worker", str(job)]


def _threads(processes: int) -> int:
    return max(1, (psutil.cpu_count(logical=False) or 1) // processes)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _result(folder: Path, channel: WorkerChannel, processes: int) -> Trained:
    if channel.error:
        raise channel.error
    outcome = folder / OUTCOME
    if not outcome.is_file():
        raise _failure(folder, processes)
    result = json.loads(outcome.read_text(encoding="utf-8"))
    if "pruned" in result:
        raise TrainingPruned(**result["pruned"])
    return Trained(classifier.load(folder / MODEL), result["facts"], result["validation"])


def _failure(folder: Path, processes: int) -> NightshiftError:
    """Return the error that one of the processes reported, or one for a process that died without reporting."""
    for path in sorted(folder.glob("failed-*.json")):
        failed = json.loads(path.read_text(encoding="utf-8"))
        return getattr(errors, failed["kind"])(*failed["given"])
    log = folder / "processes.log"
    for line in log.read_text(errors="replace").splitlines()[-_LAST_LINES:]:
        logger.error("%s", line)
    return RunCrashedError(
        f"One of {processes} training processes died",
        "",
        "run it again: it resumes from its newest checkpoint; its last output is in the log",
    )
