"""Two classifiers on the same rows: counts, bounds, margins, and error rates summed over every outcome."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from tasks.core.evaluation.comparison import (
    NonInferiority,
    Pair,
    chance_to_pass,
    difference_of_fractions,
    lower_bound,
    resolvable_margin,
    rows_needed,
    score,
)
from tasks.core.evaluation.metrics import resample_counts
from tasks.core.evaluation.params import EvaluationParams

PARAMS = EvaluationParams(resamples=2000)
WIDEN = NonInferiority(0.01, 0.05, false_promotion_risk=0.05, false_refusal_risk=0.15)
REFUSE = NonInferiority(0.01, 0.01, false_promotion_risk=0.05, false_refusal_risk=0.15)
COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 400)).filter(any)


def answers(better: int, worse: int, alike: int) -> tuple[np.ndarray, np.ndarray]:
    right = np.r_[np.ones(better), np.zeros(worse), np.arange(alike) % 5 > 0].astype(bool)
    other = np.r_[np.zeros(better), np.ones(worse), np.arange(alike) % 5 > 0].astype(bool)
    return right, other


@given(COUNTS)
def test_the_counts_are_those_of_the_answers(counts: tuple[int, int, int]) -> None:
    right, other = answers(*counts)
    pair = Pair.of(right, other)
    assert (pair.better, pair.worse, pair.rows) == (*counts[:2], sum(counts))
    assert pair.difference == pytest.approx(right.mean() - other.mean())
    swapped = Pair.of(other, right)
    assert pair.upper(0.05) == pytest.approx(-swapped.lower(0.05))
    assert pair.mcnemar() == Pair.of(other, right).mcnemar()


def test_answers_to_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="same rows"):
        Pair.of(np.ones(3, dtype=bool), np.ones(4, dtype=bool))
    with pytest.raises(ValueError, match="same rows"):
        Pair.of(np.ones(0, dtype=bool), np.ones(0, dtype=bool))


@pytest.mark.parametrize("counts", [(9, 14, 177), (3, 0, 97), (40, 60, 900)])
def test_the_interval_is_that_of_resampled_rows(counts: tuple[int, int, int]) -> None:
    right, other = answers(*counts)
    gap = right.astype(float) - other
    rows = len(gap)
    drawn = np.concatenate([w @ gap for w in resample_counts(rows, 20_000, 1)]) / rows
    got = Pair.of(right, other).interval(EvaluationParams(resamples=20_000, seed=2))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert got.value == pytest.approx(gap.mean())
    assert (got.low, got.high) == pytest.approx((low, high), abs=1.01 / rows)


def test_the_difference_is_zero_for_the_same_answers() -> None:
    right = np.random.default_rng(0).random(100) < 0.7
    gap = Pair.of(right, right).interval(PARAMS)
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    assert Pair.of(right, right).mcnemar() == 1


def test_mcnemar_is_the_sign_test_of_the_rows_that_differ() -> None:
    assert Pair.of(*answers(1, 7, 50)).mcnemar() == pytest.approx(2 * 9 / 2**8)


@given(COUNTS, st.floats(-0.3, 0.3).filter(lambda d: abs(d) > 1e-3))
def test_the_score_uses_the_likeliest_shares_under_the_hypothesis(
    counts: tuple[int, int, int], difference: float
) -> None:
    """The variance has a closed form; here the likelihood is maximised by search."""
    better, worse, alike = counts
    rows = sum(counts)

    def surprise(share: float) -> float:
        shares = np.maximum([share + difference, share, 1 - 2 * share - difference], 1e-300)
        return -float(np.dot([better, worse, alike], np.log(shares)))

    low, high = max(0.0, -difference), (1 - difference) / 2
    found = optimize.minimize_scalar(
        surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    )
    variance = rows * (2 * found.x + difference - difference**2)
    expected = (better - worse - rows * difference) / np.sqrt(variance)
    assert score(rows, better, worse, difference) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_published_examples() -> None:
    """Tango, 1998: 44 patients, one lens effective in all but one. Fagerland, Lydersen and Laake, 2017, chapter 8."""
    assert score(44, 0, 1, -0.1) == pytest.approx(1.709, abs=5e-4)
    before_and_after = Pair(161, better=6, worse=16)
    assert before_and_after.lower(0.025) == pytest.approx(-0.1240, abs=5e-5)
    assert before_and_after.upper(0.025) == pytest.approx(-0.0054, abs=5e-5)


@given(COUNTS, st.floats(0.001, 0.4))
def test_bounds_enclose_the_estimate_and_answer_the_test(
    counts: tuple[int, int, int], risk: float
) -> None:
    pair = Pair(sum(counts), *counts[:2])
    low, high = pair.lower(risk), pair.upper(risk)
    assert -1 <= low <= pair.difference <= high <= 1
    assert pair.lower(risk / 2) <= low and pair.upper(risk / 2) >= high
    if -0.999 < low < pair.difference - 1e-6:
        statistic = float(score(pair.rows, pair.better, pair.worse, low))
        assert statistic == pytest.approx(stats.norm.isf(risk), abs=1e-5)


@given(st.integers(30, 30_000), st.data())
def test_of_equals_no_more_than_the_risk_is_refused_at_the_resolvable_margin(
    rows: int, data: st.DataObject
) -> None:
    """Exactly, whatever the number of rows that differ."""
    differing = data.draw(st.integers(1, min(rows, 3000)))
    risk = data.draw(st.sampled_from([0.05, 0.1, 0.15, 0.3]))
    margin = float(resolvable_margin(rows, differing, 0.05, risk))
    worse = np.arange(differing + 1)
    refused = lower_bound(rows, differing - worse, worse, 0.05) < -margin - 1e-12
    assert stats.binom.pmf(worse, differing, 0.5)[refused].sum() <= risk + 1e-4


def test_the_resolvable_margin_of_many_rows_is_the_textbooks() -> None:
    z = stats.norm.isf(0.05) + stats.norm.isf(0.15)
    expected = z * np.sqrt(0.1 / 1e6)
    assert resolvable_margin(1_000_000, 100_000, 0.05, 0.15) == pytest.approx(expected, rel=0.005)


@given(st.floats(0.005, 0.05), st.floats(0.02, 0.3))
def test_the_rows_that_are_needed_resolve_the_margin(margin: float, disagreement: float) -> None:
    rows = rows_needed(margin, disagreement, 0.05, 0.15)
    assert resolvable_margin(rows, rows * disagreement, 0.05, 0.15) <= margin * 1.001
    fewer = rows * 0.98
    assert resolvable_margin(fewer, fewer * disagreement, 0.05, 0.15) > margin


@given(COUNTS)
def test_the_same_answers_pass_and_more_worse_ones_never_help(counts: tuple[int, int, int]) -> None:
    better, worse, _ = counts
    rows = sum(counts)
    assert WIDEN.passes(rows, 0, 0) and REFUSE.passes(rows, 0, 0)
    for rule in (WIDEN, REFUSE):
        share = np.arange(better + worse + 1)  # of the rows that differ
        passed = rule.passes(rows, better + worse - share, share)
        assert (np.diff(passed.astype(int)) <= 0).all()
    assert WIDEN.passes(rows, better, worse) or not REFUSE.passes(rows, better, worse)


@pytest.mark.parametrize(
    ("rows", "disagreement"),
    [*itertools.product([300, 500, 2000], [0.05, 0.1, 0.15]), (25_000, 0.05)],
)
def test_both_promises_summed_over_all_outcomes(rows: int, disagreement: float) -> None:
    """No simulation: the chance of each outcome is known, and so is what the rule makes of it."""
    margin = float(WIDEN.applied(rows, rows * disagreement))
    assert chance_to_pass(WIDEN, rows, disagreement, -margin) <= 0.0505
    assert chance_to_pass(WIDEN, rows, disagreement, -min(2 * margin, disagreement)) <= 0.001
    assert chance_to_pass(REFUSE, rows, disagreement, -0.01) <= 0.0505
    if WIDEN.resolvable(rows, rows * disagreement + 4 * np.sqrt(rows * disagreement)) <= 0.05:
        assert chance_to_pass(WIDEN, rows, disagreement, 0.0) >= 0.85
    if REFUSE.resolvable(rows, rows * disagreement + 4 * np.sqrt(rows * disagreement)) <= 0.01:
        assert chance_to_pass(REFUSE, rows, disagreement, 0.0) >= 0.85


def test_the_chance_to_pass_is_that_of_a_simulation() -> None:
    generator = np.random.default_rng(5)
    drawn = generator.multinomial(500, [0.03, 0.05, 0.92], 20_000)
    simulated = WIDEN.passes(500, drawn[:, 0], drawn[:, 1]).mean()
    assert chance_to_pass(WIDEN, 500, 0.08, -0.02) == pytest.approx(simulated, abs=0.012)


def test_a_widened_margin_is_never_wider_than_allowed() -> None:
    assert WIDEN.applied(50, 20) == 0.05 and WIDEN.applied(25_000, 1000) == 0.01
    assert 0.01 < WIDEN.applied(500, 40) < 0.05 and REFUSE.applied(500, 40) == 0.01


@pytest.mark.parametrize(("share", "rows"), [(0.9, 200), (0.6, 300)])
def test_shares_of_separate_rows_exceed_their_bound_as_seldom_as_is_said(
    share: float, rows: int
) -> None:
    hits = np.arange(rows + 1)
    chance = stats.binom.pmf(hits, rows, share)
    likely = hits[chance > 1e-5]
    missed = sum(
        chance[k] * chance[m]
        for k in likely
        for m in likely
        if (k - m) / rows > 0.02 and difference_of_fractions(int(k), rows, int(m), rows, 0.05) > 0
    )
    assert missed <= 0.06


def test_shares_that_differ_are_seen_to() -> None:
    assert difference_of_fractions(1980, 2000, 430, 500, 0.0125) > 0.08
    assert difference_of_fractions(1800, 2000, 450, 500, 0.0125) < 0
