"""What happens beside the training loop: telling how it goes, measuring epochs, stopping early, keeping checkpoints.

Each hook reads what it needs from Trainer's own state, so that a training that goes on from a checkpoint behaves as one
that was never interrupted.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    EvalPrediction,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tasks.core.training_params import BestBy

_STATE = "trainer_state.json"


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


class NoCheckpoints:
    """Keeps none: a training that dies begins again."""

    def restore(self, folder: Path) -> Path | None:
        return None

    def due(self) -> bool:
        return False

    def keep(self, checkpoint: Path, best: Path | None) -> None: ...


class Merit:
    """Measures an epoch; its `merit` is the highest yet where its weights are to be kept.

    By accuracy it follows the one-standard-error rule (Breiman et al., 1984, "Classification and Regression Trees",
    section 3.4.3) in favour of later epochs: the learning rate falls to zero, so that an earlier epoch which is ahead
    by less than the noise of the validation set is ahead by chance.

    Args:
        best_by: the rule.
        earlier: accuracies of the epochs before a checkpoint that training goes on from.
        rows: of the validation set; only needed with `earlier`.
    """

    def __init__(self, best_by: BestBy, earlier: Sequence[float] = (), rows: int = 1) -> None:
        self._best_by = best_by
        self._highest_accuracy = 0.0
        self._kept = 0
        for accuracy in earlier:
            self._rank(accuracy, rows)

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        logits = torch.as_tensor(prediction.predictions, dtype=torch.float64)
        labels = torch.as_tensor(prediction.label_ids)
        accuracy = float((logits.argmax(dim=-1) == labels).double().mean())
        if self._best_by == "loss":
            return {"accuracy": accuracy, "merit": -float(cross_entropy(logits, labels))}
        return {"accuracy": accuracy, "merit": self._rank(accuracy, len(labels))}

    def _rank(self, accuracy: float, rows: int) -> float:
        self._highest_accuracy = highest = max(self._highest_accuracy, accuracy)
        standard_error = math.sqrt(highest * (1 - highest) / rows)
        if accuracy < highest - standard_error:
            return 0.0
        self._kept += 1
        return float(self._kept)


class EarlyStopping(TrainerCallback):
    """Stops when validation has shown nothing better for some epochs, whichever of them is then kept.

    transformers' own would ask the merit, which rises on a plateau too: later epochs are kept there.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        epochs = evaluated_epochs(state.log_history)
        losses = [e["eval_loss"] for e in epochs]
        accuracies = [e["eval_accuracy"] for e in epochs]
        latest_better = max(losses.index(min(losses)), accuracies.index(max(accuracies)))
        if len(epochs) - 1 - latest_better >= self._patience:
            control.should_training_stop = True


class Pruning(TrainerCallback):
    """Stops a training when its judge says so, and one whose loss is no number: it has nothing to be judged by.

    Nothing is stopped after its last epoch. It must stand behind `EarlyStopping`, which says which that is.
    """

    def __init__(self, judge: EpochJudge) -> None:
        self._judge = judge

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        epochs = [
            {"loss": float(e["eval_loss"]), "accuracy": float(e["eval_accuracy"])}
            for e in evaluated_epochs(state.log_history)
        ]
        if not math.isfinite(epochs[-1]["loss"]):
            control.should_training_stop = True
            return
        stops = self._judge.stops(epochs)
        over = control.should_training_stop or state.global_step >= state.max_steps
        if stops and not over:
            raise TrainingPruned(len(epochs), state.global_step, epochs[-1])


class Checkpointing(TrainerCallback):
    """Saves when the keeper says it is time, and hands it every checkpoint that Trainer writes.

    At the end of an epoch it saves after the validation and not before: going on from a checkpoint, Trainer begins with
    the next epoch, and would never do the validation, which also draws random numbers.
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


class LastLoss(TrainerCallback):
    """Has Trainer log the last steps of every epoch, too, however few they are."""

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        control.should_log = True


class BaseLoss(TrainerCallback):
    """Writes the loss before the first step into Trainer's log, which every checkpoint holds.

    Args:
        loss: measured before; None: the training goes on from a checkpoint that has it.
    """

    def __init__(self, loss: float | None) -> None:
        self._loss = loss

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._loss is not None:
            state.log_history.insert(0, {"eval_loss": self._loss, "step": 0})


class Telling(TrainerCallback):
    """Passes on what Trainer says, under names of our own."""

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
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        logs: dict[str, Any] = given.get("logs") or {}
        known = {name: float(logs[key]) for key, name in self._NAMES.items() if key in logs}
        if known:
            self._listener.on_metrics(state.global_step, known)


class TrainingClock(TrainerCallback):
    """Seconds of training so far, those before a checkpoint included: each checkpoint carries them."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + time.perf_counter() - self._started

    def goes_on_from(self, checkpoint: Path) -> None:
        """Take over what the training had cost that wrote a checkpoint."""
        kept = checkpoint / "seconds.json"
        self._before = float(json.loads(kept.read_text())) if kept.is_file() else 0.0

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        (folder / "seconds.json").write_text(json.dumps(self.seconds))


def evaluated_epochs(log_history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of Trainer's log that tell of a validation."""
    return [entry for entry in log_history if "eval_loss" in entry]


def final_train_loss(log_history: Sequence[dict[str, Any]]) -> float:
    """The training loss of the steps that Trainer logged last, ten at most.

    Trainer's own figure is the mean of the steps of one call, so that it says something else of a training that went on
    from a checkpoint.

    Args:
        log_history: of Trainer's state, which such a training takes over; `LastLoss` saw to an entry.
    """
    return next(float(entry["loss"]) for entry in reversed(log_history) if "loss" in entry)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Trainer's state in a checkpoint."""
    return json.loads((checkpoint / _STATE).read_text())


def adopt(checkpoint: Path) -> None:
    """Make a checkpoint that was written elsewhere one of its folder here.

    Trainer's state names the best checkpoint by its absolute path, which was another machine's.
    """
    state = read_state(checkpoint)
    if state.get("best_model_checkpoint"):
        best = checkpoint.parent / Path(state["best_model_checkpoint"]).name
        state["best_model_checkpoint"] = str(best)
        (checkpoint / _STATE).write_text(json.dumps(state))
