"""Fine-tuning: transformers' `Trainer` on any encoder or decoder sequence classifier, with settings that are fast.

What makes the difference on a CPU, as measured on IMDb: attention dropout 0 (above 0 torch leaves its fused attention
kernel), padding to the batch and not to 512, batches of similar length, AdamW in one fused kernel, and bf16 where the
processor multiplies in it.
"""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
import transformers
from datasets import Dataset
from pydantic import Field
from torch.nn.functional import cross_entropy
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tasks.core import modeling
from tasks.core.errors import NightshiftError, SettingsError
from tasks.core.forms import Form
from tasks.core.modeling import Classifier, Device, Precision
from tasks.core.tokenization import TokenizationParams

logger = logging.getLogger(__name__)

BestBy: TypeAlias = Literal["accuracy", "loss", "last"]


class TrainingParams(Form):
    """What is fine-tuned, and how."""

    base_model: str = Field(
        default="minilm",
        min_length=1,
        description="What to start from: 'minilm' (the pretrained BERT that comes with Nightshift), a hub id such as "
        "google-bert/bert-base-uncased or openai-community/gpt2, or a local folder.",
    )
    base_model_revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a hub model. Empty takes the newest and records which it was.",
    )
    epochs: int = Field(
        default=3, ge=1, le=50, description="Passes over the training reviews at most."
    )
    batch_size: int = Field(default=16, ge=1, le=1024, description="Reviews a step and device.")
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Batches summed up before a step, where memory is short.",
    )
    learning_rate: float = Field(
        default=1e-4,
        gt=0,
        le=1e-2,
        description="Peak; it warms up and falls linearly. 2e-5 to 5e-5 suits larger models.",
    )
    warmup_share: float = Field(
        default=0.1, ge=0, le=0.5, description="Share of the steps in which the rate rises."
    )
    weight_decay: float = Field(
        default=0.01, ge=0, le=1, description="AdamW's decoupled weight decay."
    )
    attention_dropout: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Above 0 attention leaves its fused kernel and training is far slower.",
    )
    frozen_layers: int = Field(
        default=0,
        ge=0,
        le=200,
        description="Lowest layers that are not trained, the embeddings with them. Half of the layers frozen saves a "
        "third of the time.",
    )
    early_stopping_patience: int = Field(
        default=2,
        ge=0,
        le=50,
        description="Epochs in which neither validation accuracy nor validation loss became better, before training "
        "stops; 0 never stops.",
    )
    best_epoch_by: BestBy = Field(
        default="accuracy",
        description="Which epoch's weights are kept. accuracy: the latest that is at most one standard error less "
        "accurate on the validation reviews than the best; loss: that of the lowest validation loss; last: the last, "
        "and training stops at no other, which is wiser where validation reviews number less than a hundred.",
    )
    device: Device = Field(
        default="auto", description="Where to train; auto takes a GPU where there is one."
    )
    precision: Precision = Field(
        default="auto",
        description="auto uses bf16 where the processor or GPU multiplies in it, else fp32.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        le=2**31 - 1,
        description="Of the new head's weights and the order of batches.",
    )


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


class Trained:
    """A fine-tuned classifier and how its training went."""

    def __init__(
        self, classifier: Classifier, facts: dict[str, Any], validation: dict[str, float]
    ) -> None:
        self.classifier = classifier
        self.facts = facts
        self.validation = validation


def fine_tune(
    base_folder: Path,
    label_names: Sequence[str],
    train: Dataset,
    validation: Dataset,
    tokenization: TokenizationParams,
    params: TrainingParams,
    work_folder: Path,
    listener: TrainingListener,
    show_progress: bool = False,
) -> Trained:
    """Fine-tune a base model; the weights of the best epoch are kept.

    The same inputs and seed give the same weights, to the byte, on one kind of CPU with one number of threads.

    Args:
        base_folder: config, tokenizer and safetensors of the base model.
        label_names: in order of their ids.
        train, validation: columns input_ids (unpadded), length, labels.
        tokenization: how the tokens were made; it is saved with the model.
        params: the settings.
        work_folder: for checkpoints; the caller removes it.
        listener: hears of steps and metrics.
        show_progress: a progress bar on the terminal.
    Raises:
        ModelError: the base model cannot be used.
        SettingsError: the device is not there or too small, or lengths do not fit the model.
        NightshiftError: the loss is no number; training diverged. A full disk raises whatever the library that meets
            it does; the caller's `work_folder` says so.
    """
    device = modeling.resolve_device(params.device)
    precision = modeling.resolve_precision(params.precision, device)
    transformers.set_seed(params.seed)
    classifier = modeling.load_for_training(
        base_folder, label_names, tokenization, params.attention_dropout
    )
    modeling.freeze(classifier.model, params.frozen_layers)
    arguments = _arguments(
        params, len(train), str(work_folder), device.type == "cpu", precision == "bf16"
    )
    callbacks: list[TrainerCallback] = [_Telling(listener)]
    if params.early_stopping_patience and params.best_epoch_by != "last":
        callbacks.append(_EarlyStopping(params.early_stopping_patience))
    trainer = Trainer(
        model=classifier.model,
        args=arguments,
        train_dataset=train,
        # by length, so that little is padded; the metrics do not depend on the order
        eval_dataset=validation.select(np.argsort(validation["length"])[::-1]),
        processing_class=classifier.encoder.tokenizer,
        data_collator=DataCollatorWithPadding(classifier.encoder.tokenizer, pad_to_multiple_of=8),
        compute_metrics=_Merit(params.best_epoch_by),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    if not show_progress:
        trainer.remove_callback(ProgressCallback)
    started = time.perf_counter()
    try:
        output = trainer.train()
    except torch.OutOfMemoryError as error:
        raise SettingsError(
            "The GPU has too little memory",
            "training.batch_size",
            "lower it, and raise training.gradient_accumulation_steps by as much",
        ) from error
    seconds = time.perf_counter() - started
    losses = [e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e]
    if not all(map(math.isfinite, [output.training_loss, *losses])):
        raise NightshiftError(
            "The loss is not a number: training diverged",
            "training",
            "lower training.learning_rate",
        )
    return _trained(classifier, trainer, output.training_loss, seconds, len(train), precision)


def _arguments(
    params: TrainingParams, rows: int, folder: str, use_cpu: bool, bf16: bool
) -> TrainingArguments:
    steps_an_epoch = math.ceil(rows / (params.batch_size * params.gradient_accumulation_steps))
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=64,
        gradient_accumulation_steps=params.gradient_accumulation_steps,
        learning_rate=params.learning_rate,
        warmup_steps=round(params.warmup_share * steps_an_epoch * params.epochs),
        weight_decay=params.weight_decay,
        optim="adamw_torch_fused",
        bf16=bf16,
        use_cpu=use_cpu,
        dataloader_pin_memory=not use_cpu,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        eval_strategy="epoch",
        save_strategy="no" if params.best_epoch_by == "last" else "epoch",
        save_total_limit=1,
        load_best_model_at_end=params.best_epoch_by != "last",
        metric_for_best_model="eval_merit",
        greater_is_better=True,
        logging_steps=10,
        logging_nan_inf_filter=False,  # or a loss that is no number would look like one
        seed=params.seed,
        data_seed=params.seed,
        report_to="none",  # Hugging Face's MLflow callback opens runs of its own and leaves them RUNNING
    )


def _trained(
    classifier: Classifier, trainer: Trainer, loss: float, seconds: float, rows: int, precision: str
) -> Trained:
    state = trainer.state
    kept = state.best_global_step or state.global_step
    best = next(e for e in state.log_history if "eval_loss" in e and e["step"] == kept)
    epochs = float(state.epoch or 0)
    facts: dict[str, Any] = {
        "steps": state.global_step,
        "epochs_run": round(epochs, 3),
        "best_epoch": float(best["epoch"]),
        "seconds": round(seconds, 2),
        "reviews_per_second": round(rows * epochs / seconds, 2),
        "precision": precision,
        "device": trainer.args.device.type,
        "final_train_loss": float(loss),
    }
    model: Any = classifier.model
    model = model.to(torch.device("cpu")).eval()
    validation = {"loss": float(best["eval_loss"]), "accuracy": float(best["eval_accuracy"])}
    return Trained(Classifier(model, classifier.encoder, classifier.label_names), facts, validation)


class _Merit:
    """Measures an epoch; its `merit` is the highest yet where its weights are to be kept.

    By accuracy it follows the one-standard-error rule (Breiman et al., 1984, "Classification and Regression Trees",
    section 3.4.3) in favour of later epochs: the learning rate falls to zero, so that an earlier epoch which is ahead
    by less than the noise of the validation set is ahead by chance.
    """

    def __init__(self, best_by: BestBy) -> None:
        self._best_by = best_by
        self._highest_accuracy = 0.0
        self._kept = 0

    def __call__(self, prediction: transformers.EvalPrediction) -> dict[str, float]:
        logits = torch.as_tensor(prediction.predictions, dtype=torch.float64)
        labels = torch.as_tensor(prediction.label_ids)
        accuracy = float((logits.argmax(dim=-1) == labels).double().mean())
        if self._best_by == "loss":
            return {"accuracy": accuracy, "merit": -float(cross_entropy(logits, labels))}
        self._highest_accuracy = highest = max(self._highest_accuracy, accuracy)
        standard_error = math.sqrt(highest * (1 - highest) / len(labels))
        if accuracy < highest - standard_error:
            return {"accuracy": accuracy, "merit": 0.0}
        self._kept += 1
        return {"accuracy": accuracy, "merit": float(self._kept)}


class _EarlyStopping(TrainerCallback):
    """Stops when validation has shown nothing better for some epochs, whichever of them is then kept.

    transformers' own would ask the merit, which rises on a plateau too: later epochs are kept there.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        epochs = [e for e in state.log_history if "eval_loss" in e]
        losses = [e["eval_loss"] for e in epochs]
        accuracies = [e["eval_accuracy"] for e in epochs]
        latest_better = max(losses.index(min(losses)), accuracies.index(max(accuracies)))
        if len(epochs) - 1 - latest_better >= self._patience:
            control.should_training_stop = True


class _Telling(TrainerCallback):
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
