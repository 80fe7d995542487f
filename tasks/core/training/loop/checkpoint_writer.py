"""Background checkpoints: training waits for a copy of the weights in memory, not for the disk.

At most one checkpoint is being written. Its errors are raised when the next one begins, or at the end. The keeper is
told of a checkpoint once all of it is written, so a process that dies earlier leaves one that the keeper ignores.
"""

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from tasks.core.training.protocols import CheckpointKeeper


class CheckpointWriter:
    """Runs work in order in a thread of its own. A context manager: leaving it waits for pending work.

    Args:
        in_background: False runs everything at once, in the caller's thread.
    """

    def __init__(self, in_background: bool) -> None:
        self._worker = ThreadPoolExecutor(1, "checkpoint-writer") if in_background else None
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._worker:
            self._worker.shutdown(wait=True)
        if error is None:
            self.wait()

    @property
    def in_background(self) -> bool:
        """True if work runs in a thread of its own."""
        return self._worker is not None

    @property
    def busy(self) -> bool:
        """True while work is pending or running."""
        return any(not future.done() for future in self._under_way)

    def add(self, work: Callable[[], None]) -> None:
        """Run work after all that was added since the last `wait`. It is skipped if any of that failed."""
        if self._worker is None:
            work()
            return
        before = list(self._under_way)

        def run() -> None:
            if all(future.exception() is None for future in before):
                work()

        # with this thread's context, so that log lines belong to the flow run
        context = contextvars.copy_context()
        self._under_way.append(self._worker.submit(context.run, run))

    def wait(self) -> None:
        """Wait for all work, and raise the first error of it."""
        done, self._under_way = self._under_way, []
        for future in done:
            future.result()


class PatientKeeper:
    """A keeper that receives each checkpoint once it is written.

    Args:
        keeper: keeps the checkpoints.
        writer: writes them.
    """

    def __init__(self, keeper: CheckpointKeeper, writer: CheckpointWriter) -> None:
        self._keeper, self._writer = keeper, writer

    def restore(self, folder: Path) -> Path | None:
        """See `CheckpointKeeper.restore`."""
        return self._keeper.restore(folder)

    def due(self) -> bool:
        """See `CheckpointKeeper.due`. False while a checkpoint is being written."""
        return not self._writer.busy and self._keeper.due()

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        """See `CheckpointKeeper.keep`."""
        self._writer.add(lambda: self._keeper.keep(checkpoint, best))


def snapshot(state: Any) -> Any:
    """Copy a nested state to CPU memory.

    A tensor that occurs several times (same memory, dtype, shape and strides) is a single tensor in the copy.
    """
    copies: dict[Any, torch.Tensor] = {}

    def copied(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            key = (value.data_ptr(), value.device, value.dtype, value.shape, value.stride())
            if key not in copies:
                copies[key] = value.detach().to("cpu", copy=True)
            return copies[key]
        if isinstance(value, dict):
            return {name: copied(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(copied, value))
        return value

    return copied(state)
