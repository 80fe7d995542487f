"""Fine-tuning of any encoder or decoder sequence classifier with transformers' `Trainer` and fast settings.

On a CPU, as measured on IMDb, these matter most: attention dropout 0 (above 0 torch does not use its fused attention
kernel), padding to the batch and not to 512, batches of similar length, AdamW in one fused kernel, and bf16 if the
processor multiplies in it.
"""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from datasets import Dataset
from transformers import (
    Trainer,
    TrainerCallback,
)

from tasks.core.errors import NightshiftError, SettingsError
from tasks.core.models import classifier as modeling
from tasks.core.models import devices
from tasks.core.models.classifier import Classifier
from tasks.core.training.batches.execution import (
    ExecutionPlan,
    fastest_plan,
    first_rows,
    padding,
    with_tried_batch_rule,
)
from tasks.core.training.batches.packing import run_plain
from tasks.core.training.batches.schedule import TrainingBatches
from tasks.core.training.distributed import DistributedContext, SharedJudge, SharedKeeper
from tasks.core.training.job import TrainingJob
from tasks.core.training.loop.callbacks import (
    Checkpointing,
    LogAtEpochEnd,
    ProgressCallback,
    TrainingClock,
    adopt,
    final_train_loss,
    read_state,
)
from tasks.core.training.loop.checkpoint_writer import CheckpointWriter, PatientKeeper
from tasks.core.training.loop.epochs import (
    BestEpochMetric,
    EarlyStopping,
    Pruning,
    evaluated_epochs,
)
from tasks.core.training.loop.trainer import ClassifierTrainer, arguments_of, fit_on_validation
from tasks.core.training.methods import lora
from tasks.core.training.methods.layer_dropping import keep_layers
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import (
    CheckpointKeeper,
    NoCheckpoints,
    TrainingListener,
    TrialPruner,
)

logger = logging.getLogger(__name__)


class Trained:
    """A fine-tuned classifier, with the facts and the validation metrics of its training."""

    def __init__(
        self, classifier: Classifier, facts: dict[str, Any], validation: dict[str, float]
    ) -> None:
        self.classifier = classifier
        self.facts = facts
        self.validation = validation


def fine_tune(
    job: TrainingJob,
    train: Dataset,
    validation: Dataset,
    work_folder: Path,
    listener: TrainingListener,
    keeper: CheckpointKeeper | None = None,
    show_progress: bool = False,
    judge: TrialPruner | None = None,
) -> Trained:
    """Fine-tune a base model and keep the weights of the best epoch.

    The same inputs and seed give the same weights, to the byte, on one kind of CPU with one number of threads, also if
    the training is resumed from a checkpoint. If torch.distributed has a process group, all its processes call this
    alike and train one model together, with the first process's listener, keeper and judge.

    Args:
        job: the base model, its labels and the settings.
        train, validation: columns input_ids (unpadded), length, labels.
        work_folder: for checkpoints; the caller removes it.
        listener: receives steps and metrics.
        keeper: keeps checkpoints beyond this process; training resumes from its newest.
        show_progress: show a progress bar on the terminal.
        judge: may stop the training after an epoch.
    Raises:
        TrainingPruned: the judge stopped it.
        ModelError: the base model cannot be used.
        SettingsError: the device is missing or too small, or lengths or layers do not fit the model.
        NightshiftError: the loss is not finite; training diverged. A full disk raises whatever the library that meets
            it does; the caller's `work_folder` says so.
        StoreError: the keeper's store is unavailable when training begins.
    """
    params, context = job.params, DistributedContext()
    classifier = _trainable(job, context)
    plan = _planned(classifier, params, train, context)
    classifier = plan.classifier
    with CheckpointWriter(params.background_checkpoints) as writer:
        shared_keeper = SharedKeeper(context, PatientKeeper(keeper or NoCheckpoints(), writer))
        clock = TrainingClock()
        checkpoint = shared_keeper.restore(work_folder)
        log = _resumed_log(checkpoint, clock, context) if checkpoint else []
        trainer = _trainer(
            job, classifier, plan, train, validation, work_folder, writer, show_progress
        )
        earlier = [epoch["eval_accuracy"] for epoch in log]
        trainer.compute_metrics = BestEpochMetric(params.best_epoch_by, earlier, len(validation))
        for callback in _callbacks(params, context, listener, clock, shared_keeper, judge):
            trainer.add_callback(callback)
        loss = _run(trainer, checkpoint, context)
        return _trained(classifier, trainer, loss, clock.seconds, len(train), plan.execution)


@dataclass(frozen=True)
class _Plan:
    """A classifier to train, its batches, its device and its execution plan."""

    classifier: Classifier
    batches: TrainingBatches
    device: torch.device
    execution: ExecutionPlan


def _planned(
    classifier: Classifier, params: TrainingParams, train: Dataset, context: DistributedContext
) -> _Plan:
    batches = TrainingBatches(train["length"], params, context.index, context.count)
    device = devices.resolve_device(params.device)
    precision = devices.resolve_precision(params.precision, device)
    model: Any = classifier.model
    model.to(device)
    classifier = with_tried_batch_rule(classifier)
    execution = fastest_plan(
        classifier, first_rows(train, batches), params, device, precision, context
    )
    return _Plan(classifier, batches, device, execution)


def _trainer(
    job: TrainingJob,
    classifier: Classifier,
    plan: _Plan,
    train: Dataset,
    validation: Dataset,
    work_folder: Path,
    writer: CheckpointWriter,
    show_progress: bool,
) -> ClassifierTrainer:
    arguments = arguments_of(
        job.params,
        str(work_folder),
        plan.device.type == "cpu",
        plan.execution.bf16,
        plan.batches.steps_an_epoch,
    )
    return ClassifierTrainer(
        plan.batches,
        plan.execution.collate,
        writer,
        show_progress,
        job.params.layerwise_lr_decay,
        model=classifier.model,
        args=arguments,
        train_dataset=train,
        # sorted by length to reduce padding; the metrics do not depend on the order
        eval_dataset=validation.select(np.argsort(validation["length"])[::-1]),
        processing_class=classifier.encoder.tokenizer,
        data_collator=padding(classifier),
    )


def _trainable(job: TrainingJob, context: DistributedContext) -> Classifier:
    """Load the base model with a new head and prepare its layers for training, with all randomness seeded."""
    params = job.params
    transformers.set_seed(params.seed)
    classifier = modeling.load_for_training(
        job.base_folder,
        job.label_names,
        job.tokenization,
        params.attention_dropout,
        params.hidden_dropout,
    )
    classifier = keep_layers(classifier, params.num_layers)
    modeling.freeze(classifier.model, params.frozen_layers)
    lora.insert(classifier.model, params)
    if context.count > 1:  # otherwise all processes would have the same dropout
        torch.manual_seed(params.seed + 1 + context.index)
    return classifier


def _callbacks(
    params: TrainingParams,
    context: DistributedContext,
    listener: TrainingListener,
    clock: TrainingClock,
    keeper: SharedKeeper,
    judge: TrialPruner | None,
) -> list[TrainerCallback]:
    """Return Trainer's callbacks, in the order in which they are called."""
    progress = [ProgressCallback(listener)] if context.first else []
    callbacks: list[TrainerCallback] = [LogAtEpochEnd(), *progress, clock, Checkpointing(keeper)]
    if params.early_stopping_patience and params.best_epoch_by != "last":
        callbacks.append(EarlyStopping(params.early_stopping_patience))
    if judge or context.count > 1:
        callbacks.append(Pruning(SharedJudge(context, judge)))
    return callbacks


def _resumed_log(
    checkpoint: Path, clock: TrainingClock, context: DistributedContext
) -> list[dict[str, Any]]:
    """Adopt a checkpoint, and return the log entries of the epochs evaluated before it."""
    clock.goes_on_from(checkpoint)
    if context.first:
        adopt(checkpoint)
    context.wait()
    return evaluated_epochs(read_state(checkpoint)["log_history"])


def _run(trainer: Trainer, checkpoint: Path | None, context: DistributedContext) -> float:
    """Train to the end and return the loss of the last steps."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise SettingsError(
            "The GPU has too little memory",
            "training.batch_size",
            "lower it, and raise training.gradient_accumulation_steps by as much",
        ) from error
    loss = final_train_loss(trainer.state.log_history)
    losses = [e["eval_loss"] for e in evaluated_epochs(trainer.state.log_history)]
    if not all(map(math.isfinite, [loss, *losses])):
        raise NightshiftError(
            "The loss is not a number: training diverged",
            "training",
            "lower training.learning_rate",
        )
    return loss


def _trained(
    classifier: Classifier,
    trainer: Trainer,
    loss: float,
    seconds: float,
    rows: int,
    execution: ExecutionPlan,
) -> Trained:
    state = trainer.state
    best_step = state.best_global_step or state.global_step
    best_epoch = next(e for e in evaluated_epochs(state.log_history) if e["step"] == best_step)
    epochs = float(state.epoch or 0)
    lora.merge(classifier.model)
    classifier = with_tried_batch_rule(classifier, trainer.eval_dataset)
    temperature, validation_rows = fit_on_validation(trainer)
    run_plain(classifier.model)
    facts: dict[str, Any] = {
        "steps": state.global_step,
        "epochs_run": round(epochs, 3),
        "best_epoch": float(best_epoch["epoch"]),
        "seconds": round(seconds, 2),
        "reviews_per_second": round(rows * epochs / seconds, 2),
        "precision": "bf16" if execution.bf16 else "fp32",
        "bf16_difference": execution.bf16_difference,
        "packed": execution.packed,
        "batch_rule": classifier.batch_rule,
        "device": trainer.args.device.type,
        "processes": trainer.args.world_size,
        "final_train_loss": float(loss),
        "temperature": temperature,
        "validation_rows": validation_rows,
    }
    model: Any = cast(Any, classifier.model).to(torch.device("cpu")).eval()
    validation = {
        "loss": float(best_epoch["eval_loss"]),
        "accuracy": float(best_epoch["eval_accuracy"]),
    }
    best_model = replace(classifier, model=model, precision=facts["precision"])
    return Trained(modeling.with_temperature(best_model, temperature), facts, validation)
