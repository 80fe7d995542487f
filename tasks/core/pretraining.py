"""Further pre-training: a base model learns the language of the reviews, without labels, before it is fine-tuned.

Gururangan et al., 2020, "Don't Stop Pretraining: Adapt Language Models to Domains and Tasks"; Sun et al., 2019, "How to
Fine-Tune BERT for Text Classification?" (section 5.4). Encoders guess masked tokens (Devlin et al., 2019, "BERT",
section 3.1), decoders the next token. What comes of it is a base model like any other.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
)

from tasks.core import language_models, modeling
from tasks.core.errors import NightshiftError, SettingsError
from tasks.core.masked_positions import at_masked_positions
from tasks.core.pretraining_params import PretrainingParams
from tasks.core.trainer import PlannedTrainer, arguments_of
from tasks.core.training_batches import TrainingBatches
from tasks.core.training_hooks import Telling, TrainingClock, TrainingListener, evaluated_epochs
from tasks.core.training_params import Precision, TrainingParams


def pretrain(
    base_folder: Path,
    name: str,
    train: Dataset,
    held_out: Dataset,
    params: PretrainingParams,
    device: torch.device,
    precision: Precision,
    work_folder: Path,
    result_folder: Path,
    listener: TrainingListener,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Pre-train a base model further and save it as a base model; returns how it went.

    The same inputs and seed give the same weights on one kind of CPU with one number of threads. One process does it,
    on one GPU.

    Args:
        base_folder: config, tokenizer and safetensors of the base model.
        name: of the model, for log and errors.
        train, held_out: columns input_ids (unpadded), length.
        params: the settings; `epochs` is at least 1.
        device: where to train.
        precision: fp32 or bf16; auto as `resolve_precision` has it.
        work_folder: for Trainer, which leaves nothing in it.
        result_folder: where the new base model is written.
        listener: hears of steps and metrics.
        show_progress: a progress bar on the terminal.
    Raises:
        ModelError: the base model cannot be pre-trained.
        SettingsError: the GPU has too little memory.
        NightshiftError: the loss is no number.
    """
    modeling.check_base_folder(base_folder)
    objective = language_models.objective_of(base_folder, name)
    precision = modeling.resolve_precision(precision, device)
    transformers.set_seed(params.seed)
    tokenizer = modeling.load_tokenizer(base_folder)
    model = language_models.with_language_head(base_folder, name, objective)
    clock = TrainingClock()
    trainer = _trainer(
        model, tokenizer, objective, train, held_out, params, device, precision, work_folder
    )
    trainer.remove_callback(PrinterCallback)
    if not show_progress:
        trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Telling(listener))
    with at_masked_positions(model, trainer.get_eval_dataloader(), objective == "masked"):
        loss = _run(trainer)
    losses = _finite_losses(trainer, loss)
    language_models.save_as_base(model.cpu(), base_folder, result_folder)
    return {
        "objective": objective,
        "pieces": len(train),
        "steps": trainer.state.global_step,
        "seconds": round(clock.seconds, 2),
        "precision": precision,
        "device": device.type,
        "final_train_loss": loss,
        "held_out_losses": losses,
    }


class _LanguageTrainer(PlannedTrainer):
    """Measures on the same masks each time: a collator draws on where it stopped."""

    def __init__(self, measured_by: Any, **given: Any) -> None:
        self._measured_by = measured_by
        super().__init__(**given)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        self.data_collator = self._measured_by()
        return super().get_eval_dataloader(eval_dataset)

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        """The model's own; 0 where chance, or a batch of single tokens, leaves nothing to guess."""
        computed = super().compute_loss(model, inputs, *given, **named)
        loss, *rest = computed if isinstance(computed, tuple) else (computed,)
        nothing = (inputs["labels"][:, 1:] == -100).all()
        loss = torch.nan_to_num(loss) if nothing else loss
        return (loss, *rest) if rest else loss


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: language_models.Objective,
    train: Dataset,
    held_out: Dataset,
    params: PretrainingParams,
    device: torch.device,
    precision: Precision,
    work_folder: Path,
) -> _LanguageTrainer:
    settings = TrainingParams(
        epochs=params.epochs,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        best_epoch_by="last",  # nothing is kept between
        seed=params.seed,
    )
    batches = TrainingBatches(train["length"], settings)
    arguments = arguments_of(
        settings,
        str(work_folder),
        device.type == "cpu",
        precision == "bf16",
        batches.steps_an_epoch,
    )
    arguments.metric_for_best_model = None
    arguments.prediction_loss_only = True  # logits of a whole vocabulary are not to be collected
    arguments.per_device_eval_batch_size = params.batch_size
    return _LanguageTrainer(
        lambda: language_models.collator(tokenizer, objective, params),
        batches=batches,
        collate=language_models.collator(tokenizer, objective, params),
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out.select(np.argsort(held_out["length"])[::-1]),
        processing_class=tokenizer,
    )


def _finite_losses(trainer: _LanguageTrainer, loss: float) -> list[float]:
    """Losses on the held-out pieces: before, and after each epoch. Raises NightshiftError where one is no number."""
    losses = [float(e["eval_loss"]) for e in evaluated_epochs(trainer.state.log_history)]
    if not all(map(math.isfinite, [loss, *losses])):
        raise NightshiftError(
            "The loss is not a number: pre-training diverged",
            "pretraining",
            "lower pretraining.learning_rate",
        )
    return losses


def _run(trainer: _LanguageTrainer) -> float:
    """Measure, then train to the end; returns the mean loss."""
    try:
        before = trainer.evaluate()["eval_loss"]
        loss = float(trainer.train().training_loss)
    except torch.OutOfMemoryError as error:
        raise SettingsError(
            "The GPU has too little memory", "pretraining.batch_size", "lower it"
        ) from error
    trainer.state.log_history.insert(0, {"eval_loss": before, "step": 0})  # train() forgets it
    return loss
