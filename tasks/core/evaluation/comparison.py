"""Compare two classifiers on the same rows: the difference, its confidence, and what a test set can resolve.

Only rows on which exactly one of the two is right carry information: `better` of them for the first classifier, `worse`
for the other, `rows` in all. Everything here is a function of these three counts.

Bounds are those of Tango's score test for the difference of paired proportions, inverted. Unlike percentiles of a
bootstrap they keep their risk when few rows differ, and they need no random numbers. Tango, 1998, "Equivalence test
and confidence interval for the difference in proportions for the paired-sample design", Statistics in Medicine 17.
Non-inferiority by a one-sided bound: Walker and Nowacki, 2011, "Understanding equivalence and noninferiority testing",
Journal of General Internal Medicine 26.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tasks.core.evaluation.metrics import Floats
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.evaluation.records import Interval

Bools = NDArray[np.bool_]
_HALVINGS = 42  # bisections of an interval of length 2: bounds are exact to 5e-13
_CLOSE = 5e-4  # relative tolerance to the margin when rows are counted for it
_ROUNDING = 1e-9  # a bound that equals its limit counts as within it


@dataclass(frozen=True)
class Pair:
    """Counts of the rows on which two classifiers differ."""

    rows: int
    better: int
    worse: int

    @classmethod
    def of(cls, correct: Bools, other_correct: Bools) -> "Pair":
        """Count the rows that each gets right, from masks that are both of shape (rows,).

        Raises:
            ValueError: no rows, or not the same number.
        """
        if len(correct) == 0 or correct.shape != other_correct.shape:
            raise ValueError(
                f"{correct.shape} and {other_correct.shape} are not answers to the same rows"
            )
        better = int((correct & ~other_correct).sum())
        return cls(len(correct), better, int((other_correct & ~correct).sum()))

    @property
    def difference(self) -> float:
        """The accuracy of the first less that of the other."""
        return (self.better - self.worse) / self.rows

    @property
    def differing(self) -> int:
        return self.better + self.worse

    def interval(self, params: EvaluationParams) -> Interval:
        """Return the difference with its paired bootstrap percentile interval.

        Resampling rows whose difference is 1, -1 or 0 is the same as drawing three counts from a multinomial
        distribution, so the counts are drawn instead of the rows (Efron and Tibshirani, 1993, chapters 6 and 13).
        """
        shares = np.array([self.better, self.worse, self.rows - self.differing]) / self.rows
        generator = np.random.default_rng(params.seed)
        drawn = generator.multinomial(self.rows, shares, params.resamples)
        tail = (1 - params.confidence) / 2
        low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / self.rows, [tail, 1 - tail])
        return Interval(value=self.difference, low=float(low), high=float(high))

    def mcnemar(self) -> float:
        """Return the two-sided p-value of McNemar's exact test (McNemar, 1947) that both are right equally often."""
        if not self.differing:
            return 1.0
        return float(stats.binomtest(self.better, self.differing).pvalue)

    def lower(self, risk: float) -> float:
        """Return a lower bound of the true difference, wrong with probability `risk`."""
        return float(lower_bound(self.rows, self.better, self.worse, risk))

    def upper(self, risk: float) -> float:
        """Return an upper bound of the true difference, wrong with probability `risk`."""
        return -float(lower_bound(self.rows, self.worse, self.better, risk))


def score(rows: ArrayLike, better: ArrayLike, worse: ArrayLike, difference: ArrayLike) -> Floats:
    """Compute Tango's statistic: standard normal if the true difference is `difference`, decreasing in `difference`.

    Args:
        rows, better, worse: counts, of any shapes that broadcast; need not be whole.
        difference: hypothesis, within (-1, 1), and not 0 if no row differs.
    """
    n, b, c, d = (np.asarray(x, dtype=np.float64) for x in (rows, better, worse, difference))
    # The maximum likelihood estimate, under the hypothesis, of the fraction of worse rows: the root of a quadratic.
    linear = (2 * n - b + c) * d - b - c
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * d * (1 - d), 0.0))
    share = (root - linear) / (4 * n)
    variance = n * np.maximum(2 * share + d * (1 - d), np.finfo(np.float64).tiny)
    return (b - c - n * d) / np.sqrt(variance)


def lower_bound(rows: ArrayLike, better: ArrayLike, worse: ArrayLike, risk: ArrayLike) -> Floats:
    """Return the lower bound that the true difference is below with probability at most `risk`; arguments broadcast."""
    n, b, c, z = np.broadcast_arrays(rows, better, worse, stats.norm.isf(risk))
    low, high = np.full(n.shape, -1.0), np.asarray((b - c) / n, dtype=np.float64)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rejected = score(n, b, c, middle) > z
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    return low


def resolvable_margin(
    rows: ArrayLike, differing: ArrayLike, false_promotion_risk: float, false_refusal_risk: float
) -> Floats:
    """Return the smallest margin at which `rows` test rows, of which `differing` differ, keep both risks.

    If both are equally good, each differing row favours either with probability one half. So the number of worse rows
    exceeds `differing / 2` by more than z sqrt(differing) / 2, plus half a row because counts are whole, with
    probability at most `false_refusal_risk`. The margin is the bound of that outcome: any smaller one would refuse more
    equals. For many rows it is (z_promotion + z_refusal) sqrt(differing) / rows.
    """
    count = np.asarray(differing, dtype=np.float64)
    worse = np.minimum((count + stats.norm.isf(false_refusal_risk) * np.sqrt(count) + 1) / 2, count)
    return -lower_bound(rows, count - worse, worse, false_promotion_risk)


def rows_needed(
    margin: float, disagreement: float, false_promotion_risk: float, false_refusal_risk: float
) -> int:
    """Estimate how many test rows resolve a margin if two classifiers differ on a fraction `disagreement` of them."""
    z = stats.norm.isf(false_promotion_risk) + stats.norm.isf(false_refusal_risk)
    rows = disagreement * (z / margin) ** 2
    for _ in range(20):  # margins shrink about as one over the root of the rows
        resolvable = resolvable_margin(
            rows, rows * disagreement, false_promotion_risk, false_refusal_risk
        )
        rows *= (float(resolvable) / margin) ** 2
        if abs(resolvable / margin - 1) < _CLOSE:
            break
    return int(np.ceil(rows))


@dataclass(frozen=True)
class NonInferiority:
    """A non-inferiority rule: no worse than by a margin, which a small test set may widen.

    A classifier passes if the lower bound of the difference, at `false_promotion_risk`, is not below minus the margin.
    The bound holds for every classifier, so at most that fraction of candidates that are worse by the applied margin
    pass, whichever margin was applied. At most `false_refusal_risk` of candidates as good as the other are refused, as
    long as the test set can resolve `widest`.
    """

    margin: float
    widest: float
    false_promotion_risk: float
    false_refusal_risk: float

    def resolvable(self, rows: ArrayLike, differing: ArrayLike) -> Floats:
        """Return the smallest margin that such a test set can resolve."""
        return resolvable_margin(
            rows, differing, self.false_promotion_risk, self.false_refusal_risk
        )

    def applied(self, rows: ArrayLike, differing: ArrayLike) -> Floats:
        """Return the applied margin: the requested one or, if larger, the resolvable one, up to the widest."""
        return np.clip(self.resolvable(rows, differing), self.margin, max(self.margin, self.widest))

    def passes(
        self, rows: ArrayLike, better: ArrayLike, worse: ArrayLike, margin: ArrayLike | None = None
    ) -> Bools:
        """Return whether each outcome passes. If no row differs it does, however few rows there are.

        `margin` is the result of `applied` for the same rows, if it is already known.
        """
        differing = np.add(better, worse)
        margin = self.applied(rows, differing) if margin is None else margin
        statistic = score(rows, better, worse, np.negative(margin))
        within = statistic >= stats.norm.isf(self.false_promotion_risk) - _ROUNDING
        return np.asarray(within | (differing == 0))


def chance_to_pass(
    rule: NonInferiority, rows: int, disagreement: float, difference: float
) -> float:
    """Compute the probability that a classifier passes, summed over all outcomes of a test set.

    Args:
        rule: the margin and the risks.
        rows: of the test set.
        disagreement: true fraction of rows on which exactly one of the two is right.
        difference: true difference in accuracy, at most `disagreement` in size.
    """
    few, many = stats.binom.interval(1 - 1e-10, rows, disagreement)
    share = (1 - difference / disagreement) / 2
    counts = np.arange(int(few), int(many) + 1)
    margins = rule.applied(rows, counts)
    passed = 0.0
    for differing, margin in zip(counts, margins, strict=True):
        low, high = stats.binom.interval(1 - 1e-10, differing, share) if differing else (0, 0)
        worse = np.arange(int(low), int(high) + 1)
        chance = stats.binom.pmf(worse, differing, share) * stats.binom.pmf(
            differing, rows, disagreement
        )
        passed += float(chance[rule.passes(rows, differing - worse, worse, margin)].sum())
    return passed


def least_share(hits: int, rows: int, risk: float) -> float:
    """Return a lower bound of a fraction, wrong with probability at most `risk`: Clopper and Pearson (1934), exact."""
    return float(stats.beta.ppf(risk, hits, rows - hits + 1)) if hits else 0.0


def rows_to_exceed(share: float, limit: float, risk: float) -> int:
    """Estimate how many rows would show that a fraction is above a limit, if it stays at its present value.

    Fleiss, Levin and Paik, 2003, "Statistical Methods for Rates and Proportions", with the correction for continuity.
    """
    gap = share - limit
    rows = float(stats.norm.isf(risk)) ** 2 * limit * (1 - limit) / gap**2
    return int(np.ceil(rows / 4 * (1 + np.sqrt(1 + 2 / (rows * gap))) ** 2))


def difference_of_fractions(
    hits: int, rows: int, other_hits: int, other_rows: int, risk: float
) -> float:
    """Return a lower bound of the difference of two fractions in separate sets of rows, wrong with probability `risk`.

    Newcombe, 1998, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17,
    method 10: from Wilson's interval of each.
    """
    wilson = [
        stats.binomtest(k, n).proportion_ci(1 - 2 * risk, method="wilson")
        for k, n in ((hits, rows), (other_hits, other_rows))
    ]
    share, other = hits / rows, other_hits / other_rows
    return float(share - other - np.hypot(share - wilson[0].low, wilson[1].high - other))
