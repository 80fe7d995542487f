"""Evaluation steps: the fine-tuned model, the baseline and the champion, all on the same frozen test rows.

Predictions depend only on the model and the test set, and are kept under the digests of both: a champion is scored once
per test set, and a new test set causes every model to be scored again.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sklearn
from numpy.typing import NDArray

from tasks.core.data import tables
from tasks.core.data.labels import scale_of
from tasks.core.data.usable_rows import LabelledReview
from tasks.core.decision import log_costs, predict_labels, with_costs
from tasks.core.engines.protocol import Engine, softmax
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.evaluation import metrics
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.evaluation.records import EvaluationSummary
from tasks.core.models.classifier import Classifier
from tasks.core.models.devices import resolve_device, resolve_precision
from tasks.core.models.linear import tfidf
from tasks.core.records import Reference, SplitSummary
from tasks.data.test_set import read_test_set
from tasks.registry.models import JudgedModel, digest_of_model, name_of, opened
from tasks.runtime.reporting.artifacts import Progress
from tasks.runtime.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

EVALUATION_VERSION = 4
BASELINE_VERSION = 1
_WINDOW = 512
_CLASS_COSTS = b"class_costs"  # key of the metadata of predictions.parquet

Evaluation = Reference[EvaluationSummary]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for the test rows, in order.

    Attributes:
        labels: true class ids, shape (rows,).
        probabilities: as scoring writes them, shape (rows, classes).
        uncalibrated: the probabilities before temperature scaling; None for a model without a temperature.
        class_costs: of the model; empty: none.
    """

    labels: NDArray[np.int64]
    probabilities: Probabilities
    uncalibrated: Probabilities | None
    class_costs: Sequence[float] = ()

    @property
    def answers(self) -> Probabilities:
        """The probabilities times the class costs, shape (rows, classes): the largest is the label."""
        return with_costs(self.probabilities, self.class_costs)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted class ids, shape (rows,)."""
        return predict_labels(self.answers)


@dataclass(frozen=True)
class _Output:
    """A model's output, without the true labels."""

    probabilities: Probabilities
    uncalibrated: Probabilities | None = None
    temperature: float = 1.0
    class_costs: Sequence[float] = ()


@step
def evaluate_model(
    model: JudgedModel, split: Reference[SplitSummary], params: EvaluationParams
) -> Evaluation:
    """Evaluate a trained model or a registered version on the test set, or reuse its result on the same rows.

    Raises:
        ModelError: it has different labels, or cannot be loaded.
    """

    def answer(reviews: list[LabelledReview]) -> _Output:
        with opened(model, split.summary.label_names) as classifier:
            logits = logits_of(classifier, [r.text for r in reviews], "Test reviews scored")
        temperature, costs = classifier.temperature, classifier.class_costs
        if costs:
            logits = logits - log_costs(costs)
        return _Output(softmax(logits), softmax(logits * temperature), temperature, costs)

    device = resolve_device("auto")
    identity = {
        "model": digest_of_model(model),
        "run_as": [device.type, resolve_precision("auto", device)],
    }
    return _evaluate(name_of(model), identity, split, params, answer)


@step
def evaluate_baseline(
    split: Reference[SplitSummary], params: EvaluationParams, class_costs: Sequence[float] = ()
) -> Evaluation:
    """Train TF-IDF + logistic regression, and evaluate it on the same rows, with the same class costs."""

    def answer(reviews: list[LabelledReview]) -> _Output:
        with fetched(split, "train.parquet") as folder:
            train = tables.read_labelled(folder / "train.parquet")
        probabilities = tfidf.predict(
            [r.text for r in train],
            np.array([r.label for r in train], dtype=np.int64),
            [r.text for r in reviews],
            len(split.summary.label_names),
        )
        return _Output(probabilities, class_costs=class_costs)

    identity = {
        "baseline": BASELINE_VERSION,
        "train": split.summary.train_digest,
        "scikit-learn": sklearn.__version__,
        **({"class_costs": list(class_costs)} if class_costs else {}),
    }
    return _evaluate(tfidf.NAME, identity, split, params, answer)


def logits_of(
    classifier: Classifier, texts: Sequence[str], progress: str = "", by: Engine | None = None
) -> NDArray[np.float32]:
    """Compute logits of texts, shape (rows, classes), as scoring computes them.

    Args:
        classifier: the classifier whose tokenization is used.
        texts: the texts, in order.
        progress: name of the bar on the run's page; empty for no bar.
        by: an engine of the model; None for torch.
    """
    engine = by or TorchEngine(classifier)
    bar = Progress(progress.lower().replace(" ", "-"), progress) if progress else None
    parts = [np.empty((0, len(classifier.label_names)), dtype=np.float32)]
    for start in range(0, len(texts), _WINDOW):
        window = texts[start : start + _WINDOW]
        parts.append(engine.logits(classifier.encoder.encode(window).input_ids))
        if bar:
            bar.at(start + len(window), len(texts))
    return np.concatenate(parts)


def _evaluate(
    name: str,
    identity: Mapping[str, object],
    split: Reference[SplitSummary],
    params: EvaluationParams,
    answer: Callable[[list[LabelledReview]], _Output],
) -> Evaluation:
    inputs = {
        "version": EVALUATION_VERSION,
        "test": split.summary.test_digest,
        "label_names": split.summary.label_names,
        "evaluation": params.identity(),
        **identity,
    }

    def make(folder: Path) -> EvaluationSummary:
        reviews = list(read_test_set(split).reviews)
        started = time.perf_counter()
        output = answer(reviews)
        seconds = time.perf_counter() - started
        labels = np.array([r.label for r in reviews], dtype=np.int64)
        predictions = Predictions(
            labels, output.probabilities, output.uncalibrated, output.class_costs
        )
        write_predictions(folder, predictions)
        return _summary(name, split.summary, predictions, params, output.temperature, seconds)

    reference = reuse_or_make("evaluation", inputs, EvaluationSummary, make)
    measured = ", ".join(f"{key} {value}" for key, value in reference.summary.metrics.items())
    logger.info(
        "Evaluated %s on %s test reviews: %s", name, f"{reference.summary.rows:,}", measured
    )
    return reference


def _summary(
    name: str,
    split: SplitSummary,
    predictions: Predictions,
    params: EvaluationParams,
    temperature: float,
    seconds: float,
) -> EvaluationSummary:
    names = split.label_names
    measured = metrics.evaluate(
        predictions.labels,
        predictions.probabilities,
        params,
        scale_of(names),
        predictions.class_costs,
    )
    before = predictions.uncalibrated
    return EvaluationSummary(
        model=name,
        label_names=names,
        test_digest=split.test_digest,
        rows=len(predictions.labels),
        metrics=measured.overall,
        per_class=dict(zip(names, measured.per_class, strict=True)),
        uncalibrated={}
        if before is None
        else metrics.uncalibrated(predictions.labels, before, params),
        temperature=temperature,
        confusion=metrics.confusion_matrix(
            predictions.labels, predictions.predicted, len(names)
        ).tolist(),
        seconds=round(seconds, 2),
    )


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write predictions.parquet: the predictions of a model, or of one of its engines, for each test row."""
    columns = {"probabilities": predictions.probabilities, "uncalibrated": predictions.uncalibrated}
    lists = {
        name: pa.array(values.tolist(), pa.list_(pa.float64()))
        for name, values in columns.items()
        if values is not None
    }
    table = pa.table({"label": predictions.labels, **lists})
    if predictions.class_costs:
        costs = json.dumps(list(predictions.class_costs))
        table = table.replace_schema_metadata({_CLASS_COSTS: costs})
    pq.write_table(table, folder / "predictions.parquet", compression="zstd")


def read_predictions(reference: Reference[Any]) -> Predictions:
    """Read the predictions of a model, or of one of its engines, from an evaluation or from an engine's proof."""
    with fetched(reference, "predictions.parquet") as folder:
        table = pq.read_table(folder / "predictions.parquet")
    lists = {
        name: np.array(table[name].to_pylist())
        for name in ("probabilities", "uncalibrated")
        if name in table.column_names
    }
    labels = table["label"].to_numpy()
    costs = json.loads((table.schema.metadata or {}).get(_CLASS_COSTS, "[]"))
    return Predictions(labels, lists["probabilities"], lists.get("uncalibrated"), costs)
