"""The training step: from tokens and a base model to a fine-tuned classifier, with one MLflow run."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from tasks.connectors.storage.checkpoints import CheckpointStore
from tasks.connectors.tracking.run import Run
from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.token_tables import read_tokens
from tasks.core.digests import digest_of
from tasks.core.models import classifier, devices
from tasks.core.models.params import Precision
from tasks.core.records import Reference
from tasks.core.tags import FLOW_RUN_TAG, STEP_TAG, TRIAL_TAG
from tasks.core.training import fine_tuning
from tasks.core.training.distributed import resolve_processes
from tasks.core.training.job import TrainingJob
from tasks.core.training.methods import lora
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import TrainingPruned, TrialPruner
from tasks.core.training.records import BaseModelSummary, TokensSummary, TrainingSummary
from tasks.core.training.tuning.params import TrialParams
from tasks.core.training.tuning.sweep import PrunedTraining
from tasks.runtime.clients import prepared_store
from tasks.runtime.provenance import flow_run_id
from tasks.runtime.steps import fetched, reuse_or_make, step
from tasks.training.checkpoints import kept_checkpoints, require_space, run_beside
from tasks.training.distributed.launch import fine_tune_in_processes, machines
from tasks.training.gpu_lock import acquire_gpu
from tasks.training.progress import Listener, log_training
from tasks.training.tuning.pruning import judge_of

logger = logging.getLogger(__name__)

TRAINING_VERSION = 6
# Disk usage: the base model's copy and the result; and checkpoints (the last one, the one being written before another
# is deleted, and the best one if an epoch is chosen), each with the weights and AdamW's two moments.
_BYTES_A_PARAMETER = 8
_CHECKPOINT_BYTES_A_PARAMETER = 12


@step
def find_prepared(
    tokens: str, base_model: str
) -> tuple[Reference[TokensSummary], Reference[BaseModelSummary]]:
    """Return the inputs of a training by their URIs. Raises MissingDataError if one is gone."""
    prepared = prepared_store()
    return (
        prepared.reference(tokens, TokensSummary),
        prepared.reference(base_model, BaseModelSummary),
    )


@step
def train_model(
    tokens: Reference[TokensSummary],
    base: Reference[BaseModelSummary],
    tokenization: TokenizationParams,
    params: TrainingParams,
    trial: TrialParams | None = None,
) -> Reference[TrainingSummary] | PrunedTraining:
    """Fine-tune, or reuse the model of a training with identical inputs.

    Args:
        tokens: the training data.
        base: the base model.
        tokenization: the settings that made the tokens.
        params: the settings.
        trial: the trial of a sweep, which may stop it early; then there is no model.
    Raises:
        DiskFullError: less room than checkpoints need, found before training begins.
        ModelError, SettingsError: the model or the device is unsuitable.
    """
    lora.require_package(params)
    device = devices.resolve_device(params.device)
    request = _Request(
        tokens,
        base,
        tokenization,
        params,
        trial,
        device,
        devices.resolve_precision(params.precision, device),
        resolve_processes(params.processes, device),
    )
    inputs = request.inputs()
    digest = digest_of(inputs)

    def make(folder: Path) -> TrainingSummary:
        checkpoints = 2 if params.best_epoch_by == "last" else 3
        each = _BYTES_A_PARAMETER + checkpoints * _CHECKPOINT_BYTES_A_PARAMETER
        require_space(folder, base.summary.parameters * each)
        with kept_checkpoints(digest) as keeper:
            return _train(request, keeper, folder)

    try:
        result = reuse_or_make("model", inputs, TrainingSummary, make)
    except _LeavesNoModelError as nothing:
        result = nothing.pruned
    with kept_checkpoints(digest) as keeper:
        keeper.remove_all()
    if isinstance(result, PrunedTraining):
        logger.info("Training stopped early after epoch %s: %s", result.epochs, result.validation)
    else:
        log_training(result.summary)
    return result


def training_inputs(
    tokens: Reference[TokensSummary],
    base: Reference[BaseModelSummary],
    params: TrainingParams,
) -> dict[str, Any]:
    """Return the part of a training's inputs that does not depend on the machine it runs on."""
    return {
        "version": TRAINING_VERSION,
        "tokens": tokens.digest,
        "base_model": base.digest,
        "training": params.identity(),
    }


@dataclass(frozen=True)
class _Request:
    """A training as requested, and the device it runs on."""

    tokens: Reference[TokensSummary]
    base: Reference[BaseModelSummary]
    tokenization: TokenizationParams
    params: TrainingParams
    trial: TrialParams | None
    device: torch.device
    precision: Precision
    processes: int

    def inputs(self) -> dict[str, Any]:
        """Everything that the weights depend on."""
        return {
            **training_inputs(self.tokens, self.base, self.params),
            "device": self.device.type,
            "precision": self.precision,
            "processes": self.processes * machines(),
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
        }

    def name(self) -> str:
        """The name of its MLflow run."""
        model = self.base.summary.name.rsplit("/", 1)[-1]
        return f"{model}-{self.tokens.summary.rows['train']}-reviews"

    def settings(self) -> dict[str, Any]:
        """The parameters logged to its MLflow run."""
        facts = {
            "data": self.tokens.digest,
            "base": self.base.summary.name,
            "revision": self.base.summary.revision,
        }
        return self.params.model_dump() | self.tokenization.model_dump() | facts

    def tags(self) -> dict[str, str]:
        """The tags by which its MLflow run is found."""
        tags = {STEP_TAG: "train", FLOW_RUN_TAG: flow_run_id()}
        if self.trial:
            tags[TRIAL_TAG] = f"{self.trial.study}/{self.trial.number}"
        return tags


def _train(request: _Request, keeper: CheckpointStore, folder: Path) -> TrainingSummary:
    """Train, with an MLflow run, and write the model to a folder."""
    pruned: PrunedTraining | None = None
    with run_beside(keeper, request.name(), request.settings(), request.tags()) as run:
        try:
            with acquire_gpu(request.device, request.processes), judge_of(request.trial) as judge:
                trained = _fit(request, run, keeper, judge)
            classifier.save(trained.classifier, folder)
            base, tokens = request.base.summary, request.tokens.summary
            return TrainingSummary(
                base_model=base.name,
                base_revision=base.revision,
                label_names=tokens.label_names,
                train_rows=tokens.rows["train"],
                validation=trained.validation,
                mlflow_run_id=run.id,
                **trained.facts,
            )
        except TrainingPruned as stopped:  # its run in MLflow did not fail
            pruned = PrunedTraining(mlflow_run_id=run.id, **vars(stopped))
    raise _LeavesNoModelError(pruned)


def _fit(
    request: _Request, run: Run, keeper: CheckpointStore, judge: TrialPruner | None
) -> fine_tuning.Trained:
    """Fetch the inputs, and train in the requested number of processes."""
    tokens, listener = request.tokens, Listener(run)
    with fetched(request.base) as model, fetched(tokens) as data:
        work = data / "checkpoints"
        job = TrainingJob(
            base_folder=model,
            label_names=tokens.summary.label_names,
            tokenization=request.tokenization,
            params=request.params,
        )
        if request.processes * machines() > 1:
            return fine_tune_in_processes(
                request.processes, job, data, work, listener, keeper, judge
            )
        train, validation = read_tokens(data, ("train", "validation"))
        return fine_tuning.fine_tune(
            job,
            train,
            validation,
            work,
            listener,
            keeper,
            show_progress=sys.stderr.isatty(),
            judge=judge,
        )


class _LeavesNoModelError(Exception):
    """Carries the result of a pruned training past the step that would commit its model."""

    def __init__(self, pruned: PrunedTraining) -> None:
        super().__init__(pruned)
        self.pruned = pruned
