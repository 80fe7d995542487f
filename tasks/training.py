"""The training step: tokens and a base model in, a fine-tuned classifier out, one MLflow run beside it."""

import logging
import sys
import time
from pathlib import Path

import torch
import transformers
from datasets import Dataset

from tasks.connect import model_registry, prepared_store
from tasks.connectors.checkpoints import CheckpointStore
from tasks.connectors.prepared import free_bytes
from tasks.connectors.tracked_runs import Run
from tasks.core import adapters, modeling, training
from tasks.core.digests import digest_of
from tasks.core.errors import DiskFullError
from tasks.core.records import BaseModelSummary, Reference, TokensSummary, TrainingSummary
from tasks.core.sweep import PrunedTraining, TrialParams
from tasks.core.tokenization import TokenizationParams
from tasks.core.training import TrainingParams
from tasks.core.training_hooks import EpochJudge, TrainingPruned
from tasks.core.training_ranks import resolve_processes
from tasks.distributed_training import fine_tune_in_processes, machines
from tasks.gpu_turns import turn_on
from tasks.provenance import flow_run_id
from tasks.pruning import judge_of
from tasks.reports import Progress
from tasks.settings import read_settings
from tasks.steps import fetched, reuse_or_make, step, work_folder
from tasks.teaching import Taught, add_lessons
from tasks.tidying import FLOW_RUN_TAG

logger = logging.getLogger(__name__)

TRAINING_VERSION = 4
TEACHER_TAG = "nightshift.teacher"
# On disk: the base model's copy and the result; and three checkpoints (the best, the last, and the one being written
# before another is deleted), each of weights and AdamW's two moments.
_BYTES_A_PARAMETER = 8
_CHECKPOINT_BYTES_A_PARAMETER = 3 * 12
_SECONDS_A_LINE = 60.0
_BEGUN = "%s is under way: step"
BEGUN = _BEGUN % "Training"


@step
def find_prepared(
    tokens: str, base_model: str
) -> tuple[Reference[TokensSummary], Reference[BaseModelSummary]]:
    """What a training needs, by where it lies. Raises MissingDataError where it is gone."""
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
    taught: Taught | None = None,
) -> Reference[TrainingSummary] | PrunedTraining:
    """Fine-tune, unless exactly this has been done before.

    Args:
        tokens: what it is trained on.
        base: what it starts from.
        tokenization: how the tokens were made.
        params: the settings.
        trial: of a sweep, which may stop it early; then there is no model.
        taught: what a teacher says of the training rows; None: there is no teacher.
    Raises:
        DiskFullError: less room than checkpoints need, found before training begins.
        ModelError, SettingsError: the model or the device will not do.
    """
    adapters.require_package(params)
    device = modeling.resolve_device(params.device)
    precision = modeling.resolve_precision(params.precision, device)
    processes = resolve_processes(params.processes, device)
    inputs = {
        "version": TRAINING_VERSION,
        "tokens": tokens.digest,
        "base_model": base.digest,
        "training": params.identity(),
        "device": device.type,
        "precision": precision,
        "processes": processes * machines(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        **(taught.inputs if taught else {}),
    }

    digest = digest_of(inputs)

    def make(folder: Path) -> TrainingSummary:
        checkpoints = 0 if params.best_epoch_by == "last" else _CHECKPOINT_BYTES_A_PARAMETER
        require_space(folder, base.summary.parameters * (_BYTES_A_PARAMETER + checkpoints))
        facts = {
            "data": tokens.digest,
            "base": base.summary.name,
            "revision": base.summary.revision,
            **(taught.facts if taught else {}),
        }
        settings = params.model_dump() | tokenization.model_dump() | facts
        rows = tokens.summary.rows["train"]
        name = f"{base.summary.name.rsplit('/', 1)[-1]}-{rows}-reviews"
        tags = {"nightshift.step": "train", FLOW_RUN_TAG: flow_run_id()}
        if taught:
            tags[TEACHER_TAG] = taught.lessons.summary.teacher
        if trial:
            tags["nightshift.trial"] = f"{trial.study}/{trial.number}"
        pruned: PrunedTraining | None = None
        with work_folder("checkpoints") as copies, _checkpoints(digest, copies) as keeper:
            before = keeper.newest()
            died = before.mlflow_run_id if before else None
            with model_registry().run(name, settings, tags, go_on_with=died) as run:
                keeper.mlflow_run_id = run.id
                try:
                    with turn_on(device, processes), judge_of(trial) as judge:
                        return _train(
                            folder,
                            tokens,
                            base,
                            tokenization,
                            params,
                            processes,
                            run,
                            keeper,
                            judge,
                            taught,
                        )
                except TrainingPruned as stopped:  # its run in MLflow did not fail
                    pruned = PrunedTraining(mlflow_run_id=run.id, **vars(stopped))
        raise _LeavesNoModelError(pruned)

    try:
        result = reuse_or_make("model", inputs, TrainingSummary, make)
    except _LeavesNoModelError as nothing:
        result = nothing.pruned
    with work_folder("checkpoints") as unused, _checkpoints(digest, unused) as keeper:
        keeper.remove_all()
    if isinstance(result, PrunedTraining):
        logger.info("Stopped after epoch %s: %s", result.epochs, result.validation)
    else:
        say_trained(result.summary)
    return result


class _LeavesNoModelError(Exception):
    """Passes a pruned training by the step that would commit its model."""

    def __init__(self, pruned: PrunedTraining) -> None:
        super().__init__(pruned)
        self.pruned = pruned


def say_trained(summary: TrainingSummary) -> None:
    """One line on how a training went; for the page of the run that asked for it, too."""
    logger.info(
        "Trained %s on %s reviews in %.0f s (%.1f reviews/s, %s on %s): validation accuracy %.4f, best of epoch %g",
        summary.base_model,
        f"{summary.train_rows:,}",
        summary.seconds,
        summary.reviews_per_second,
        summary.precision,
        summary.device,
        summary.validation["accuracy"],
        summary.best_epoch,
    )


def _checkpoints(digest: str, folder: Path) -> CheckpointStore:
    return CheckpointStore(prepared_store(), digest, folder, read_settings().checkpoint_seconds)


def _train(
    folder: Path,
    tokens: Reference[TokensSummary],
    base: Reference[BaseModelSummary],
    tokenization: TokenizationParams,
    params: TrainingParams,
    processes: int,
    run: Run,
    keeper: CheckpointStore,
    judge: EpochJudge | None,
    taught: Taught | None,
) -> TrainingSummary:
    labels, listener = tokens.summary.label_names, Listener(run)
    with fetched(base.uri) as model, fetched(tokens.uri) as data:
        work = data / "checkpoints"
        distillation = taught.params if taught else None
        if taught:
            add_lessons(data, taught.lessons)
        if processes * machines() > 1:
            trained = fine_tune_in_processes(
                processes,
                model,
                labels,
                data,
                tokenization,
                params,
                work,
                listener,
                keeper,
                judge,
                distillation,
            )
        else:
            trained = training.fine_tune(
                model,
                labels,
                *_read(data),
                tokenization,
                params,
                work,
                listener,
                keeper,
                show_progress=sys.stderr.isatty(),
                judge=judge,
                distillation=distillation,
            )
    modeling.save(trained.classifier, folder)
    return TrainingSummary(
        base_model=base.summary.name,
        base_revision=base.summary.revision,
        label_names=tokens.summary.label_names,
        train_rows=tokens.summary.rows["train"],
        validation=trained.validation,
        mlflow_run_id=run.id,
        teacher=taught.lessons.summary.teacher if taught else "",
        **trained.facts,
    )


def _read(data: Path) -> tuple[Dataset, Dataset]:
    train, validation = (
        Dataset.from_parquet(
            str(data / f"{name}.parquet"), cache_dir=str(data / "cache"), keep_in_memory=True
        )
        for name in ("train", "validation")
    )
    return train, validation


class Listener:
    """Metrics to MLflow, progress to the run's page, a line an epoch and a line a minute to the log.

    Args:
        run: in MLflow.
        what: is under way, for people.
        key: of the progress bar.
    """

    def __init__(self, run: Run, what: str = "Training", key: str = "training-progress") -> None:
        self._run, self._what = run, what
        self._progress = Progress(key, f"{what} steps")
        self._first: int | None = None
        self._started = self._spoken = time.monotonic()

    def on_step(self, step: int, total_steps: int) -> None:
        if self._first is None:
            self._first = step
            logger.info(f"{_BEGUN} %s of %s", self._what, step, total_steps)
        self._progress.at(step, total_steps)
        now = time.monotonic()
        if now - self._spoken >= _SECONDS_A_LINE:
            self._spoken = now
            done = step - self._first + 1  # a training that goes on does not begin at 1
            left = (now - self._started) / done * (total_steps - step) / 60
            logger.info("Step %s of %s, about %.0f minutes to go", step, total_steps, left)

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step)
        if "validation_loss" in metrics:
            self._run.send()  # so that the chart of a long training grows with it
            measured = [f"validation loss {metrics['validation_loss']:.4f}"]
            if "validation_accuracy" in metrics:  # of a classifier
                measured.append(f"accuracy {metrics['validation_accuracy']:.4f}")
            logger.info("Step %s: %s", step, ", ".join(measured))


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises DiskFullError when a folder's disk has less room than that."""
    free = free_bytes(folder)
    if free < needed_bytes:
        raise DiskFullError(
            f"{free / 1e9:.1f} GB are free, and training needs {needed_bytes / 1e9:.1f} GB for checkpoints",
            str(folder),
            "free some space, or set TMPDIR to a larger disk",
        )
