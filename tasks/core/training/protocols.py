"""What a training is handed: who hears of it, who keeps its checkpoints, and who may stop it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class TrainingListener(Protocol):
    """Where a training tells how it goes; the shell makes progress bars and metric charts of it."""

    def on_step(self, step: int, total_steps: int) -> None:
        """After each optimiser step, counted from 1."""
        ...

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Whenever there are new figures: train_loss, learning_rate, validation_loss, validation_accuracy."""
        ...


class SilentListener:
    """Hears and says nothing."""

    def on_step(self, step: int, total_steps: int) -> None: ...

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None: ...


class CheckpointKeeper(Protocol):
    """Keeps checkpoints where they outlive this machine. Core does not know where that is."""

    def restore(self, folder: Path) -> Path | None:
        """Put the newest complete checkpoint below `folder`, and the best one's weights where that is another.

        Returns:
            Its folder, checkpoint-<step>, or None where there is none.
        """
        ...

    def due(self) -> bool:
        """True when it is time for another."""
        ...

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        """Take a copy of a checkpoint that Trainer has just written, and know which one is the best so far."""
        ...


class NoCheckpoints:
    """Keeps none: a training that dies begins again."""

    def restore(self, folder: Path) -> Path | None:
        return None

    def due(self) -> bool:
        return False

    def keep(self, checkpoint: Path, best: Path | None) -> None: ...


class EpochJudge(Protocol):
    """Says after each epoch whether a training is worth going on with."""

    def stops(self, epochs: Sequence[dict[str, float]]) -> bool:
        """True when it is not.

        Args:
            epochs: validation loss and accuracy of each epoch so far, those before a checkpoint included.
        """
        ...


class TrainingPruned(Exception):
    """A training was stopped because its judge found it not worth going on with.

    Args:
        epochs: that it had.
        steps: that it had.
        validation: loss and accuracy after the last of them.
    """

    def __init__(self, epochs: int, steps: int, validation: dict[str, float]) -> None:
        super().__init__(epochs, steps, validation)
        self.epochs, self.steps, self.validation = epochs, steps, validation
