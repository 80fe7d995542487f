"""One training a GPU at a time, also when a killed worker has left one running and its successor takes the next."""

import contextlib
import logging
from collections.abc import Generator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from tasks.connectors.private_files import private_folder, temporary_folder
from tasks.runtime.settings import read_settings

logger = logging.getLogger(__name__)

_SAY_SECONDS = 60.0


@contextlib.contextmanager
def turn_on(device: torch.device, cards: int = 1) -> Generator[None]:
    """Wait until no other training of this machine has the GPU; a CPU is shared. Its lock ends with its process.

    Args:
        device: of a training in this process.
        cards: that it takes, counted from this one.
    Raises:
        ServiceError: somebody else has made the folder of the locks.
    """
    if device.type != "cuda":
        yield
        return
    first = device.index or 0
    names = sorted(_name(torch.device("cuda", first + i)) for i in range(cards))
    folder = private_folder(temporary_folder("locks"))
    with contextlib.ExitStack() as held:
        for name in names:  # all in one order, or two trainings would wait for each other
            held.enter_context(_lock(folder / f"gpu-{name}.lock"))
        yield


@contextlib.contextmanager
def _lock(place: Path) -> Generator[None]:
    lock = FileLock(place)
    while True:
        try:
            lock.acquire(timeout=_SAY_SECONDS)
            break
        except Timeout:
            logger.warning("Waiting for the GPU: another training of this machine has it")
    try:
        yield
    finally:
        lock.release()


def _name(device: torch.device) -> str:
    """Of the card: the number that CUDA_VISIBLE_DEVICES gives to one is not the other's."""
    visible = read_settings().visible_gpus.split(",")
    index = device.index or 0
    return visible[index] if index < len(visible) and visible[index] else str(index)
