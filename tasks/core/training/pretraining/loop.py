"""Further pre-training: train a base model on the reviews' language, without labels, before fine-tuning.

Gururangan et al., 2020, "Don't Stop Pretraining: Adapt Language Models to Domains and Tasks"; Sun et al., 2019, "How to
Fine-Tune BERT for Text Classification?" (section 5.4). Encoders predict masked tokens (Devlin et al., 2019, "BERT",
section 3.1), decoders the next token. The result is a base model like any other.
"""

import functools
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from transformers import PreTrainedModel

from tasks.core.errors import NightshiftError, SettingsError
from tasks.core.models import devices, folders
from tasks.core.models.params import Precision
from tasks.core.training.batches.numerics import bf16_problem
from tasks.core.training.batches.schedule import TrainingBatches
from tasks.core.training.loop.callbacks import (
    BaseLoss,
    Checkpointing,
    LogAtEpochEnd,
    ProgressCallback,
    TrainingClock,
    final_train_loss,
)
from tasks.core.training.loop.checkpoint_writer import CheckpointWriter, PatientKeeper
from tasks.core.training.loop.epochs import evaluated_epochs
from tasks.core.training.loop.trainer import PlannedTrainer, arguments_of
from tasks.core.training.params import TrainingParams
from tasks.core.training.pretraining import language_models
from tasks.core.training.pretraining.masked_lm_head import at_masked_positions
from tasks.core.training.pretraining.params import PretrainingParams
from tasks.core.training.protocols import CheckpointKeeper, NoCheckpoints, TrainingListener

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainingJob:
    """A further pre-training: the base model, the settings and where it runs."""

    base_folder: Path
    """Config, tokenizer and safetensors of the base model."""
    name: str
    """Of the model, for log and errors."""
    params: PretrainingParams
    """The settings; `epochs` is at least 1."""
    device: torch.device
    """Where to train."""
    precision: Precision
    """fp32 or bf16; auto as `resolve_precision` has it."""
    background_checkpoints: bool = True
    """Training waits for a copy of the weights in memory, and not for the disk."""

    @functools.cached_property
    def objective(self) -> language_models.Objective:
        """The objective of the model. Raises ModelError if it has none."""
        return language_models.objective_of(self.base_folder, self.name)


def pretrain(
    job: PretrainingJob,
    train: Dataset,
    held_out: Dataset,
    work_folder: Path,
    result_folder: Path,
    listener: TrainingListener,
    keeper: CheckpointKeeper | None = None,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Pre-train a base model further, save it as a base model, and return the facts of the training.

    The same inputs and seed give the same weights on one kind of CPU with one number of threads, also if the training
    is resumed from a checkpoint. It runs in one process, on one GPU.

    Args:
        job: the base model and the settings.
        train, held_out: columns input_ids (unpadded), length.
        work_folder: for checkpoints; the caller removes it.
        result_folder: where the new base model is written.
        listener: receives steps and metrics.
        keeper: keeps checkpoints beyond this process; training resumes from its newest.
        show_progress: show a progress bar on the terminal.
    Raises:
        ModelError: the base model cannot be pre-trained.
        SettingsError: the GPU has too little memory.
        NightshiftError: the loss is not a finite number.
        StoreError: the keeper's store is unavailable when training begins.
    """
    folders.check_base_folder(job.base_folder)
    job = replace(job, precision=devices.resolve_precision(job.precision, job.device))
    transformers.set_seed(job.params.seed)
    model = language_models.with_language_head(job.base_folder, job.name, job.objective)
    job = _in_a_precision_that_it_computes(job, model, train)
    with CheckpointWriter(job.background_checkpoints) as writer:
        patient_keeper = PatientKeeper(keeper or NoCheckpoints(), writer)
        clock = TrainingClock()
        checkpoint = patient_keeper.restore(work_folder)
        if checkpoint:
            clock.goes_on_from(checkpoint)
        trainer = _trainer(job, model, train, held_out, work_folder, writer, show_progress)
        for callback in (
            LogAtEpochEnd(),
            ProgressCallback(listener),
            clock,
            Checkpointing(patient_keeper),
        ):
            trainer.add_callback(callback)
        with at_masked_positions(model, trainer.get_eval_dataloader(), job.objective == "masked"):
            loss = _run(trainer, checkpoint)
    losses = _finite_losses(trainer, loss)
    language_models.save_as_base(model.cpu(), job.base_folder, result_folder)
    return {
        "objective": job.objective,
        "pieces": len(train),
        "steps": trainer.state.global_step,
        "seconds": round(clock.seconds, 2),
        "precision": job.precision,
        "device": job.device.type,
        "final_train_loss": loss,
        "held_out_losses": losses,
    }


def _in_a_precision_that_it_computes(
    job: PretrainingJob, model: Any, train: Dataset
) -> PretrainingJob:
    """Return the job, in fp32 if a bf16 step on the longest pieces raises."""
    if job.precision != "bf16":
        return job
    tokenizer = folders.load_tokenizer(job.base_folder)
    longest = sorted(range(len(train)), key=lambda i: -train["length"][i])[:2]
    rows = [{"input_ids": train[i]["input_ids"]} for i in longest]
    width = max(train["length"])
    batch = language_models.collator(tokenizer, job.objective, job.params, longest=width)(rows)
    on_device = {name: value.to(job.device) for name, value in batch.items()}
    if problem := bf16_problem(model.to(job.device), [on_device], job.device):
        logger.warning("Pre-training continues in fp32 instead of bf16: %s", problem)
        return replace(job, precision="fp32")
    return job


class _LanguageTrainer(PlannedTrainer):
    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the model's loss; 0 if chance, or a batch of single tokens, leaves nothing to predict."""
        computed = super().compute_loss(model, inputs, *args, **kwargs)
        loss, *rest = computed if isinstance(computed, tuple) else (computed,)
        nothing = (inputs["labels"][:, 1:] == -100).all()
        loss = torch.nan_to_num(loss) if nothing else loss
        return (loss, *rest) if rest else loss


def _trainer(
    job: PretrainingJob,
    model: PreTrainedModel,
    train: Dataset,
    held_out: Dataset,
    work_folder: Path,
    writer: CheckpointWriter,
    show_progress: bool,
) -> _LanguageTrainer:
    params, objective = job.params, job.objective
    # the model takes this many tokens, and perhaps no more
    longest = max(*train["length"], *held_out["length"])
    tokenizer = folders.load_tokenizer(job.base_folder)
    tokenizer.padding_side = "right"  # positions are counted from the left
    settings = TrainingParams(
        epochs=params.epochs,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        best_epoch_by="last",  # the held-out loss is only reported
        seed=params.seed,
    )
    batches = TrainingBatches(train["length"], settings)
    arguments = arguments_of(
        settings,
        str(work_folder),
        job.device.type == "cpu",
        job.precision == "bf16",
        batches.steps_an_epoch,
    )
    arguments.metric_for_best_model = None
    arguments.prediction_loss_only = True  # do not collect logits of the whole vocabulary
    arguments.per_device_eval_batch_size = params.batch_size
    return _LanguageTrainer(
        batches,
        language_models.collator(tokenizer, objective, params, lambda: batches.epoch, longest),
        writer,
        show_progress,
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out.select(np.argsort(held_out["length"])[::-1]),
        processing_class=tokenizer,
        data_collator=language_models.collator(tokenizer, objective, params, longest=longest),
    )


def _finite_losses(trainer: _LanguageTrainer, loss: float) -> list[float]:
    """Return the held-out losses: before training, and after each epoch.

    Raises:
        NightshiftError: a loss is not a finite number.
    """
    losses = [float(e["eval_loss"]) for e in evaluated_epochs(trainer.state.log_history)]
    if not all(map(math.isfinite, [loss, *losses])):
        raise NightshiftError(
            "The loss is not a number: pre-training diverged",
            "pretraining",
            "lower pretraining.learning_rate",
        )
    return losses


def _run(trainer: _LanguageTrainer, checkpoint: Path | None) -> float:
    """Measure the base model unless a checkpoint has that, train to the end, and return the loss of the last steps."""
    try:
        before = None if checkpoint else float(trainer.evaluate()["eval_loss"])
        trainer.add_callback(BaseLoss(before))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise SettingsError(
            "The GPU has too little memory", "pretraining.batch_size", "lower it"
        ) from error
    return final_train_loss(trainer.state.log_history)
