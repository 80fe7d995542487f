"""Fit the deferral thresholds (`band` in the records) of a cascade on validation rows, with a stated promise.

Rows whose margin is below a stage's threshold go on to the next stage. A threshold starts so high that every row goes
on to the exact engine and no answer can be wrong, and is lowered row by row. The use determines where it stops:

`exact`: labels must agree with the exact engine's. The threshold is the lowest for which the exact upper bound of
Clopper and Pearson, 1934, for the fraction of all rows that are accepted and disagree stays within the allowed one.
That fraction only grows as the threshold falls, so the bound holds for the chosen threshold (Bates et al., 2021,
"Distribution-Free, Risk-Controlling Prediction Sets"). With fewer rows than such a bound needs (2,995 for 99.9% at a
risk of 5%), the threshold is `SAFETY` times the largest overstatement of a margin in the rows. A label can then differ
only if a margin is overstated by more than in all n rows, which happens in at most 1 of n + 1, and at the same time is
within that distance of the decision boundary, which is rare.

`labels`: as `exact`, but other models may answer before. They share the allowed disagreement, by the same bound. A
model answers no row if there are too few rows for the bound, or if it would answer hardly any. The last stage but one
is the exact engine's own model in lower precision, which errs near the decision boundary only. If other models answer
before it, its threshold is the one for few rows. The decision to leave out a model uses the same rows, which in the
worst case doubles the risk.

`fast`: accuracy must not be lower than the exact engine's. The threshold is lowered while the lower bound of the paired
difference in accuracy (Tango's, as in the gate) is within the margin, and stops where it first is not: a fixed-sequence
test, whose risk is that of one test (Angelopoulos et al., 2021, "Learn then Test"). Of the thresholds on the way, the
chosen one is the lowest at which at least as many validation rows are correct as with the exact engine.

Several cheap stages of a fast cascade share the risk evenly.

Two answers agree if they have the same label and, if `maximum_change` is set, probabilities that differ by no more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tasks.core.decision import predict_labels
from tasks.core.engines.protocol import softmax
from tasks.core.evaluation.comparison import lower_bound

Logits = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Use: TypeAlias = Literal["exact", "labels", "fast"]
#: Safety factor on the largest observed overstatement of a margin, if there are too few rows for a bound.
SAFETY = 1.25
NOTHING = math.inf  # the threshold of a stage whose answers are never accepted
#: The fraction of all rows that another model must answer to be worth running, if labels are kept.
LEAST_SHARE = 0.05


@dataclass(frozen=True)
class CascadeRule:
    """The rule that a cascade must satisfy."""

    use: Use = "exact"
    minimum_agreement: float = 0.999  # with the labels of the exact engine
    accuracy_margin: float = 0.005  # non-inferiority margin of the accuracy, at the risk below
    risk: float = 0.05
    maximum_change: float = 1.0  # of a probability; a row with a larger change does not agree
    blends: bool = False  # fast cascades only: later stages add the first one's logits to theirs

    def shared_by(self, stages: int) -> "CascadeRule":
        """Return the rule for each of several stages, which divide the allowed disagreement and the risk."""
        allowed = (1 - self.minimum_agreement) / stages
        return replace(self, minimum_agreement=1 - allowed, risk=self.risk / stages)


def margins(logits: Logits) -> NDArray[np.float32]:
    """Return each row's best logit minus its second best, shape (rows,); infinite if there is one class."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf, dtype=np.float32)
    best = np.partition(logits, -2, axis=1)
    return best[:, -1] - best[:, -2]


def most_failures(rows: int, share: float, risk: float) -> int:
    """Return the most failures in `rows` that show a true failure rate of at most `share`, at a risk of `risk`.

    Returns -1 if even no failure would not show it.
    """
    return int(stats.binom.ppf(risk, rows, share)) - 1 if rows >= least_rows(share, risk) else -1


def least_rows(share: float, risk: float) -> float:
    """Return the fewest rows that, without a failure, show a true failure rate of at most `share`.

    Infinite if no number can show it.
    """
    return math.ceil(math.log(risk) / math.log1p(-share)) if share > 0 else math.inf


def shown_share(failures: int, rows: int, risk: float) -> float:
    """Return the lower bound of the fraction of all rows that do not fail, at a risk of `risk`.

    This is the Clopper-Pearson bound that `most_failures` uses: 0 failures in 167 rows show 98.2%.
    """
    return (
        float(1 - stats.beta.isf(risk, failures + 1, rows - failures)) if failures < rows else 0.0
    )


def changes(logits: Logits, exact: Logits) -> NDArray[np.float64]:
    """Return the largest difference of a probability in each row, shape (rows,)."""
    return np.abs(softmax(logits) - softmax(exact)).max(axis=1, initial=0.0)


def disagree(logits: Logits, exact: Logits, maximum_change: float = 1.0) -> Bools:
    """Return True for rows with another label, or a probability that differs by more than allowed; shape (rows,)."""
    other = predict_labels(logits) != predict_labels(exact)
    return other if maximum_change >= 1 else other | (changes(logits, exact) > maximum_change)


def overstatement(cheap: Logits, exact: Logits) -> NDArray[np.float32]:
    """Return how much larger each margin is than the exact engine's margin for the same label, shape (rows,)."""
    label = predict_labels(cheap)[:, None]
    others = exact.copy()
    np.put_along_axis(others, label, -np.inf, axis=1)
    own = np.take_along_axis(exact, label, axis=1)[:, 0]
    return margins(cheap) - (own - others.max(axis=1))


def fit_deferral_thresholds(
    answers: Sequence[Logits],
    labels: Ints | None,
    rule: CascadeRule,
    reference: Logits | None = None,
) -> tuple[list[float], Ints]:
    """Fit a threshold for every stage but the last; return them, and the label that the cascade gives each row.

    Args:
        answers: logits of every stage for the same validation rows, cheapest first, the exact engine last.
        labels: true class ids, shape (rows,); may be None unless `rule.use` is fast.
        rule: the rule to satisfy.
        reference: logits of the engine that the cascade is compared with; None for the last stage's.
    Raises:
        ValueError: labels are needed and missing, shapes do not match, or an exact cascade has more than two stages.
    """
    last, cheap = answers[-1], answers[:-1]
    exact = last if reference is None else reference
    if any(stage_logits.shape != exact.shape for stage_logits in answers) or not exact.shape[1]:
        raise ValueError("the stages have not answered the same rows")
    if rule.use == "exact" and len(cheap) > 1:
        raise ValueError("an exact cascade has one stage before the exact engine")
    if labels is None and rule.use == "fast":
        raise ValueError("a fast cascade is fitted on labelled rows")
    predicted = predict_labels(last)
    remaining = np.ones(len(exact), dtype=np.bool_)
    deferral_thresholds: list[float] = []
    for number, stage_logits in enumerate(cheap):
        sweep = _ThresholdSweep(
            stage_logits, exact, labels, predicted, remaining, rule.maximum_change
        )
        if rule.use == "fast":
            threshold = _fast_threshold(sweep, rule.shared_by(len(cheap)))
        elif number < len(cheap) - 1:
            threshold = _other_models_threshold(sweep, rule.shared_by(len(cheap) - 1))
        elif all(before == NOTHING for before in deferral_thresholds):
            threshold = _exact_threshold(sweep, rule)
        else:
            threshold = _safe_threshold(sweep)
        deferral_thresholds.append(threshold)
        taken = remaining & (margins(stage_logits) >= deferral_thresholds[-1])
        predicted = np.where(taken, predict_labels(stage_logits), predicted)
        remaining &= ~taken
    return deferral_thresholds, predicted


class _ThresholdSweep:
    """The effect of lowering one stage's threshold: one entry for each margin at which it may stop, highest first.

    Attributes:
        rows: the number of validation rows, including those that an earlier stage answers.
        thresholds: the margins at which rows are accepted, descending.
        taken: the number of rows accepted.
        differing: the number of accepted rows that do not agree with the exact engine.
        better, worse: rows that only the whole cascade, or only the exact engine, answers correctly; None without
            labels.
    """

    def __init__(
        self,
        logits: Logits,
        exact: Logits,
        labels: Ints | None,
        predicted: Ints,
        remaining: Bools,
        maximum_change: float = 1.0,
    ) -> None:
        self.logits, self.exact, self.rows = logits, exact, len(exact)
        gaps, mine, theirs = margins(logits), predict_labels(logits), predict_labels(exact)
        indices = np.flatnonzero(remaining)
        order = indices[np.argsort(-gaps[indices], kind="stable")]
        ends = np.flatnonzero(np.diff(gaps[order], append=-1.0))  # equal margins stay together
        self.thresholds = gaps[order][ends].astype(np.float64)
        self.taken = ends + 1
        self.differing = np.cumsum(disagree(logits, exact, maximum_change)[order])[ends]
        self.better: Ints | None = None
        self.worse: Ints | None = None
        if labels is not None:
            right, exactly, before = mine == labels, theirs == labels, predicted == labels
            gained = (right & ~exactly).astype(np.int64) - (before & ~exactly)
            lost = (exactly & ~right).astype(np.int64) - (exactly & ~before)
            self.better = np.cumsum(gained[order])[ends] + (before & ~exactly).sum()
            self.worse = np.cumsum(lost[order])[ends] + (exactly & ~before).sum()

    def lowest(self, allowed: Bools) -> float:
        """Return the lowest allowed threshold at which at least as many rows are correct as with the exact engine."""
        if self.better is not None and self.worse is not None:
            allowed = allowed & (self.better >= self.worse)
        stops = np.flatnonzero(allowed)
        if not len(stops):
            return NOTHING
        return 0.0 if stops[-1] == len(self.thresholds) - 1 else float(self.thresholds[stops[-1]])


def _exact_threshold(sweep: _ThresholdSweep, rule: CascadeRule) -> float:
    limit = most_failures(sweep.rows, 1 - rule.minimum_agreement, rule.risk)
    if limit >= 0:
        return sweep.lowest(sweep.differing <= limit)
    return _safe_threshold(sweep)


def _safe_threshold(sweep: _ThresholdSweep) -> float:
    if not sweep.rows:
        return NOTHING
    largest = float(overstatement(sweep.logits, sweep.exact).max())
    return max(SAFETY * largest, float(np.finfo(np.float32).tiny))


def _other_models_threshold(sweep: _ThresholdSweep, rule: CascadeRule) -> float:
    limit = most_failures(sweep.rows, 1 - rule.minimum_agreement, rule.risk)
    threshold = sweep.lowest(sweep.differing <= limit)
    answered = sweep.taken[sweep.thresholds >= threshold].max(initial=0)
    return threshold if answered >= LEAST_SHARE * sweep.rows else NOTHING


def _fast_threshold(sweep: _ThresholdSweep, rule: CascadeRule) -> float:
    better, worse = sweep.better, sweep.worse
    if better is None or worse is None or not len(sweep.thresholds):
        return NOTHING
    least = lower_bound(sweep.rows, better, worse, rule.risk)
    within = np.logical_and.accumulate(least >= -rule.accuracy_margin)
    return sweep.lowest(within)
