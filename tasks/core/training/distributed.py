"""Data-parallel training in several processes: shared decisions, checkpoint keeper and judge.

Each process computes its part of a step's gradient, and all make the same step with the mean of them (Li et al., 2020,
"PyTorch Distributed: Experiences on Accelerating Data Parallel Training"). Only the first process talks to the
listener, the checkpoint keeper and the judge.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed

from tasks.core.errors import SettingsError
from tasks.core.training.protocols import CheckpointKeeper, TrialPruner

_MOST_BYTES = 4096


def resolve_processes(processes: int, device: torch.device) -> int:
    """Return the number of processes on this machine. 0 asks for one per GPU, or one on a CPU.

    Raises:
        SettingsError: more are requested than there are GPUs.
    """
    if device.type != "cuda":
        return processes or 1
    cards = torch.cuda.device_count()
    if processes > cards:
        raise SettingsError(
            f"This machine has {cards} GPUs for {processes} processes, and each process needs one",
            "training.processes",
            "set it to 0, which uses all GPUs",
        )
    return processes or cards


class DistributedContext:
    """This process among those that train together, or alone if there is no process group.

    Attributes:
        index: the index of this process, from 0.
        count: the number of processes.
    """

    def __init__(self) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        self.index = distributed.get_rank() if together else 0
        self.count = distributed.get_world_size() if together else 1
        # a separate group on the CPU, so that GPUs do not wait for these messages
        self._group: Any = distributed.new_group(backend="gloo") if self.count > 1 else None

    @property
    def first(self) -> bool:
        """True for the process that talks to listener, keeper and judge."""
        return self.index == 0

    def agree(self, decision: bool) -> bool:
        """Return the first process's decision in all processes."""
        return bool(self._share(torch.tensor([int(decision)])).item())

    def tell(self, message: str) -> str:
        """Return the first process's text in all processes. It is cut to 4096 bytes."""
        encoded = message.encode()[:_MOST_BYTES]
        buffer = torch.zeros(_MOST_BYTES, dtype=torch.uint8)
        buffer[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        return bytes(self._share(buffer).tolist()).rstrip(b"\0").decode()

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self._group is not None:
            distributed.barrier(group=self._group)

    def _share(self, value: torch.Tensor) -> torch.Tensor:
        if self._group is not None:
            distributed.broadcast(value, 0, group=self._group)
        return value


class SharedKeeper:
    """The first process's checkpoint keeper, shared by all processes, which use one disk and save together.

    Args:
        context: this process.
        keeper: used in the first process only.
    """

    def __init__(self, context: DistributedContext, keeper: CheckpointKeeper) -> None:
        self._context, self._keeper = context, keeper

    def restore(self, folder: Path) -> Path | None:
        """See `CheckpointKeeper.restore`."""
        checkpoint = self._keeper.restore(folder) if self._context.first else None
        path = self._context.tell(str(checkpoint or ""))
        return Path(path) if path else None

    def due(self) -> bool:
        """See `CheckpointKeeper.due`."""
        return self._context.agree(self._context.first and self._keeper.due())

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        """See `CheckpointKeeper.keep`. Waits until each process has written its random state to the folder."""
        self._context.wait()
        if self._context.first:
            self._keeper.keep(checkpoint, best)


class SharedJudge:
    """The first process's judge, if any, shared by all processes."""

    def __init__(self, context: DistributedContext, judge: TrialPruner | None) -> None:
        self._context, self._judge = context, judge

    def stops(self, epochs: Sequence[dict[str, float]]) -> bool:
        """See `TrialPruner.stops`."""
        has_judge = self._context.first and self._judge is not None
        return self._context.agree(
            has_judge and self._judge is not None and self._judge.stops(epochs)
        )
