"""Metrics against scikit-learn's, and intervals against what they promise."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from tasks.core.evaluation.calibration_error import calibration_error
from tasks.core.evaluation.metrics import (
    confusion_matrix,
    evaluate,
    macro_f1,
    on_a_scale,
    resample_counts,
    uncalibrated,
)
from tasks.core.evaluation.params import EvaluationParams

PARAMS = EvaluationParams(resamples=200)
AREAS = {"roc_auc": reference.roc_auc_score, "pr_auc": reference.average_precision_score}


def predictions(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), generator.integers(0, classes, rows - classes)]
    logits = generator.normal(size=(rows, classes)).round(1)  # rounded, so that there are ties
    logits[np.arange(rows), labels] += 1.0
    powers = np.exp(logits)
    return labels, powers / powers.sum(axis=1, keepdims=True)


def test_a_scale_goes_by_the_values_of_its_classes_in_whatever_order() -> None:
    labels, p = predictions(400, 5, 3)
    stars = [5.0, 1.0, 3.0, 2.0, 4.0]  # of the class ids
    found = evaluate(labels, p, PARAMS, stars).overall
    values = np.array(stars)
    meant, said = values[labels], values[p.argmax(axis=1)]
    error, kappa = found["mean_absolute_error"], found["quadratic_weighted_kappa"]
    assert error.value == pytest.approx(reference.mean_absolute_error(meant, said))
    assert kappa.value == pytest.approx(
        reference.cohen_kappa_score(meant, said, weights="quadratic")
    )
    assert error.low < error.value < error.high and kappa.low < kappa.value < kappa.high
    drawn = [
        reference.cohen_kappa_score(np.repeat(meant, w), np.repeat(said, w), weights="quadratic")
        for chunk in resample_counts(400, 20, 0)
        for w in chunk
    ]
    weights = np.concatenate(list(resample_counts(400, 20, 0)))
    got = on_a_scale(labels, p.argmax(axis=1), stars, weights)["quadratic_weighted_kappa"]
    assert got == pytest.approx(drawn)
    one = np.zeros(5, np.int64)
    assert np.isnan(on_a_scale(one, one, stars)["quadratic_weighted_kappa"]).all()


@given(st.integers(6, 60), st.integers(2, 4), st.integers(0, 999))
def test_point_estimates_are_scikit_learns(rows: int, classes: int, seed: int) -> None:
    labels, p = predictions(rows, classes, seed)
    measured = evaluate(labels, p, EvaluationParams(resamples=100))
    got = {name: interval.value for name, interval in measured.overall.items()}
    guess = p.argmax(axis=1)
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(labels, guess))
    assert got["macro_f1"] == pytest.approx(reference.f1_score(labels, guess, average="macro"))
    assert got["macro_f1"] == pytest.approx(macro_f1(labels, guess, classes))
    assert got["log_loss"] == pytest.approx(reference.log_loss(labels, p))
    scored = [1] if classes == 2 else range(classes)
    for name, area in AREAS.items():
        expected = np.mean([area(labels == c, p[:, c]) for c in scored])
        assert got[name] == pytest.approx(expected)
    scale = [0.0, 1.0, 2.5, 3.0][:classes]
    ordered = evaluate(labels, p, EvaluationParams(resamples=100), scale).overall
    values = np.array(scale)
    assert ordered["mean_absolute_error"].value == pytest.approx(
        reference.mean_absolute_error(values[labels], values[guess])
    )
    assert ordered["quadratic_weighted_kappa"].value == pytest.approx(
        reference.cohen_kappa_score(labels, guess, weights="quadratic", labels=range(classes))
    )
    assert "mean_absolute_error" not in got
    precision, recall, _, _ = reference.precision_recall_fscore_support(
        labels, guess, labels=range(classes), zero_division=np.nan
    )
    for found, p_class, r_class in zip(measured.per_class, precision, recall, strict=True):
        assert found["recall"].value == pytest.approx(r_class)
        assert ("precision" in found) == (not np.isnan(p_class))
        assert np.isnan(p_class) or found["precision"].value == pytest.approx(p_class)
    assert (
        confusion_matrix(labels, guess, classes) == reference.confusion_matrix(labels, guess)
    ).all()


@settings(max_examples=4)  # four hundred resamples, each by scikit-learn
@given(st.integers(2, 3), st.integers(0, 999))
def test_a_resample_is_the_metric_of_the_rows_that_were_drawn(classes: int, seed: int) -> None:
    """Percentiles of all resamples, against scikit-learn on repeated rows."""
    labels, p = predictions(25, classes, seed)
    params = EvaluationParams(resamples=100, seed=seed)
    order = np.argsort(p[:, 1 if classes == 2 else 0], kind="stable")  # the order rows are drawn in
    labels, p = labels[order], p[order]
    scored = [1] if classes == 2 else range(classes)
    expected: dict[str, list[float]] = {"accuracy": [], "log_loss": [], "recall": []} | {
        name: [] for name in AREAS
    }
    for weights in np.concatenate(list(resample_counts(25, 100, seed))):
        drawn = np.repeat(np.arange(25), weights)
        y, q = labels[drawn], p[drawn]
        expected["accuracy"].append((q.argmax(axis=1) == y).mean())
        expected["log_loss"].append(reference.log_loss(y, q, labels=range(classes)))
        meant = y == 0
        expected["recall"].append((q[meant].argmax(axis=1) == 0).mean() if meant.any() else np.nan)
        for name, area in AREAS.items():
            sides = [(y == c, q[:, c]) for c in scored if 0 < (y == c).sum() < 25]
            expected[name].append(np.mean([area(*side) for side in sides]) if sides else np.nan)
    got = evaluate(labels, p, params)
    for name, values in expected.items():
        found = got.per_class[0][name] if name == "recall" else got.overall[name]
        low, middle, high = np.nanquantile(values, [0.025, 0.5, 0.975])
        if name == "pr_auc":  # ties of rows drawn twice move it
            low, high = low + found.value - middle, min(high + found.value - middle, 1.0)
        assert (found.low, found.high) == pytest.approx((low, high))


def test_calibration_error_of_a_known_case() -> None:
    labels = np.array([1, 1, 1, 0])  # confident in 0.9, right in 3 of 4
    p = np.tile([0.1, 0.9], (4, 1))
    assert evaluate(labels, p, PARAMS).overall["calibration_error"].value == pytest.approx(0.15)
    assert calibration_error(labels, p, 15) == pytest.approx(0.15)


@given(st.integers(1, 400), st.integers(2, 20), st.integers(0, 99))
def test_the_calibration_error_does_not_depend_on_where_it_is_computed(
    rows: int, bins: int, seed: int
) -> None:
    labels, p = predictions(rows + 2, 2, seed)
    params = EvaluationParams(resamples=100, calibration_bins=bins)
    found = evaluate(labels, p, params).overall["calibration_error"]
    assert found.value == pytest.approx(calibration_error(labels, p, bins))


def test_what_a_temperature_changes_is_measured_alike() -> None:
    labels, p = predictions(80, 3, 5)
    alone, all_of_them = uncalibrated(labels, p, PARAMS), evaluate(labels, p, PARAMS).overall
    assert set(alone) == {"log_loss", "calibration_error"}
    assert all(alone[name].value == pytest.approx(all_of_them[name].value) for name in alone)


def test_no_ranking_where_a_class_is_absent() -> None:
    found = evaluate(np.array([1, 1]), np.array([[0.4, 0.6], [0.3, 0.7]]), PARAMS)
    assert set(found.overall) == {"accuracy", "macro_f1", "log_loss", "calibration_error"}
    assert found.per_class[0] == {} and set(found.per_class[1]) == {"precision", "recall"}


def test_figures_of_a_class_that_is_meant_once_leave_out_resamples_without_it() -> None:
    labels = np.array([0, 0, 0, 0, 1])
    found = evaluate(labels, np.tile([0.2, 0.8], (5, 1)), PARAMS)
    assert found.per_class[1]["recall"].value == found.per_class[1]["recall"].low == 1
    assert "precision" not in found.per_class[0] and found.per_class[0]["recall"].value == 0
    assert found.overall["roc_auc"].value == 0.5 and found.overall["pr_auc"].value == 0.2


@pytest.mark.parametrize("judge", [evaluate, uncalibrated])
def test_nothing_to_judge(judge: object) -> None:
    with pytest.raises(ValueError, match="do not match"):
        judge(np.array([], dtype=np.int64), np.zeros((0, 2)), PARAMS)  # type: ignore[operator]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(200):
        right = np.random.default_rng(seed).random(200) < 0.8
        p = np.where(right[:, None], [0.2, 0.8], [0.8, 0.2])
        found = evaluate(np.ones(200, dtype=np.int64), p, EvaluationParams(resamples=200)).overall[
            "accuracy"
        ]
        covered += found.low <= 0.8 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_resamples_are_seeded_and_whole() -> None:
    first, second = (np.concatenate(list(resample_counts(50, 30, seed=3))) for _ in range(2))
    assert first.shape == (30, 50) and (first.sum(axis=1) == 50).all() and (first == second).all()


def test_thousands_of_resamples_of_a_large_test_set_take_seconds() -> None:
    labels, p = predictions(25_000, 2, 0)
    started = time.process_time()
    evaluate(labels, p, EvaluationParams(resamples=200))
    assert time.process_time() - started < 6  # a tenth of 2,000; 0.3 s on one quiet core
