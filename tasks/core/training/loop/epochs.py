"""Model selection over epochs: the metric of an epoch, early stopping and pruning.

Each callback reads Trainer's own state, so that a training resumed from a checkpoint behaves like an uninterrupted one.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    EvalPrediction,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tasks.core.decision import predict_labels
from tasks.core.training.params import BestBy
from tasks.core.training.protocols import TrainingPruned, TrialPruner


class BestEpochMetric:
    """Compute the metrics of an epoch. Its `merit` is a new maximum if its weights should be kept.

    By accuracy it applies the one-standard-error rule (Breiman et al., 1984, "Classification and Regression Trees",
    section 3.4.3) in favour of later epochs: the learning rate falls to zero, so an earlier epoch that is ahead by
    less than the noise of the validation set is ahead by chance.

    Args:
        best_by: the rule.
        earlier: accuracies of the epochs before the checkpoint that training resumes from.
        rows: the size of the validation set; only needed with `earlier`.
    """

    def __init__(self, best_by: BestBy, earlier: Sequence[float] = (), rows: int = 1) -> None:
        self._best_by = best_by
        self._highest_accuracy = 0.0
        self._best_count = 0
        for accuracy in earlier:
            self._rank(accuracy, rows)

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        logits = torch.as_tensor(prediction.predictions, dtype=torch.float64)
        labels = torch.as_tensor(prediction.label_ids)
        accuracy = float((predict_labels(logits) == labels.numpy()).mean())
        if self._best_by == "loss":
            return {"accuracy": accuracy, "merit": -float(cross_entropy(logits, labels))}
        return {"accuracy": accuracy, "merit": self._rank(accuracy, len(labels))}

    def _rank(self, accuracy: float, rows: int) -> float:
        self._highest_accuracy = highest = max(self._highest_accuracy, accuracy)
        standard_error = math.sqrt(highest * (1 - highest) / rows)
        if accuracy < highest - standard_error:
            return 0.0
        self._best_count += 1
        return float(self._best_count)


class EarlyStopping(TrainerCallback):
    """Stops when neither validation loss nor accuracy has improved for `patience` epochs.

    transformers' own callback would use the merit, which also rises on a plateau, because later epochs are preferred.
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
    """Stops training if the pruner says so, or if the loss is not finite and cannot be compared.

    It does not prune a training that has reached its last epoch. It must come after `EarlyStopping`, which may make an
    epoch the last.
    """

    def __init__(self, pruner: TrialPruner) -> None:
        self._pruner = pruner

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
        stops = self._pruner.stops(epochs)
        over = control.should_training_stop or state.global_step >= state.max_steps
        if stops and not over:
            raise TrainingPruned(len(epochs), state.global_step, epochs[-1])


def evaluated_epochs(log_history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of Trainer's log that hold validation metrics."""
    return [entry for entry in log_history if "eval_loss" in entry]
