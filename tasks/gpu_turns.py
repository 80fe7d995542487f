"""One training a GPU at a time, also when a killed worker has left one running and its successor takes the next."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from tasks.settings import read_settings

logger = logging.getLogger(__name__)

_SAY_SECONDS = 60.0


@contextlib.contextmanager
def turn_on(device: torch.device) -> Generator[None]:
    """Wait until no other training of this machine has the GPU; a CPU is shared. Its lock ends with its process."""
    if device.type != "cuda":
        yield
        return
    place = Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}-gpu-{_name(device)}.lock"
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(FileLock(place, timeout=_SAY_SECONDS))
                break
            except Timeout:
                logger.warning("Waiting for the GPU: another training of this machine has it")
        yield


def _name(device: torch.device) -> str:
    """Of the card: the number that CUDA_VISIBLE_DEVICES gives to one is not the other's."""
    visible = read_settings().visible_gpus.split(",")
    index = device.index or 0
    return visible[index] if index < len(visible) and visible[index] else str(index)
