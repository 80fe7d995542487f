"""Protocols of a training's collaborators: listener, checkpoint keeper and epoch judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class TrainingListener(Protocol):
    """Receives the progress of a training. The shell turns it into progress bars and metric charts."""

    def on_step(self, step: int, total_steps: int) -> None:
        """Called after each optimiser step, counted from 1."""
        ...

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Called with new metrics: train_loss, learning_rate, validation_loss, validation_accuracy."""
        ...


class SilentListener:
    """A listener that does nothing."""

    def on_step(self, step: int, total_steps: int) -> None: ...

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None: ...


class CheckpointKeeper(Protocol):
    """Stores checkpoints where they outlive this machine. Core does not know where that is."""

    def restore(self, folder: Path) -> Path | None:
        """Copy the newest complete checkpoint into `folder`, and the best one's weights if that is another.

        Returns:
            The checkpoint's folder, checkpoint-<step>, or None if there is none.
        """
        ...

    def due(self) -> bool:
        """True if it is time for another checkpoint."""
        ...

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        """Copy a checkpoint that Trainer has just written, and remember which one is the best so far."""
        ...


class NoCheckpoints:
    """A keeper that stores nothing: an interrupted training starts again."""

    def restore(self, folder: Path) -> Path | None:
        return None

    def due(self) -> bool:
        return False

    def keep(self, checkpoint: Path, best: Path | None) -> None: ...


class TrialPruner(Protocol):
    """Decides after each epoch whether to stop a training."""

    def stops(self, epochs: Sequence[dict[str, float]]) -> bool:
        """True if the training should stop.

        Args:
            epochs: validation loss and accuracy of each epoch so far, including those before a checkpoint.
        """
        ...


class TrainingPruned(Exception):
    """The judge stopped a training.

    Args:
        epochs: the number of epochs completed.
        steps: the number of steps completed.
        validation: loss and accuracy after the last epoch.
    """

    def __init__(self, epochs: int, steps: int, validation: dict[str, float]) -> None:
        super().__init__(epochs, steps, validation)
        self.epochs, self.steps, self.validation = epochs, steps, validation
