"""The clauses that compare with the champion: over all test reviews, on each slice, and on behavioural checks.

The first passes only if a loss of more than the margin is excluded. The other two look in many places, so they fail
only if a loss is shown: on a slice by bounds that hold for all slices at once, in checks on average.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tasks.core.evaluation.comparison import NonInferiority, Pair, lower_bound, rows_needed
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.release.gate.evidence import Clause, Evidence
from tasks.core.release.gate.params import COMPARISON_SHARE, GateParams

NO_CHECK_WORSE = "behavioural checks not worse than the champion's"
_FEW_CHECKS = 5  # with fewer checks, their cases are counted instead
NOT_WORSE = "not worse than the champion"
NONE_YET = "there is none yet"


def comparison_rule(params: GateParams) -> NonInferiority:
    """Return the non-inferiority rule for the comparison with the champion, at its part of the refusal risk."""
    rule_params = params.champion
    widest = (
        rule_params.widest_margin if rule_params.small_test_set == "widen" else rule_params.margin
    )
    refusal = rule_params.false_refusal_risk * COMPARISON_SHARE
    return NonInferiority(rule_params.margin, widest, rule_params.false_promotion_risk, refusal)


def against_champion(
    evidence: Evidence, params: GateParams, evaluation: EvaluationParams, warnings: list[str]
) -> Clause:
    """Compare the accuracies; add what people should know about the comparison to `warnings`."""
    if evidence.incomparable:
        return Clause(name="comparable with the champion", passed=False, text=evidence.incomparable)
    if evidence.champion_right is None:
        return Clause(name=NOT_WORSE, passed=True, text=NONE_YET)
    pair = Pair.of(evidence.candidate_right, evidence.champion_right)
    if not pair.differing:
        text = f"{evidence.accuracy:.4f}, right on the same {pair.rows:,} reviews as {evidence.champion_name}"
        return Clause(
            name=NOT_WORSE, passed=True, text=text, value=0.0, limit=-params.champion.margin
        )
    return _compared(pair, evidence, params, evaluation, warnings)


def _compared(
    pair: Pair,
    evidence: Evidence,
    params: GateParams,
    evaluation: EvaluationParams,
    warnings: list[str],
) -> Clause:
    rule, name, p_value = comparison_rule(params), evidence.champion_name, pair.mcnemar()
    bound = pair.lower(rule.false_promotion_risk)
    margin = float(rule.applied(pair.rows, pair.differing))
    passed = bool(rule.passes(pair.rows, pair.better, pair.worse, margin))
    too_small = not passed and margin < rule.resolvable(pair.rows, pair.differing)
    if bound >= -rule.margin:
        margin = rule.margin  # a candidate within the requested margin needs no wider one
    text = (
        f"{evidence.accuracy:.4f} against {evidence.accuracy - pair.difference:.4f} of {name} on the same "
        f"{pair.rows:,} reviews ({pair.better:,} better, {pair.worse:,} worse), difference "
        f"{pair.interval(evaluation)}, McNemar's exact p {p_value:.3g}; lower by at most "
        f"{max(-bound, 0.0):.4f} at a risk of {rule.false_promotion_risk:g}, margin {margin:.4f}"
    )
    if margin > rule.margin:
        text += f" (widened from {rule.margin:.4f})"
        warnings.append(
            f"A test set of {pair.rows:,} reviews cannot resolve a margin of {rule.margin:.4f}, so one of {margin:.4f} "
            f"was applied; {_rows_for(rule.margin, pair, params)}"
        )
    if too_small:
        text += f"; the test set is too small to tell: {_rows_for(margin, pair, params)}"
    if pair.difference < 0 and p_value < 1 - evaluation.confidence:
        text += ", significantly worse"
        if passed:
            warnings.append(
                f"Within the margin, yet significantly worse than {name}: accuracy lower by {-pair.difference:.4f}, "
                f"McNemar's exact p {p_value:.3g}"
            )
    return Clause(name=NOT_WORSE, passed=passed, text=text, value=bound, limit=-margin)


def _rows_for(margin: float, pair: Pair, params: GateParams) -> str:
    rule = comparison_rule(params)
    rows = rows_needed(
        margin, pair.differing / pair.rows, rule.false_promotion_risk, rule.false_refusal_risk
    )
    return f"about {rows:,} reviews resolve {margin:.4f} where two models differ as often"


@dataclass(frozen=True)
class _Harm:
    """Possible losses against the champion: pairs by name, and the upper bound of each difference."""

    pairs: dict[str, Pair]
    best: NDArray[np.float64]
    margin: float

    @classmethod
    def among(cls, pairs: dict[str, Pair], margin: float, risk: float) -> "_Harm":
        """Compute bounds that all hold at once, except with probability `risk` (Bonferroni)."""
        rows, better, worse = np.array([(p.rows, p.better, p.worse) for p in pairs.values()]).T
        return cls(pairs, -lower_bound(rows, worse, better, risk / len(pairs)), margin)

    def clause(self, name: str, kind: str) -> Clause:
        """Return a clause that fails if the upper bound of a difference is below minus the margin; name the worst."""
        shown = int((self.best < -self.margin).sum())
        worst = np.argsort(self.best)[: max(shown, 1)]
        names = list(self.pairs)
        descriptions = [self._description(names[i], float(self.best[i])) for i in worst[:5]]
        what = f"{shown} shown to be" if shown else "none shown to be"
        return Clause(
            name=name,
            passed=shown == 0,
            text=f"of {len(names)} {kind}, {what} worse by more than {self.margin:.4f}; "
            + ("worst: " if shown else "nearest to it: ")
            + ", ".join(descriptions),
            value=float(self.best[worst[0]]),
            limit=-self.margin,
        )

    def _description(self, name: str, best: float) -> str:
        pair = self.pairs[name]
        return f"{name} ({pair.rows:,}) {pair.difference:+.4f}, at best {best:+.4f}"


def slices(evidence: Evidence, params: GateParams) -> Clause | None:
    name = "no slice worse than the champion's"
    if evidence.first:
        return Clause(name=name, passed=True, text=NONE_YET)
    if evidence.champion_right is None or not evidence.slices:
        return None
    better = evidence.candidate_right & ~evidence.champion_right
    worse = evidence.champion_right & ~evidence.candidate_right
    pairs = {
        str(s): Pair(s.count, int((better & s.rows).sum()), int((worse & s.rows).sum()))
        for s in evidence.slices
    }
    return _Harm.among(pairs, params.slices.margin, params.clause_risk).clause(name, "slices")


def behaviour(evidence: Evidence, params: GateParams, warnings: list[str]) -> Clause | None:
    """Judge all checks together; a single check that got worse is a warning.

    The cases of a check come from a few templates and share one phenomenon, so they fail together: two good models of
    IMDb differed by 36 of 100 cases of one check. So the unit is the check, not the case: the clause uses the mean rise
    of the failure fractions, and a one-sided t bound over checks.
    """
    if evidence.first and evidence.behaviour:
        return Clause(name=NO_CHECK_WORSE, passed=True, text=NONE_YET)
    pairs = {
        check: Pair.of(~failed, ~champion_failed)
        for check, (failed, champion_failed) in evidence.behaviour.items()
        if champion_failed is not None
    }
    if not pairs:
        return None
    harm = _Harm.among(pairs, params.behaviour.margin, params.clause_risk)
    if len(pairs) < _FEW_CHECKS:
        return harm.clause(NO_CHECK_WORSE, "checks")
    single = harm.clause(NO_CHECK_WORSE, "checks")
    if not single.passed:
        warnings.append(f"Behaviour: {single.text}")
    return _behaviour_in_all(pairs, params)


def _behaviour_in_all(pairs: dict[str, Pair], params: GateParams) -> Clause:
    rises = np.array([-pair.difference for pair in pairs.values()])
    mean, error = float(rises.mean()), float(rises.std(ddof=1) / np.sqrt(len(rises)))
    least = mean - error * float(stats.t.isf(params.clause_risk, len(rises) - 1))
    worst = list(pairs)[int(rises.argmax())]
    limit, most = params.behaviour.margin, params.behaviour.max_single_rise
    broken = most < 1 and float(rises.max()) > most
    text = (
        f"failure rates of {len(pairs)} checks rise by {mean:+.4f} on average, at least {least:+.4f} "
        f"after allowing for chance, limit {limit:+.4f}; most in {worst}: {rises.max():+.4f}, limit {most:+.4f}"
    )
    passed = least <= limit and not broken
    return Clause(name=NO_CHECK_WORSE, passed=passed, text=text, value=least, limit=limit)
