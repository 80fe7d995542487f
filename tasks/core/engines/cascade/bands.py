"""Fit the deferral thresholds (`band` in the records) of a cascade on validation rows, with a statistical guarantee.

A stage answers the rows whose margin reaches its threshold, and passes the others on. A threshold starts so high that
every row reaches the exact engine, the last stage, and is then lowered row by row. `CascadeRule.use` decides where it
stops:

`exact`: labels must agree with the exact engine's. The more rows a stage answers, the more of its labels may differ, so
the threshold is the lowest at which an upper bound for the fraction of rows with a different label (Clopper and
Pearson, 1934) is within the limit. That fraction only grows as the threshold falls, so the bound holds for the chosen
threshold (Bates et al., 2021, "Distribution-Free, Risk-Controlling Prediction Sets"). The bound needs 2,995 rows to
show 99.9% at a risk of 5%. With fewer, the threshold is `SAFETY` times the largest overstatement of a margin among the
n rows. A new row gets a different label only if its margin is overstated by more than that, which happens to at most 1
row in n + 1, and if it is also that close to the decision boundary, which is rare.

`labels`: like `exact`, but other models may come first. They share the allowed disagreement, under the same bound. A
model is left out if there are too few rows for the bound, or if it would answer hardly any. This decision uses the same
rows, which at worst doubles the risk. The stage before the exact engine is the same model in lower precision, which
errs only near the decision boundary. If other models come before it, it gets the threshold for few rows.

`fast`: accuracy must not be lower than the exact engine's. The threshold is lowered until the lower bound of the paired
difference in accuracy (Tango's, as in the gate) first leaves the margin. This is a fixed-sequence test, whose risk is
that of one test (Angelopoulos et al., 2021, "Learn then Test"). Of the thresholds passed on the way, the lowest is
chosen at which at least as many validation rows are correct as with the exact engine.

The cheap stages of a fast cascade share the risk evenly.

Two answers agree if they have the same label and, if `maximum_change` is set, probabilities that differ by no more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tasks.core.decision import log_costs, predict_labels
from tasks.core.engines.protocol import softmax
from tasks.core.evaluation.comparison import lower_bound

Logits = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Use: TypeAlias = Literal["exact", "labels", "fast"]
#: Factor on the largest overstatement of a margin that was observed, where there are too few rows for a bound.
SAFETY = 1.25
NOTHING = math.inf  # the threshold of a stage whose answers are never accepted
#: The least fraction of all rows that makes another model worth running, where labels are kept.
LEAST_SHARE = 0.05


@dataclass(frozen=True)
class CascadeRule:
    """What a cascade must guarantee, compared with the exact engine."""

    use: Use = "exact"
    minimum_agreement: float = 0.999  # with the labels of the exact engine
    accuracy_margin: float = 0.005  # accepted loss of accuracy
    risk: float = 0.05  # that the agreement or the accuracy is lower than stated
    maximum_change: float = 1.0  # of a probability; a row with a larger change does not agree
    blends: bool = False  # fast cascades only: later stages add the first one's logits to theirs
    class_costs: Sequence[float] = ()  # in all logits; probabilities are compared without them

    def shared_by(self, stages: int) -> "CascadeRule":
        """Return the rule for one of several stages, which divide the allowed disagreement and the risk evenly."""
        allowed = (1 - self.minimum_agreement) / stages
        return replace(self, minimum_agreement=1 - allowed, risk=self.risk / stages)


def margins(logits: Logits) -> NDArray[np.float32]:
    """Return each row's best logit minus its second best, shape (rows,); infinite if there is one class."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf, dtype=np.float32)
    best = np.partition(logits, -2, axis=1)
    return best[:, -1] - best[:, -2]


def most_failures(rows: int, share: float, risk: float) -> int:
    """Return how many of `rows` may fail and still show that at most a fraction `share` fails, at a risk of `risk`.

    Returns -1 if there are too few rows to show it, even without a failure.
    """
    return int(stats.binom.ppf(risk, rows, share)) - 1 if rows >= least_rows(share, risk) else -1


def least_rows(share: float, risk: float) -> float:
    """Return how many rows without a failure show that at most a fraction `share` fails, at a risk of `risk`.

    Infinite if `share` is 0.
    """
    return math.ceil(math.log(risk) / math.log1p(-share)) if share > 0 else math.inf


def shown_share(failures: int, rows: int, risk: float) -> float:
    """Return the success rate that `failures` in `rows` show, at a risk of `risk`: the lower Clopper-Pearson bound.

    0 failures in 167 rows show 98.2%. `most_failures` uses the same bound.
    """
    return (
        float(1 - stats.beta.isf(risk, failures + 1, rows - failures)) if failures < rows else 0.0
    )


def changes(
    logits: Logits, exact: Logits, class_costs: Sequence[float] = ()
) -> NDArray[np.float64]:
    """Return the largest change of a probability in each row, shape (rows,), without the class costs in the logits."""
    if class_costs:
        logits, exact = logits - log_costs(class_costs), exact - log_costs(class_costs)
    return np.abs(softmax(logits) - softmax(exact)).max(axis=1, initial=0.0)


def disagree(
    logits: Logits,
    exact: Logits,
    maximum_change: float = 1.0,
    class_costs: Sequence[float] = (),
) -> Bools:
    """Return True for rows with another label, or a probability that differs by more than allowed; shape (rows,)."""
    other = predict_labels(logits) != predict_labels(exact)
    if maximum_change >= 1:
        return other
    return other | (changes(logits, exact, class_costs) > maximum_change)


def overstatement(cheap: Logits, exact: Logits) -> NDArray[np.float32]:
    """Return by how much each margin exceeds the exact engine's margin for the same label, shape (rows,)."""
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
    """Fit a threshold for every stage but the last. Return the thresholds, and the cascade's label of each row.

    Args:
        answers: logits of every stage for the same validation rows, cheapest first, the exact engine last.
        labels: true class ids, shape (rows,); may be None unless `rule.use` is fast.
        rule: the rule to satisfy.
        reference: logits of the engine to compare the cascade with; None: the last stage.
    Raises:
        ValueError: a fast cascade has no labels, shapes do not match, or an exact cascade has more than two stages.
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
        differing = disagree(stage_logits, exact, rule.maximum_change, rule.class_costs)
        sweep = _ThresholdSweep(stage_logits, exact, labels, predicted, remaining, differing)
        if rule.use == "fast":
            threshold = _fast_threshold(sweep, rule.shared_by(len(cheap)))
        elif number < len(cheap) - 1:
            threshold = _other_model_threshold(sweep, rule.shared_by(len(cheap) - 1))
        elif all(before == NOTHING for before in deferral_thresholds):
            threshold = _exact_threshold(sweep, rule)
        else:
            threshold = _threshold_for_few_rows(sweep)
        deferral_thresholds.append(threshold)
        taken = remaining & (margins(stage_logits) >= deferral_thresholds[-1])
        predicted = np.where(taken, predict_labels(stage_logits), predicted)
        remaining &= ~taken
    return deferral_thresholds, predicted


class _ThresholdSweep:
    """The effect of lowering one stage's threshold, as arrays: one entry per possible threshold, highest first.

    Attributes:
        rows: the number of validation rows, including those that an earlier stage answers.
        thresholds: the margins of the rows that reach this stage, descending.
        taken: the number of rows that the stage answers.
        differing: the number of these that do not agree with the exact engine.
        better, worse: the number of rows that only the cascade, or only the exact engine, answers correctly; None
            without labels.
    """

    def __init__(
        self,
        logits: Logits,
        exact: Logits,
        labels: Ints | None,
        predicted: Ints,
        remaining: Bools,
        differing: Bools,
    ) -> None:
        self.logits, self.exact, self.rows = logits, exact, len(exact)
        row_margins = margins(logits)
        indices = np.flatnonzero(remaining)
        order = indices[np.argsort(-row_margins[indices], kind="stable")]
        # The last row of each run of equal margins: such rows are answered together or not at all.
        ends = np.flatnonzero(np.diff(row_margins[order], append=-1.0))
        self.thresholds = row_margins[order][ends].astype(np.float64)
        self.taken = ends + 1
        self.differing = np.cumsum(differing[order])[ends]
        self.better: Ints | None = None
        self.worse: Ints | None = None
        if labels is not None:
            stage_right = predict_labels(logits) == labels
            exact_right = predict_labels(exact) == labels
            before_right = predicted == labels  # the cascade, if this stage answers no row
            better_before, worse_before = before_right & ~exact_right, exact_right & ~before_right
            gained = (stage_right & ~exact_right).astype(np.int64) - better_before
            lost = (exact_right & ~stage_right).astype(np.int64) - worse_before
            self.better = np.cumsum(gained[order])[ends] + better_before.sum()
            self.worse = np.cumsum(lost[order])[ends] + worse_before.sum()

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
    return _threshold_for_few_rows(sweep)


def _threshold_for_few_rows(sweep: _ThresholdSweep) -> float:
    if not sweep.rows:
        return NOTHING
    largest = float(overstatement(sweep.logits, sweep.exact).max())
    return max(SAFETY * largest, float(np.finfo(np.float32).tiny))


def _other_model_threshold(sweep: _ThresholdSweep, rule: CascadeRule) -> float:
    limit = most_failures(sweep.rows, 1 - rule.minimum_agreement, rule.risk)
    threshold = sweep.lowest(sweep.differing <= limit)
    answered = sweep.taken[sweep.thresholds >= threshold].max(initial=0)
    return threshold if answered >= LEAST_SHARE * sweep.rows else NOTHING


def _fast_threshold(sweep: _ThresholdSweep, rule: CascadeRule) -> float:
    better, worse = sweep.better, sweep.worse
    if better is None or worse is None or not len(sweep.thresholds):
        return NOTHING
    gain_bounds = lower_bound(sweep.rows, better, worse, rule.risk)
    within_margin = np.logical_and.accumulate(gain_bounds >= -rule.accuracy_margin)
    return sweep.lowest(within_margin)
