"""The results of `retrain`, `tune` and `demo`."""

from typing import Any

from tasks.core.evaluation.records import EvaluationSummary
from tasks.core.records import ModelVersion, Record
from tasks.core.release.gate.evidence import Verdict
from tasks.core.scoring.results import ScoreSummary
from tasks.training.tuning.sweep import SweepSummary


class Retrained(Record):
    """A registered version, and the gate's verdict on it."""

    version: ModelVersion
    promoted: bool
    verdict: Verdict
    evaluation: EvaluationSummary
    baseline: EvaluationSummary
    train_rows: int
    training_seconds: float
    steps_reused: list[str]
    model_uri: str
    report_uri: str


class Tuned(Record):
    """A sweep, and the registered version of its best model."""

    sweep: SweepSummary
    retrained: Retrained


class Demonstrated(Record):
    """A retraining on the sample reviews, a scoring run, and the predictions of two sentences."""

    retrained: Retrained
    scored: ScoreSummary
    sentences: list[dict[str, Any]]
