"""Checkpoints written beside the training: it waits for a copy of the weights in memory, and not for the disk.

One checkpoint is under way at most. What goes wrong with it is raised when the next one begins, or at the end. A
process that dies meanwhile leaves one that nobody was told of: the keeper is told when all of it is written.
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
    """Does one thing after the other in a thread of its own. A context: leaving it waits for what is under way.

    Args:
        in_background: False does everything at once, in the thread of the caller.
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
        """Whether there is a thread."""
        return self._worker is not None

    @property
    def busy(self) -> bool:
        """True while something is to be done or being done."""
        return any(not future.done() for future in self._under_way)

    def add(self, work: Callable[[], None]) -> None:
        """Have it done after what was added since the last `wait`; not at all, if any of that failed."""
        if self._worker is None:
            work()
            return
        before = list(self._under_way)

        def run() -> None:
            if all(future.exception() is None for future in before):
                work()

        # with this thread's context, or its log lines would belong to no run
        context = contextvars.copy_context()
        self._under_way.append(self._worker.submit(context.run, run))

    def wait(self) -> None:
        """Return once all is done. Raises what went wrong first."""
        done, self._under_way = self._under_way, []
        for future in done:
            future.result()


class PatientKeeper:
    """A keeper of checkpoints that is given them once they are written.

    Args:
        keeper: that keeps them.
        writer: that writes them.
    """

    def __init__(self, keeper: CheckpointKeeper, writer: CheckpointWriter) -> None:
        self._keeper, self._writer = keeper, writer

    def restore(self, folder: Path) -> Path | None:
        """See `CheckpointKeeper.restore`."""
        return self._keeper.restore(folder)

    def due(self) -> bool:
        """See `CheckpointKeeper.due`; never while one is under way."""
        return not self._writer.busy and self._keeper.due()

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        """See `CheckpointKeeper.keep`."""
        self._writer.add(lambda: self._keeper.keep(checkpoint, best))


def snapshot(state: Any) -> Any:
    """A copy of a nested state in this machine's memory; tensors that are one stay one."""
    copies: dict[Any, torch.Tensor] = {}

    def copied(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            place = (value.data_ptr(), value.device, value.dtype, value.shape, value.stride())
            if place not in copies:
                copies[place] = value.detach().to("cpu", copy=True)
            return copies[place]
        if isinstance(value, dict):
            return {key: copied(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(copied, value))
        return value

    return copied(state)
