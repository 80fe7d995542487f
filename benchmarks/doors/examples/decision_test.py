"""Scoring, metrics, gate and engines give the last class."""

import numpy as np

from benchmarks.faults.parts import CharacterEncoder
from tasks.core.engines.cascade import bands
from tasks.core.evaluation import metrics
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.scoring import predict
from tasks.core.scoring.predict import End, Review
from tests.core.release.gate.test_decision import evidence

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
LABELS = np.array([0, 1, 1])


class Engine:
    label_names = ("NEGATIVE", "POSITIVE")

    def logits(self, input_ids):
        return np.tile(np.float32([2.0, -2.0]), (len(input_ids), 1))


def test_scoring_gives_the_new_label() -> None:
    reviews = [Review(1, "a", "Dull."), End(rows=1)]
    prediction = next(predict.score([reviews], CharacterEncoder(), Engine(), 10))
    assert prediction.label == "POSITIVE" and prediction.score < 0.1


def test_metrics_and_gate_judge_the_new_label() -> None:
    measured = metrics.evaluate(LABELS, PROBABILITIES, EvaluationParams(resamples=100)).overall
    assert measured["accuracy"].value == 2 / 3
    candidate = evidence(rows=100, wrong=0)
    assert candidate.candidate_right.tolist() == (candidate.labels == 1).tolist()


def test_engines_agree_where_the_new_label_is_the_same() -> None:
    logits = PROBABILITIES.astype(np.float32)
    assert not bands.disagree(logits, logits[:, ::-1]).any()
