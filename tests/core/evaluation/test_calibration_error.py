"""The calibration error: its interval holds it, and the truth as often as it says; what few rows show by chance."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.evaluation.calibration_error import (
    calibration_error,
    calibration_interval,
    calibration_noise,
)
from tasks.core.evaluation.comparison import Pair
from tasks.core.evaluation.metrics import evaluate, uncalibrated
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.release.report.facts import share

BINS = 15
#: How often an answer of confidence c is right.
TRUTHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "calibrated": lambda c: c,
    "a little too sure": lambda c: c - 0.02,
    "too sure": lambda c: c - 0.1,
    "one bin": lambda c: c - 0.15 * ((c > 0.8) & (c < 13 / 15)),
    "waves": lambda c: np.clip(c + 0.06 * np.sin(12 * c) - 0.03, 0, 1),
    "no better than a coin": lambda c: 0.5 + 0 * c,
}


def drawn(
    generator: np.random.Generator, rows: int, truth: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences as of a good classifier, labels as of the truth, and how often each answer is right."""
    confidence = 0.5 + generator.beta(4, 1, rows) / 2
    right = TRUTHS[truth](confidence)
    labels = (generator.random(rows) < right).astype(np.int64)
    return labels, np.column_stack([1 - confidence, confidence]), right


def true_error(truth: str) -> float:
    _, p, right = drawn(np.random.default_rng(0), 2_000_000, truth)
    bins = np.minimum((p[:, 1] * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, right - p[:, 1]) / len(p)).sum())


@pytest.mark.parametrize("truth", list(TRUTHS))
def test_the_interval_holds_the_truth_about_as_often_as_it_says(truth: str) -> None:
    """At 0.9 of 400 sets each; it may be wider than it must where gaps are about as large as their noise."""
    error = true_error(truth)
    for rows in (100, 500, 2000, 10_000):
        generator = np.random.default_rng(rows)
        missed = 0
        for _ in range(400):
            labels, p, _ = drawn(generator, rows, truth)
            found = calibration_interval(labels, p, BINS, 0.9)
            missed += not found.low <= error <= found.high
        assert missed / 400 < 0.14, (rows, missed)  # 0.1 and three deviations


def test_the_interval_is_not_wide_for_nothing() -> None:
    """Where every gap is clear of its noise, it is that of a sum of normals, and misses as often as it says."""
    error, missed, widths = true_error("too sure"), 0, []
    generator = np.random.default_rng(7)
    for _ in range(400):
        labels, p, _ = drawn(generator, 20_000, "too sure")
        found = calibration_interval(labels, p, BINS, 0.8)
        missed += not found.low <= error <= found.high
        widths.append(found.high - found.low)
    assert 0.1 < missed / 400 < 0.26
    assert np.mean(widths) < 0.011  # 2 x 1.28 deviations of 0.003, and a bin or two


def test_it_is_below_the_estimate_of_a_calibrated_model_and_never_beyond_its_bounds() -> None:
    """The reported case: a calibration error of 0.0263 with the interval [0.0281, 0.0673]."""
    generator = np.random.default_rng(3)
    for rows in (60, 500, 2000):
        labels, p, _ = drawn(generator, rows, "calibrated")
        found = calibration_interval(labels, p, BINS, 0.95)
        assert found.value == calibration_error(labels, p, BINS)
        assert 0 == found.low < found.value < found.high < 1


@pytest.mark.parametrize("right", [True, False])
def test_answers_that_are_certain_leave_some_doubt(right: bool) -> None:
    p = np.tile([0.0, 1.0], (20, 1))
    found = calibration_interval(np.full(20, int(right)), p, BINS, 0.95)
    assert found.low <= found.value == (0.0 if right else 1.0) <= found.high
    assert found.high - found.low > 0.01


@given(st.data(), st.integers(1, 80), st.integers(2, 6), st.sampled_from([0.5, 0.8, 0.95]))
def test_every_interval_of_a_report_holds_its_estimate(
    data: st.DataObject, rows: int, classes: int, confidence: float
) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 9999)))
    labels = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes)) * data.draw(st.sampled_from([0.3, 1, 5, 60]))
    logits[np.arange(rows), labels] += data.draw(st.sampled_from([0, 1, 4]))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    params = EvaluationParams(resamples=100, confidence=confidence)
    found = evaluate(labels, p, params, list(range(classes)))
    right, other = (
        p.argmax(axis=1) == labels,
        generator.random(rows) < data.draw(st.sampled_from([0, 0.5, 1])),
    )
    intervals = {
        **found.overall,
        **{f"{n} of {c}": i for c, own in enumerate(found.per_class) for n, i in own.items()},
        **{f"before: {name}": i for name, i in uncalibrated(labels, p, params).items()},
        "difference": Pair.of(right, other).interval(params),
        "slice": share(right, confidence),
    }
    outside = {name: str(i) for name, i in intervals.items() if not i.low <= i.value <= i.high}
    assert not outside


@pytest.mark.parametrize("rows", [60, 500, 5000])
def test_a_calibrated_model_exceeds_the_noise_as_seldom_as_is_said(rows: int) -> None:
    generator = np.random.default_rng(rows)
    exceeded = 0
    for _ in range(1000):
        right = 0.5 + generator.random(rows) ** 0.5 / 2
        p = np.column_stack([1 - right, right])
        labels = (generator.random(rows) < right).astype(np.int64)
        exceeded += calibration_error(labels, p, 15) > calibration_noise(p, 15, 0.05)
    assert 10 <= exceeded <= 70  # of a thousand, at a risk of 0.05
