"""transformers' `Trainer` with Nightshift's batches, loss, learning rates and saving, and its arguments."""

import os
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from tasks.core.errors import NightshiftError
from tasks.core.models.base_model.weights import require_loaded
from tasks.core.models.calibration import fit_temperature
from tasks.core.training.batches.schedule import TrainingBatches
from tasks.core.training.loop.checkpoint_writer import CheckpointWriter, snapshot
from tasks.core.training.loop.optimizers import parameter_groups
from tasks.core.training.params import TrainingParams

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


class PlannedTrainer(Trainer):
    """A Trainer with batches planned in advance and checkpoints written by a `CheckpointWriter`.

    Args:
        batches: the batches of this process.
        collate: makes a batch from rows.
        writer: writes checkpoints.
        show_progress: show a progress bar on the terminal.
        kwargs: Trainer's own arguments.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        collate: Any,
        writer: CheckpointWriter,
        show_progress: bool,
        **kwargs: Any,
    ) -> None:
        self._batches, self._collate, self._writer = batches, collate, writer
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)
        if not show_progress:
            self.remove_callback(ProgressCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the planned batches. They are already divided among processes, so Accelerate must not do it."""
        rows: Any = self._remove_unused_columns(self.train_dataset, "training")  # type: ignore[arg-type]
        loader: DataLoader[Any] = DataLoader(
            rows,
            batch_sampler=self._batches,
            collate_fn=self._collate,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._writer.wait()
        super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not (self.args.should_save and self._writer.in_background):
            super()._save(output_dir, state_dict)
            return
        model: Any = self.model
        state = snapshot(state_dict or _trained(model))
        save = super()._save
        # Trainer checks that the best checkpoint exists
        os.makedirs(output_dir or "", exist_ok=True)
        self._writer.add(lambda: save(output_dir, state))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.args.should_save:
            return
        os.makedirs(output_dir, exist_ok=True)
        optimizer: Any = self.optimizer
        scheduler: Any = self.lr_scheduler
        state: Any = optimizer.state_dict()
        state = snapshot(state) if self._writer.in_background else state
        self._writer.add(lambda: torch.save(state, os.path.join(output_dir, OPTIMIZER_NAME)))
        torch.save(scheduler.state_dict(), os.path.join(output_dir, SCHEDULER_NAME))

    def _load_best_model(self) -> None:
        self._writer.wait()
        self.accelerator.wait_for_everyone()
        best = self.state.best_model_checkpoint or ""
        if not os.path.isdir(best):  # Trainer would silently keep the last epoch's weights
            raise NightshiftError(
                "The checkpoint of the best epoch is missing", best, "run the training again"
            )
        super()._load_best_model()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Raise an error. Trainer only warns, and would train or keep random weights."""
        model: Any = self.model
        require_loaded(model, load_result.missing_keys, load_result.unexpected_keys)


class ClassifierTrainer(PlannedTrainer):
    """A Trainer that resumes within an epoch with the remaining batches, and weights each review equally.

    Args:
        batches: the batches of this process.
        collate: makes a batch from rows.
        writer: writes checkpoints.
        show_progress: show a progress bar on the terminal.
        layerwise_lr_decay: see `parameter_groups`.
        kwargs: Trainer's own arguments.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        collate: Any,
        writer: CheckpointWriter,
        show_progress: bool,
        layerwise_lr_decay: float,
        **kwargs: Any,
    ) -> None:
        self._layer_decay = layerwise_lr_decay
        super().__init__(
            batches, collate, writer, show_progress, compute_loss_func=self._loss, **kwargs
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create AdamW with a learning rate for each layer."""
        if self.optimizer is None:
            model = self.model if model is None else model
            groups = parameter_groups(
                model,
                self.get_decay_parameter_names(model),
                self.args.learning_rate,
                self.args.weight_decay,
                self._layer_decay,
            )
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Run Trainer's evaluation, with the loss as the mean over reviews.

        Processes repeat some reviews to have the same number each, so Trainer's own mean would count these twice.
        """
        output: Any = super().evaluation_loop(*args, **kwargs)
        logits = torch.as_tensor(output.predictions, dtype=torch.float64)
        loss = cross_entropy(logits, torch.as_tensor(output.label_ids))
        for name in output.metrics:
            if name.endswith("_loss"):
                output.metrics[name] = float(loss)
        return output

    def _loss(self, outputs: Any, labels: Any, **_: Any) -> torch.Tensor:
        """Return the loss. In training it is the sum over reviews divided by `TrainingBatches.reviews_a_step`."""
        logits = outputs["logits"].float()
        model: Any = self.model
        if not model.training:
            return cross_entropy(logits, labels)
        summed = cross_entropy(logits, labels, reduction="sum")
        # gradients are averaged over the processes
        return summed * (self.args.world_size / self._batches.reviews_a_step)


def _trained(model: Any) -> dict[str, torch.Tensor]:
    """Return a model's state without the tensors it does not save, which need no copy."""
    unsaved = model._keys_to_ignore_on_save or ()
    return {name: t for name, t in model.state_dict().items() if name not in unsaved}


def arguments_of(
    params: TrainingParams, folder: str, use_cpu: bool, bf16: bool, steps_an_epoch: int
) -> TrainingArguments:
    """Return Trainer's arguments for a training.

    Args:
        params: the settings.
        folder: for checkpoints.
        use_cpu: use the CPU even if there is a GPU.
        bf16: train in bf16.
        steps_an_epoch: optimizer steps per epoch.
    """
    keeps_epochs = params.best_epoch_by != "last"
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=64,
        gradient_accumulation_steps=params.gradient_accumulation_steps,
        average_tokens_across_devices=False,  # the loss is scaled by the planned number of reviews
        learning_rate=params.learning_rate,
        lr_scheduler_type=_SCHEDULES[params.lr_scheduler_type],
        warmup_steps=round(params.warmup_ratio * steps_an_epoch * params.epochs),
        weight_decay=params.weight_decay,
        optim="adamw_torch_fused",
        bf16=bf16,
        use_cpu=use_cpu,
        dataloader_pin_memory=not use_cpu,
        eval_strategy="epoch",
        save_strategy="epoch" if keeps_epochs else "no",
        save_total_limit=1,
        load_best_model_at_end=keeps_epochs,
        metric_for_best_model="eval_merit",
        greater_is_better=True,
        logging_steps=10,
        logging_nan_inf_filter=False,  # do not hide a loss that is not finite
        seed=params.seed,
        report_to="none",  # Hugging Face's MLflow callback opens its own runs and leaves them RUNNING
    )
    # prevents Trainer from spreading batches over all GPUs in threads of one process
    arguments._n_gpu = min(arguments.n_gpu, 1)  # pyright: ignore[reportPrivateUsage]
    return arguments


def fit_on_validation(trainer: Trainer) -> tuple[float, int]:
    """Fit the temperature on the validation reviews with the kept weights; return it and their number."""
    trainer.compute_metrics = None
    predicted: Any = trainer.predict(trainer.eval_dataset)  # type: ignore[arg-type]
    labels = np.asarray(predicted.label_ids, dtype=np.int64)
    return fit_temperature(np.asarray(predicted.predictions), labels), len(labels)
