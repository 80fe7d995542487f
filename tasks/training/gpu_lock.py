"""Allow one training per GPU at a time, even if a killed worker left one running and its successor starts the next."""

import contextlib
import logging
from collections.abc import Generator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from tasks.connectors.private_files import private_folder, temporary_folder
from tasks.runtime.reporting.silence import PROGRESS_SECONDS
from tasks.runtime.settings import read_settings

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def acquire_gpu(device: torch.device, cards: int = 1) -> Generator[None]:
    """Wait until no other training of this machine uses the GPU; a CPU is shared. The lock ends with its process.

    Args:
        device: the device of a training in this process.
        cards: the number of GPUs it takes, counted from this one.
    Raises:
        ServiceError: another user created the folder of the locks.
    """
    if device.type != "cuda":
        yield
        return
    first = device.index or 0
    names = sorted(_name(torch.device("cuda", first + i)) for i in range(cards))
    folder = private_folder(temporary_folder("locks"))
    with contextlib.ExitStack() as held:
        for name in names:  # the same order for all, to avoid deadlocks
            held.enter_context(_lock(folder / f"gpu-{name}.lock"))
        yield


@contextlib.contextmanager
def _lock(path: Path) -> Generator[None]:
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=PROGRESS_SECONDS)
            break
        except Timeout:
            logger.warning("Waiting for the GPU: another training on this machine is using it")
    try:
        yield
    finally:
        lock.release()


def _name(device: torch.device) -> str:
    """Return the card's name for the lock: CUDA_VISIBLE_DEVICES numbers cards differently in each process."""
    visible = read_settings().visible_gpus.split(",")
    index = device.index or 0
    return visible[index] if index < len(visible) and visible[index] else str(index)
