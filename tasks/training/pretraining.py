"""The step that pre-trains a base model further: from tokens and a base model to a base model, with an MLflow run."""

import logging
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from tasks.connectors.storage.checkpoints import CheckpointStore
from tasks.core.data.tokens.token_tables import read_tokens
from tasks.core.digests import digest_of
from tasks.core.models import devices, folders
from tasks.core.records import Reference
from tasks.core.tags import FLOW_RUN_TAG, STEP_TAG
from tasks.core.training.params import TrainingParams
from tasks.core.training.pretraining.loop import PretrainingJob, pretrain
from tasks.core.training.pretraining.params import PretrainingParams
from tasks.core.training.records import (
    BaseModelSummary,
    PretrainingSummary,
    PretrainingTokensSummary,
)
from tasks.runtime.clients import prepared_store
from tasks.runtime.provenance import flow_run_id
from tasks.runtime.steps import fetched, reuse_or_make, step
from tasks.training.checkpoints import kept_checkpoints, require_space, run_beside
from tasks.training.gpu_lock import acquire_gpu
from tasks.training.progress import Listener

logger = logging.getLogger(__name__)

PRETRAINING_VERSION = 2
# Disk usage: copies of the base model, and the result; and two checkpoints (the last one, and the one being written
# before it is deleted), each with the weights and AdamW's two moments.
_BYTES_A_PARAMETER = 12 + 2 * 12
_ROW_FIELDS = {"location", "text_column", "limit_rows"}  # part of the tokens' digest


@step
def find_pretraining(
    tokens: str, base_model: str
) -> tuple[Reference[PretrainingTokensSummary], Reference[BaseModelSummary]]:
    """Return the inputs of a pre-training by their URIs. Raises MissingDataError if one is gone."""
    prepared = prepared_store()
    return (
        prepared.reference(tokens, PretrainingTokensSummary),
        prepared.reference(base_model, BaseModelSummary),
    )


@step
def pretrain_base_model(
    tokens: Reference[PretrainingTokensSummary],
    base: Reference[BaseModelSummary],
    training: TrainingParams,
    params: PretrainingParams,
) -> Reference[BaseModelSummary]:
    """Pre-train a base model further, or reuse the result for identical inputs.

    Args:
        tokens: the training data.
        base: the base model.
        training: the device, the precision, and whether checkpoints are written.
        params: the settings.
    Raises:
        DiskFullError: less room than it needs, found before it begins.
        ModelError, SettingsError: the model or the device is unsuitable.
    """
    device = devices.resolve_device(training.device)
    precision = devices.resolve_precision(training.precision, device)
    inputs = {
        **pretraining_inputs(tokens, base, params),
        "device": device.type,
        "precision": precision,
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
    }
    digest = digest_of(inputs)

    def make(folder: Path) -> BaseModelSummary:
        require_space(folder, base.summary.parameters * _BYTES_A_PARAMETER)
        with kept_checkpoints(digest) as keeper:
            done = _pretrained(folder, tokens, base, training, params, keeper)
        return BaseModelSummary(
            name=f"{base.summary.name}+pretraining",
            revision=f"{base.summary.revision}+{digest[:12]}",
            architecture=base.summary.architecture,
            parameters=folders.parameters(folder),
            pretraining=done,
        )

    reference = reuse_or_make("pretrained-base", inputs, BaseModelSummary, make)
    with kept_checkpoints(digest) as keeper:
        keeper.remove_all()
    log_pretraining(reference.summary)
    return reference


def pretraining_inputs(
    tokens: Reference[PretrainingTokensSummary],
    base: Reference[BaseModelSummary],
    params: PretrainingParams,
) -> dict[str, Any]:
    """Return the part of a pre-training's inputs that does not depend on the machine it runs on."""
    return {
        "version": PRETRAINING_VERSION,
        "base_model": base.digest,
        "pretraining_tokens": tokens.digest,
        "pretraining": params.identity(exclude=_ROW_FIELDS),
    }


def log_pretraining(summary: BaseModelSummary) -> None:
    """Log one line about a pre-training; also used by the run that requested it."""
    if done := summary.pretraining:
        logger.info(
            "Pre-trained %s on %s reviews in %.0f s (%s on %s): held-out loss %.4f, before %.4f",
            summary.name,
            f"{done.reviews:,}",
            done.seconds,
            done.precision,
            done.device,
            done.held_out_losses[-1],
            done.held_out_losses[0],
        )


def _pretrained(
    folder: Path,
    tokens: Reference[PretrainingTokensSummary],
    base: Reference[BaseModelSummary],
    training: TrainingParams,
    params: PretrainingParams,
    keeper: CheckpointStore,
) -> PretrainingSummary:
    """Pre-train, with an MLflow run, and write the base model to a folder."""
    device = devices.resolve_device(training.device)
    facts = {
        "data": tokens.digest,
        "base": base.summary.name,
        "revision": base.summary.revision,
    }
    tags = {STEP_TAG: "pretrain", FLOW_RUN_TAG: flow_run_id()}
    name = f"{base.summary.name}+pretraining".rsplit("/", 1)[-1]
    with (
        run_beside(keeper, name, params.model_dump(exclude=_ROW_FIELDS) | facts, tags) as run,
        acquire_gpu(device),
        fetched(base) as model,
        fetched(tokens) as data,
    ):
        train, held_out = read_tokens(data, ("train", "held_out"))
        done = pretrain(
            PretrainingJob(
                model,
                base.summary.name,
                params,
                device,
                devices.resolve_precision(training.precision, device),
                training.background_checkpoints,
            ),
            train,
            held_out,
            data / "work",
            folder,
            Listener(run, "Pre-training", "pretraining-progress"),
            keeper,
            show_progress=sys.stderr.isatty(),
        )
    return PretrainingSummary(
        base_revision=base.summary.revision,
        reviews=tokens.summary.rows["train"],
        epochs=params.epochs,
        mlflow_run_id=run.id,
        **done,
    )
