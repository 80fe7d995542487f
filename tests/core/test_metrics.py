"""Metrics against scikit-learn's, intervals against what they promise, and the gate's rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from tasks.core.gate import GateParams, decide
from tasks.core.metrics import (
    EvaluationParams,
    confusion_matrix,
    evaluate,
    paired_difference,
    resample_counts,
)

PARAMS = EvaluationParams(resamples=200)


def predictions(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), generator.integers(0, classes, rows - classes)]
    logits = generator.normal(size=(rows, classes)).round(1)  # rounded, so that there are ties
    logits[np.arange(rows), labels] += 1.0
    powers = np.exp(logits)
    return labels, powers / powers.sum(axis=1, keepdims=True)


@given(st.integers(6, 60), st.integers(2, 4), st.integers(0, 999))
def test_point_estimates_are_scikit_learns(rows: int, classes: int, seed: int) -> None:
    labels, p = predictions(rows, classes, seed)
    got = {
        name: interval.value
        for name, interval in evaluate(labels, p, EvaluationParams(resamples=100)).items()
    }
    guess = p.argmax(axis=1)
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(labels, guess))
    assert got["macro_f1"] == pytest.approx(reference.f1_score(labels, guess, average="macro"))
    assert got["log_loss"] == pytest.approx(reference.log_loss(labels, p))
    score = p[:, 1] if classes == 2 else p
    assert got["roc_auc"] == pytest.approx(
        reference.roc_auc_score(labels, score, multi_class="ovr")
    )
    assert (
        confusion_matrix(labels, guess, classes) == reference.confusion_matrix(labels, guess)
    ).all()


def test_calibration_error_of_a_known_case() -> None:
    labels = np.array([1, 1, 1, 0])  # confident in 0.9, right in 3 of 4
    p = np.tile([0.1, 0.9], (4, 1))
    assert evaluate(labels, p, PARAMS)["calibration_error"].value == pytest.approx(0.15)


def test_no_ranking_where_a_class_is_absent() -> None:
    assert "roc_auc" not in evaluate(np.array([1, 1]), np.array([[0.4, 0.6], [0.3, 0.7]]), PARAMS)


def test_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="do not match"):
        evaluate(np.array([], dtype=np.int64), np.zeros((0, 2)), PARAMS)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(200):
        right = np.random.default_rng(seed).random(200) < 0.8
        p = np.where(right[:, None], [0.2, 0.8], [0.8, 0.2])
        found = evaluate(np.ones(200, dtype=np.int64), p, EvaluationParams(resamples=200))[
            "accuracy"
        ]
        covered += found.low <= 0.8 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_resamples_are_seeded_and_whole() -> None:
    first, second = (np.concatenate(list(resample_counts(50, 30, seed=3))) for _ in range(2))
    assert first.shape == (30, 50) and (first.sum(axis=1) == 50).all() and (first == second).all()


def test_paired_difference_is_zero_for_the_same_answers() -> None:
    right = np.random.default_rng(0).random(100) < 0.7
    gap = paired_difference(right, right, PARAMS)
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)


def answers(right: int, rows: int = 100) -> np.ndarray:
    return np.arange(rows) < right


def test_the_gate_wants_more_than_the_baseline() -> None:
    tie = decide(answers(80), answers(80), None, GateParams(), PARAMS)
    assert not tie.promote and "FAILED beats the baseline: 0.8000 against 0.8000" in str(tie)
    assert decide(answers(81), answers(80), None, GateParams(), PARAMS).promote


def test_the_gate_lets_a_champion_fall_by_no_more_than_the_margin() -> None:
    params = GateParams(champion_margin=0.02)
    assert decide(answers(88), answers(80), answers(90), params, PARAMS, "v1").promote
    worse = decide(answers(87), answers(80), answers(90), params, PARAMS, "reviews version 1")
    assert not worse.promote and "of reviews version 1" in str(worse)


def test_the_gates_other_clauses() -> None:
    assert not decide(answers(90), answers(80), None, GateParams(promote=False), PARAMS).promote
    assert not decide(
        answers(90), answers(80), None, GateParams(minimum_accuracy=0.95), PARAMS
    ).promote
    assert decide(
        answers(70), answers(80), None, GateParams(must_beat_baseline=False), PARAMS
    ).promote
    assert not decide(
        answers(90), answers(80), None, GateParams(), PARAMS, "", "other labels"
    ).promote
