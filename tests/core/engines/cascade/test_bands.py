"""Bands: monotone, and as wide as their bound says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from tasks.core.engines.cascade import bands as cascade_bands
from tasks.core.engines.cascade.bands import (
    CascadeRule,
    changes,
    disagree,
    fit_deferral_thresholds,
    least_rows,
    margins,
    most_failures,
)
from tests.core.engines.cascade.simulated_cascades import World, logits_of


@settings(max_examples=40)
@given(logits_of, logits_of)
def test_a_higher_threshold_never_agrees_less(
    one: list[list[float]], other: list[list[float]]
) -> None:
    """What is taken, and what of it disagrees, only grows as a threshold falls."""
    rows = min(len(one), len(other))
    cheap = np.array(one[:rows], dtype=np.float32)
    exact = np.array(other[:rows], dtype=np.float32)
    sweep = cascade_bands._ThresholdSweep(
        cheap, exact, None, exact.argmax(1), np.ones(rows, dtype=np.bool_), disagree(cheap, exact)
    )
    assert (np.diff(sweep.thresholds) < 0).all() and (np.diff(sweep.differing) >= 0).all()
    assert sweep.differing[-1] == (cheap.argmax(1) != exact.argmax(1)).sum()
    for threshold, differing in zip(sweep.thresholds, sweep.differing, strict=True):
        taken = margins(cheap) >= threshold
        assert (cheap.argmax(1) != exact.argmax(1))[taken].sum() == differing


def test_probabilities_are_compared_without_class_costs() -> None:
    """Products with large costs hardly change, whatever the probabilities do."""
    exact, other = np.array([[0.0, 0.0]], np.float32), np.array([[0.5, 0.0]], np.float32)
    costs = [1e4, 1.0]
    shift = np.log(np.array(costs, dtype=np.float32))
    plain = changes(other, exact)
    assert plain[0] > 0.1 and changes(other + shift, exact + shift)[0] < 1e-3
    assert changes(other + shift, exact + shift, costs) == pytest.approx(plain, abs=1e-5)
    assert disagree(other + shift, exact + shift, 0.05, costs).all()
    assert not disagree(other + shift, exact + shift, 0.05).any()


def test_asking_for_more_agreement_raises_the_threshold() -> None:
    world = World(20_000, 3, noise=(0.6,))
    thresholds = [
        fit_deferral_thresholds(world.answers, None, CascadeRule(minimum_agreement=least))[0][0]
        for least in (0.95, 0.99, 0.995, 0.999, 0.9995)
    ]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1]


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    from scipy.stats import beta

    assert most_failures(2994, 0.001, 0.05) == -1 and most_failures(2995, 0.001, 0.05) == 0
    assert least_rows(0.001, 0.05) == 2995 and least_rows(0.0, 0.05) == math.inf
    for rows in (5_000, 10_000, 25_000):
        most = most_failures(rows, 0.001, 0.05)
        assert beta.ppf(0.95, most + 1, rows - most) <= 0.001 < beta.ppf(0.95, most + 2, rows - most - 1)  # fmt: skip
