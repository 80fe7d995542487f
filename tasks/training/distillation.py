"""Teacher logits: the logits of a registered version for every training review, computed once for all students.

They depend only on the teacher's weights and the training rows, so trainings with another student, seed or setting
reuse them. The texts are tokenized as in the teacher's own training, whatever the student does.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from numpy.typing import NDArray

from tasks.core.data import tables
from tasks.core.data.labels import index_of
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.decision import predict_labels
from tasks.core.engines import registry
from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.errors import ModelError, SettingsError
from tasks.core.models import classifier as modeling
from tasks.core.models import devices
from tasks.core.records import ModelVersion, Record, Reference, SplitSummary
from tasks.core.tags import TEST_DIGEST_TAG
from tasks.core.training.methods.distillation import TEACHER_LOGITS
from tasks.core.training.params import DistillationParams
from tasks.core.training.records import TeacherLogitsSummary, TokensSummary
from tasks.registry.champion import pin_version
from tasks.registry.models import digest_of_model
from tasks.runtime.clients import model_registry, prepared_store
from tasks.runtime.reporting.progress import ProgressMeter
from tasks.runtime.steps import fetched, reuse_or_make, step, work_folder

logger = logging.getLogger(__name__)

TEACHER_LOGITS_VERSION = 2
_FILE = "lessons.parquet"
_WINDOW = 1024  # reviews among which batches are planned


class DistillationInputs(Record):
    """Teacher logits, and their weight in a student's training."""

    teacher_logits: Reference[TeacherLogitsSummary]
    params: DistillationParams

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that a student's weights depend on; the alias that named the teacher is not one."""
        params = self.params.identity(include={"weight", "temperature"})
        return {"lessons": self.teacher_logits.digest, "distillation": params}

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for the page of the training's run."""
        settings = {f"distillation_{name}": v for name, v in self.inputs["distillation"].items()}
        return {
            "teacher": self.teacher_logits.summary.teacher,
            "lessons": self.teacher_logits.digest,
            **settings,
        }


def pin_teacher(params: DistillationParams) -> ModelVersion | None:
    """Pin the teacher's version for this run, even if its alias moves; None if there is no teacher.

    Raises:
        ModelError: there is no such version.
    """
    if not params.is_on:
        return None
    name, _, alias_or_version = params.teacher.partition("/")
    return pin_version(name, alias_or_version)


@step
def write_teacher_logits(
    teacher: ModelVersion, split: Reference[SplitSummary]
) -> Reference[TeacherLogitsSummary]:
    """Compute the teacher's logits for every training row, in the order of the rows and of the split's labels.

    Raises:
        ModelError: the teacher has different labels, or cannot be loaded.
    """
    device = devices.resolve_device("auto")
    inputs = {
        "version": TEACHER_LOGITS_VERSION,
        "teacher": digest_of_model(teacher),
        "rows": split.summary.train_digest,
        "label_names": split.summary.label_names,
        "run_as": [device.type, devices.resolve_precision("auto", device)],
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
    }
    _warn_of_other_test_set(teacher, split)

    def make(folder: Path) -> TeacherLogitsSummary:
        with _opened(teacher, split.summary.label_names) as (encoder, engine, columns):
            with fetched(split, "train.parquet") as rows:
                reviews = tables.read_labelled(rows / "train.parquet")
            logits = _compute_logits(encoder, engine, [r.text for r in reviews])[:, columns]
        _write(folder / _FILE, logits)
        right = predict_labels(logits) == np.array([r.label for r in reviews])
        return TeacherLogitsSummary(
            teacher=f"{teacher.name}/{teacher.version}",
            label_names=split.summary.label_names,
            rows=len(reviews),
            agreement=round(float(right.mean()), 4),
        )

    teacher_logits = reuse_or_make("lessons", inputs, TeacherLogitsSummary, make)
    logger.info(
        "Distillation: %s agrees with the labels of %.1f%% of %s training reviews",
        teacher,
        100 * teacher_logits.summary.agreement,
        f"{teacher_logits.summary.rows:,}",
    )
    return teacher_logits


@step
def find_teacher_logits(
    uri: str, tokens: Reference[TokensSummary]
) -> Reference[TeacherLogitsSummary]:
    """Return the teacher's logits at a URI.

    Raises:
        MissingDataError: they are gone.
        SettingsError: they belong to other reviews than the tokens.
    """
    prepared = prepared_store()
    teacher_logits = prepared.reference(uri, TeacherLogitsSummary)
    manifests = map(prepared.read, (uri, tokens.uri))
    row_digests = [manifest.inputs.get("rows") for manifest in manifests if manifest]
    if len(set(row_digests)) != 1:
        raise SettingsError(
            "The teacher's logits and the tokens belong to different reviews",
            "teacher_logits",
            "run retrain",
        )
    return teacher_logits


def add_teacher_logits(data: Path, teacher_logits: Reference[TeacherLogitsSummary]) -> None:
    """Add the column `teacher_logits` to the training rows of a folder, `train.parquet`."""
    with fetched(teacher_logits, _FILE) as folder:
        logits = pq.read_table(folder / _FILE).column(TEACHER_LOGITS)
        rows = pq.read_table(data / "train.parquet").append_column(TEACHER_LOGITS, logits)
    pq.write_table(rows, data / "train.parquet", compression="zstd")


@contextmanager
def _opened(
    teacher: ModelVersion, label_names: list[str]
) -> Generator[tuple[Encoder, Engine, list[int]]]:
    """Yield the teacher's tokenizer, an engine that runs it, and the index of its column for each label."""
    with work_folder("teacher") as folder:
        model_folder = model_registry().download(teacher, folder)
        classifier = modeling.load(model_folder)
        columns = [index_of(name, classifier.label_names) for name in label_names]
        indices = [column for column in columns if column is not None]
        if len(set(indices)) < max(len(label_names), len(classifier.label_names)):
            raise ModelError(
                f"The teacher, {teacher}, has the labels {', '.join(classifier.label_names)}, but the reviews have "
                f"{', '.join(label_names)}",
                "distillation.teacher",
                "choose a teacher with the same labels, or set data.source.label_names",
            )
        encoder = classifier.encoder
        yield (
            encoder,
            registry.open_engine(registry.TORCH, classifier, model_folder, EngineOptions()),
            indices,
        )


def _compute_logits(encoder: Encoder, engine: Engine, texts: list[str]) -> NDArray[np.float32]:
    """Compute logits of texts, shape (rows, classes), with a bar on the run's page and lines in the log."""
    meter = ProgressMeter("reviews scored by the teacher", len(texts), "lessons-progress")
    parts = [np.empty((0, len(engine.label_names)), dtype=np.float32)]
    for start in range(0, len(texts), _WINDOW):
        window = texts[start : start + _WINDOW]
        parts.append(engine.logits(encoder.encode(window).input_ids))
        meter.add(len(window), done=len(window))
    return np.concatenate(parts)


def _write(path: Path, logits: NDArray[np.float32]) -> None:
    column = pa.array(list(logits), pa.list_(pa.float32()))
    pq.write_table(pa.table({TEACHER_LOGITS: column}), path, compression="zstd")


def _warn_of_other_test_set(teacher: ModelVersion, split: Reference[SplitSummary]) -> None:
    test_digest = model_registry().tags_of(teacher).get(TEST_DIGEST_TAG)
    if test_digest != split.summary.test_digest:
        logger.warning(
            "The teacher, %s, was evaluated on another test set. If it was trained on reviews of this one, the student "
            "will be more accurate on them than on new reviews",
            teacher,
        )
