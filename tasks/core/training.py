"""Fine-tuning: transformers' `Trainer` on any encoder or decoder sequence classifier, with settings that are fast.

What makes the difference on a CPU, as measured on IMDb: attention dropout 0 (above 0 torch leaves its fused attention
kernel), padding to the batch and not to 512, batches of similar length, AdamW in one fused kernel, and bf16 where the
processor multiplies in it.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from pydantic import Field
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from tasks.core import modeling
from tasks.core.calibration import fit_temperature
from tasks.core.errors import NightshiftError, SettingsError
from tasks.core.forms import Form
from tasks.core.modeling import Classifier, Device, Precision
from tasks.core.tokenization import TokenizationParams
from tasks.core.training_hooks import (
    BestBy,
    Checkpointing,
    CheckpointKeeper,
    EarlyStopping,
    EpochJudge,
    EpochSampler,
    Merit,
    NoCheckpoints,
    Pruning,
    Telling,
    TrainingClock,
    TrainingListener,
    adopt,
    evaluated_epochs,
)

logger = logging.getLogger(__name__)


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
    keeper: CheckpointKeeper | None = None,
    show_progress: bool = False,
    judge: EpochJudge | None = None,
) -> Trained:
    """Fine-tune a base model; the weights of the best epoch are kept.

    The same inputs and seed give the same weights, to the byte, on one kind of CPU with one number of threads; so does
    a training that died and goes on from a checkpoint.

    Args:
        base_folder: config, tokenizer and safetensors of the base model.
        label_names: in order of their ids.
        train, validation: columns input_ids (unpadded), length, labels.
        tokenization: how the tokens were made; it is saved with the model.
        params: the settings.
        work_folder: for checkpoints; the caller removes it.
        listener: hears of steps and metrics.
        keeper: keeps checkpoints beyond this process; training goes on from its newest.
        show_progress: a progress bar on the terminal.
        judge: may stop it after an epoch.
    Raises:
        TrainingPruned: the judge stopped it.
        ModelError: the base model cannot be used.
        SettingsError: the device is not there or too small, or lengths do not fit the model.
        NightshiftError: the loss is no number; training diverged. A full disk raises whatever the library that meets
            it does; the caller's `work_folder` says so.
        StoreError: the keeper's store is away when training begins.
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
    keeper = keeper or NoCheckpoints()
    clock = TrainingClock()
    checkpoint = keeper.restore(work_folder)
    earlier: list[float] = []
    if checkpoint:
        clock.goes_on_from(checkpoint)
        log = adopt(checkpoint)["log_history"]
        earlier = [entry["eval_accuracy"] for entry in evaluated_epochs(log)]
    callbacks: list[TrainerCallback] = [Telling(listener), clock, Checkpointing(keeper)]
    if params.early_stopping_patience and params.best_epoch_by != "last":
        callbacks.append(EarlyStopping(params.early_stopping_patience))
    if judge:
        callbacks.append(Pruning(judge))
    trainer = _Trainer(
        lengths=list(train["length"]),
        model=classifier.model,
        args=arguments,
        train_dataset=train,
        # by length, so that little is padded; the metrics do not depend on the order
        eval_dataset=validation.select(np.argsort(validation["length"])[::-1]),
        processing_class=classifier.encoder.tokenizer,
        data_collator=DataCollatorWithPadding(classifier.encoder.tokenizer, pad_to_multiple_of=8),
        compute_metrics=Merit(params.best_epoch_by, earlier, len(validation)),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    if not show_progress:
        trainer.remove_callback(ProgressCallback)
    try:
        output = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise SettingsError(
            "The GPU has too little memory",
            "training.batch_size",
            "lower it, and raise training.gradient_accumulation_steps by as much",
        ) from error
    losses = [e["eval_loss"] for e in evaluated_epochs(trainer.state.log_history)]
    if not all(map(math.isfinite, [output.training_loss, *losses])):
        raise NightshiftError(
            "The loss is not a number: training diverged",
            "training",
            "lower training.learning_rate",
        )
    return _trained(classifier, trainer, output.training_loss, clock.seconds, len(train), precision)


class _Trainer(Trainer):
    """Trainer whose order of batches can be taken up in the middle of an epoch."""

    def __init__(self, lengths: list[int], **given: Any) -> None:
        super().__init__(**given)
        self._lengths = lengths

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return EpochSampler(together, self._lengths, self.args.seed)


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
        eval_strategy="epoch",
        save_strategy="no" if params.best_epoch_by == "last" else "epoch",
        save_total_limit=1,
        load_best_model_at_end=params.best_epoch_by != "last",
        metric_for_best_model="eval_merit",
        greater_is_better=True,
        logging_steps=10,
        logging_nan_inf_filter=False,  # or a loss that is no number would look like one
        seed=params.seed,
        report_to="none",  # Hugging Face's MLflow callback opens runs of its own and leaves them RUNNING
    )


def _trained(
    classifier: Classifier, trainer: Trainer, loss: float, seconds: float, rows: int, precision: str
) -> Trained:
    state = trainer.state
    kept = state.best_global_step or state.global_step
    best = next(e for e in evaluated_epochs(state.log_history) if e["step"] == kept)
    epochs = float(state.epoch or 0)
    temperature, validation_rows = _temperature(trainer)
    facts: dict[str, Any] = {
        "steps": state.global_step,
        "epochs_run": round(epochs, 3),
        "best_epoch": float(best["epoch"]),
        "seconds": round(seconds, 2),
        "reviews_per_second": round(rows * epochs / seconds, 2),
        "precision": precision,
        "device": trainer.args.device.type,
        "final_train_loss": float(loss),
        "temperature": temperature,
        "validation_rows": validation_rows,
    }
    model: Any = classifier.model
    model = model.to(torch.device("cpu")).eval()
    validation = {"loss": float(best["eval_loss"]), "accuracy": float(best["eval_accuracy"])}
    kept_model = Classifier(model, classifier.encoder, classifier.label_names)
    return Trained(modeling.with_temperature(kept_model, temperature), facts, validation)


def _temperature(trainer: Trainer) -> tuple[float, int]:
    """Fitted on the validation reviews with the weights that are kept; and how many they are."""
    trainer.compute_metrics = None
    predicted: Any = trainer.predict(trainer.eval_dataset)  # type: ignore[arg-type]
    labels = np.asarray(predicted.label_ids, dtype=np.int64)
    return fit_temperature(np.asarray(predicted.predictions), labels), len(labels)
