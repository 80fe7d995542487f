"""Trainer callbacks that report progress and keep checkpoints.

Each callback reads Trainer's own state, so that a training resumed from a checkpoint behaves like an uninterrupted one.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tasks.core.training.protocols import CheckpointKeeper, TrainingListener

_STATE = "trainer_state.json"


class Checkpointing(TrainerCallback):
    """Saves when the keeper is due, and passes it every checkpoint that Trainer writes.

    At the end of an epoch it saves after the validation, not before. Otherwise a resumed Trainer would begin with the
    next epoch and skip the validation, which also draws random numbers.
    """

    def __init__(self, keeper: CheckpointKeeper) -> None:
        self._keeper = keeper

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        at_the_end_of_an_epoch = (state.epoch or 0) % 1 == 0
        if not at_the_end_of_an_epoch and self._keeper.due():
            control.should_save = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._keeper.due():
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        best = state.best_model_checkpoint
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        self._keeper.keep(folder, Path(best) if best else None)


class LogAtEpochEnd(TrainerCallback):
    """Makes Trainer also log the last steps of every epoch, however few they are."""

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        control.should_log = True


class BaseLoss(TrainerCallback):
    """Writes the loss before the first step into Trainer's log, which every checkpoint holds.

    Args:
        loss: measured before training; None if the training resumes from a checkpoint that has it.
    """

    def __init__(self, loss: float | None) -> None:
        self._loss = loss

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._loss is not None:
            state.log_history.insert(0, {"eval_loss": self._loss, "step": 0})


class ProgressCallback(TrainerCallback):
    """Passes Trainer's steps and metrics to a listener, under Nightshift's names."""

    _NAMES = {  # noqa: RUF012 - a constant
        "loss": "train_loss",
        "learning_rate": "learning_rate",
        "eval_loss": "validation_loss",
        "eval_accuracy": "validation_accuracy",
    }

    def __init__(self, listener: TrainingListener) -> None:
        self._listener = listener

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._listener.on_step(state.global_step, state.max_steps)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        logs: dict[str, Any] = kwargs.get("logs") or {}
        metrics = {name: float(logs[key]) for key, name in self._NAMES.items() if key in logs}
        if metrics:
            self._listener.on_metrics(state.global_step, metrics)


class TrainingClock(TrainerCallback):
    """Measures the seconds of training. Each checkpoint stores them, so that they add up over interruptions."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """The seconds of training so far."""
        return self._before + time.perf_counter() - self._started

    def goes_on_from(self, checkpoint: Path) -> None:
        """Add the seconds that are stored in a checkpoint."""
        path = checkpoint / "seconds.json"
        self._before = (
            float(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else 0.0
        )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        (folder / "seconds.json").write_text(json.dumps(self.seconds))


def final_train_loss(log_history: Sequence[dict[str, Any]]) -> float:
    """Return the training loss of the last steps that Trainer logged, ten at most.

    Trainer's own figure is the mean over the steps of one call, so it differs if the training was resumed from a
    checkpoint.

    Args:
        log_history: from Trainer's state, which a resumed training takes over; `LogAtEpochEnd` ensures an entry.
    """
    return next(float(entry["loss"]) for entry in reversed(log_history) if "loss" in entry)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Read Trainer's state from a checkpoint."""
    return json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))


def adopt(checkpoint: Path) -> None:
    """Rewrite the path of the best checkpoint in Trainer's state to this machine's folder.

    The state names it by an absolute path, which belongs to the machine that wrote it.
    """
    state = read_state(checkpoint)
    if state.get("best_model_checkpoint"):
        best = checkpoint.parent / Path(state["best_model_checkpoint"]).name
        state["best_model_checkpoint"] = str(best)
        (checkpoint / _STATE).write_text(json.dumps(state))
