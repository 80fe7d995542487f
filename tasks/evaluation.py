"""Evaluation steps: the fine-tuned model, the baseline and the champion, all on the same test rows."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sklearn
from numpy.typing import NDArray

from tasks.connect import model_registry
from tasks.core import baseline, gate, metrics, modeling, plots, tables
from tasks.core.engine import TorchEngine, softmax
from tasks.core.errors import ModelError
from tasks.core.gate import GateParams, Verdict
from tasks.core.metrics import EvaluationParams
from tasks.core.records import (
    EvaluationSummary,
    ModelVersion,
    Reference,
    SplitSummary,
    TrainingSummary,
)
from tasks.core.validation import LabelledReview
from tasks.reports import Progress
from tasks.steps import fetched, reuse_or_make, step, work_folder

logger = logging.getLogger(__name__)

EVALUATION_VERSION = 1
BASELINE_VERSION = 1
_WINDOW = 512

Evaluation = Reference[EvaluationSummary]
Probabilities = NDArray[np.float64]


@step
def evaluate_model(
    model: Reference[TrainingSummary], split: Reference[SplitSummary], params: EvaluationParams
) -> Evaluation:
    """Judge a fine-tuned model on the test set; reused where the same model met the same rows before."""

    def predict(reviews: list[LabelledReview]) -> Probabilities:
        with fetched(model.uri) as folder:
            return _predict(folder, reviews, split.summary.label_names)

    return _evaluate(model.summary.base_model, {"model": model.digest}, split, params, predict)


@step
def evaluate_champion(
    champion: ModelVersion, split: Reference[SplitSummary], params: EvaluationParams
) -> Evaluation:
    """Judge a registered version on the test set, as `evaluate_model` does.

    Raises:
        ModelError: it has other labels, or cannot be loaded.
    """

    def predict(reviews: list[LabelledReview]) -> Probabilities:
        with work_folder("champion") as folder:
            return _predict(
                model_registry().download(champion, folder), reviews, split.summary.label_names
            )

    identity = {"model": champion.model_digest or str(champion)}
    return _evaluate(str(champion), identity, split, params, predict)


@step
def evaluate_baseline(split: Reference[SplitSummary], params: EvaluationParams) -> Evaluation:
    """Train and judge TF-IDF + logistic regression on the same rows."""

    def predict(reviews: list[LabelledReview]) -> Probabilities:
        with fetched(split.uri, "train.parquet") as folder:
            train = tables.read_labelled(folder / "train.parquet")
        return baseline.predict(
            [r.text for r in train],
            np.array([r.label for r in train], dtype=np.int64),
            [r.text for r in reviews],
            len(split.summary.label_names),
        )

    identity = {
        "baseline": BASELINE_VERSION,
        "train": split.summary.train_digest,
        "scikit-learn": sklearn.__version__,
    }
    return _evaluate(baseline.NAME, identity, split, params, predict)


def _predict(folder: Path, reviews: list[LabelledReview], label_names: list[str]) -> Probabilities:
    classifier = modeling.load(folder)
    if classifier.label_names != label_names:
        raise ModelError(
            f"The model's labels are {', '.join(classifier.label_names)}, and the test set's are "
            f"{', '.join(label_names)}",
            "",
            "register under another registration.model_name, or set data.source.label_names",
        )
    engine = TorchEngine(classifier)
    progress = Progress("evaluation-progress", "Test reviews scored")
    parts: list[Probabilities] = []
    for start in range(0, len(reviews), _WINDOW):
        texts = [r.text for r in reviews[start : start + _WINDOW]]
        parts.append(softmax(engine.logits(classifier.encoder.encode(texts).input_ids)))
        progress.at(start + len(texts), len(reviews))
    return np.concatenate(parts)


def _evaluate(
    name: str,
    identity: Mapping[str, object],
    split: Reference[SplitSummary],
    params: EvaluationParams,
    predict: Callable[[list[LabelledReview]], Probabilities],
) -> Evaluation:
    inputs = {
        "version": EVALUATION_VERSION,
        "test": split.summary.test_digest,
        "label_names": split.summary.label_names,
        "evaluation": params.model_dump(),
        **identity,
    }

    def make(folder: Path) -> EvaluationSummary:
        with fetched(split.uri, "test.parquet") as source:
            reviews = tables.read_labelled(source / "test.parquet")
        started = time.perf_counter()
        probabilities = predict(reviews)
        seconds = time.perf_counter() - started
        labels = np.array([r.label for r in reviews], dtype=np.int64)
        names = split.summary.label_names
        _write_predictions(folder / "predictions.parquet", labels, probabilities)
        plots.draw_all(folder, labels, probabilities, names, name, params.calibration_bins)
        confusion = metrics.confusion_matrix(labels, probabilities.argmax(axis=1), len(names))
        return EvaluationSummary(
            model=name,
            label_names=names,
            test_digest=split.summary.test_digest,
            rows=len(reviews),
            metrics=metrics.evaluate(labels, probabilities, params),
            confusion=confusion.tolist(),
            seconds=round(seconds, 2),
        )

    reference = reuse_or_make("evaluation", inputs, EvaluationSummary, make)
    measured = ", ".join(f"{key} {value}" for key, value in reference.summary.metrics.items())
    logger.info("%s on %s test reviews: %s", name, f"{reference.summary.rows:,}", measured)
    return reference


def _write_predictions(path: Path, labels: NDArray[np.int64], probabilities: Probabilities) -> None:
    table = pa.table(
        {"label": labels, "probabilities": pa.array(probabilities.tolist(), pa.list_(pa.float64()))}
    )
    pq.write_table(table, path, compression="zstd")


def right_answers(evaluation: Evaluation) -> NDArray[np.bool_]:
    """Which test rows a model got right, shape (rows,)."""
    with fetched(evaluation.uri, "predictions.parquet") as folder:
        table = pq.read_table(folder / "predictions.parquet")
    probabilities = np.array(table["probabilities"].to_pylist())
    return np.asarray(probabilities.argmax(axis=1) == table["label"].to_numpy())


@step
def judge(
    candidate: Evaluation,
    baseline_evaluation: Evaluation,
    champion: ModelVersion | None,
    split: Reference[SplitSummary],
    params: GateParams,
    evaluation: EvaluationParams,
) -> Verdict:
    """Apply the gate: against the baseline, and against the champion on the same rows."""
    champion_right: NDArray[np.bool_] | None = None
    incomparable = ""
    if champion is not None:
        try:
            champion_right = right_answers(evaluate_champion.fn(champion, split, evaluation))
        except ModelError as error:
            incomparable = f"{champion} cannot be compared: {error}"
    verdict = gate.decide(
        right_answers(candidate),
        right_answers(baseline_evaluation),
        champion_right,
        params,
        evaluation,
        str(champion or ""),
        incomparable,
    )
    log = logger.info if verdict.promote else logger.warning
    log("Gate: %s", verdict)
    return verdict
