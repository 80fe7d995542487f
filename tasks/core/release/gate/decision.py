"""Decide whether a new model may become champion: a verdict with every clause of the rule and its number.

params.py states the rule and its risks, docs/gate.md explains it, and `make gate-simulation` measures it.
"""

import math
from collections.abc import Sequence

import numpy as np

from tasks.core.decision import predict_labels, without_costs
from tasks.core.evaluation import metrics
from tasks.core.evaluation.calibration_error import calibration_error, calibration_noise
from tasks.core.evaluation.comparison import Pair, difference_of_fractions
from tasks.core.evaluation.metrics import Floats
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.models.class_costs import costs_text
from tasks.core.release.gate.champion import (
    NONE_YET,
    against_champion,
    behaviour,
    comparison_rule,
    slices,
)
from tasks.core.release.gate.evidence import Clause, Evidence, Verdict
from tasks.core.release.gate.minimum_evidence import shown_by_test_set
from tasks.core.release.gate.other_test_set import NOT_WORSE_THERE, OTHER, compare_there
from tasks.core.release.gate.params import GateParams

__all__ = ["Clause", "Evidence", "GateParams", "Verdict", "decide", "overlap_option"]


def decide(evidence: Evidence, params: GateParams, evaluation: EvaluationParams) -> Verdict:
    """Apply the rule.

    A clause that is switched off or has no data is left out of the verdict. For the first champion, the clauses that
    compare with a champion pass and say so.

    Args:
        evidence: of the candidate, the baseline and the present champion.
        params: the rule.
        evaluation: how intervals are drawn, and the bins of the calibration error.
    Raises:
        ValueError: arrays of the evidence do not have the same rows.
    """
    warnings: list[str] = []
    optional_clauses = [
        *_other_test_set(evidence, params, warnings),
        *shown_by_test_set(evidence, params, warnings),
        _accuracy(evidence, params),
        _macro_f1(evidence, params),
        _baseline(evidence, params, evaluation),
        against_champion(evidence, params, evaluation, warnings),
        slices(evidence, params),
        behaviour(evidence, params, warnings),
        _failing_checks(evidence, params),
        _calibration(evidence, params, evaluation),
        _size(evidence, params),
        _slowdown(evidence, params),
        _speed(evidence, params),
        _unseen(evidence, params),
        _overlap(evidence, params),
        _class_costs(evidence),
        _promotion_enabled(params),
    ]
    clauses = [clause for clause in optional_clauses if clause]
    return Verdict(
        promote=all(c.passed for c in clauses),
        clauses=clauses,
        warnings=warnings,
        beside=_ordinal_metrics(evidence),
    )


def _class_costs(evidence: Evidence) -> Clause | None:
    """Return the clause that a person, not the gate, decides what errors cost; None if nobody has class costs."""
    own, other = evidence.class_costs, evidence.champion_class_costs
    if not own and not other:
        return None
    text = _named(evidence, own)
    same = evidence.champion is None or np.allclose(_relative(own), _relative(other))
    if evidence.champion is not None:
        text += f" against {_named(evidence, other)} of {evidence.champion_name}"
    if not same:
        text += "; set registration.class_costs to the champion's, or let a person promote with --overrule"
    return Clause(name="class costs of the champion", passed=same, text=text)


def _relative(class_costs: Sequence[float]) -> Floats:
    """Return costs relative to their mean; 1 if there are none."""
    costs = np.asarray(class_costs or [1.0])
    return costs / costs.mean()


def _named(evidence: Evidence, class_costs: Sequence[float]) -> str:
    return costs_text(dict(zip(evidence.label_names, class_costs, strict=False))) or "none"


def _ordinal_metrics(evidence: Evidence) -> list[str]:
    """For labels on a scale, return the ordinal metrics of the candidate, the baseline and the champion."""
    if evidence.scale is None:
        return []
    models = {"": evidence.candidate, "baseline ": evidence.baseline}
    if evidence.champion is not None:
        models |= {f"{evidence.champion_name} ": evidence.champion}
    metrics_by_model = {
        name: metrics.on_a_scale(evidence.labels, predict_labels(answers), evidence.scale)
        for name, answers in models.items()
    }
    own = metrics_by_model.pop("")
    return [
        f"{metric.replace('_', ' ')} {value[0]:.4f} ("
        + ", ".join(f"{name}{other[metric][0]:.4f}" for name, other in metrics_by_model.items())
        + ")"
        for metric, value in own.items()
    ]


def _other_test_set(evidence: Evidence, params: GateParams, warnings: list[str]) -> list[Clause]:
    """Return the clauses for a champion from another source or test set: the difference, and the result there."""
    other = evidence.other_test_set
    if other is None:
        return []
    passed, text, value, limit = compare_there(other, comparison_rule(params))
    if other.pair is None:
        warnings.append(f"The model's accuracy on the champion's test set is unknown: {text}")
    return [
        Clause(name=OTHER, passed=True, text=other.differs),
        Clause(name=NOT_WORSE_THERE, passed=passed, text=text, value=value, limit=limit),
    ]


def _accuracy(evidence: Evidence, params: GateParams) -> Clause | None:
    floor = params.limits.minimum_accuracy
    return _at_least("minimum accuracy", evidence.accuracy, floor) if floor else None


def _macro_f1(evidence: Evidence, params: GateParams) -> Clause | None:
    floor = params.limits.minimum_macro_f1
    if not floor:
        return None
    predicted = predict_labels(evidence.candidate)
    value = metrics.macro_f1(evidence.labels, predicted, evidence.candidate.shape[1])
    return _at_least("minimum macro-F1", value, floor)


def _at_least(name: str, value: float, floor: float) -> Clause:
    text = f"{value:.4f} against a floor of {floor:.4f}"
    return Clause(name=name, passed=value >= floor, text=text, value=value, limit=floor)


def _baseline(
    evidence: Evidence, params: GateParams, evaluation: EvaluationParams
) -> Clause | None:
    if not params.must_beat_baseline:
        return None
    other = evidence.right(evidence.baseline)
    gap = Pair.of(evidence.candidate_right, other).interval(evaluation)
    return Clause(
        name="beats the baseline",
        passed=gap.value > 0,
        text=f"{evidence.accuracy:.4f} against {other.mean():.4f}, difference {gap}",
        value=gap.value,
        limit=0.0,
    )


def _failing_checks(evidence: Evidence, params: GateParams) -> Clause | None:
    ceiling = params.behaviour.max_failure_fraction
    if ceiling >= 1 or not evidence.behaviour:
        return None
    failure_rates = {
        check: float(failed.mean()) for check, (failed, _) in evidence.behaviour.items()
    }
    worst = max(failure_rates, key=lambda check: failure_rates[check])
    rate = failure_rates[worst]
    text = f"{worst} fails in {rate:.4f} of its cases, the most of {len(failure_rates)}; limit {ceiling:.4f}"
    return Clause(
        name="behavioural checks", passed=rate <= ceiling, text=text, value=rate, limit=ceiling
    )


def _calibration(
    evidence: Evidence, params: GateParams, evaluation: EvaluationParams
) -> Clause | None:
    limit, bins = params.limits.maximum_calibration_error, evaluation.calibration_bins
    if limit >= 1:
        return None
    answers = evidence.candidate if evidence.scored is None else evidence.scored
    probabilities = without_costs(answers, evidence.class_costs)
    error = calibration_error(evidence.labels, probabilities, bins)
    noise = calibration_noise(probabilities, bins, params.clause_risk)
    by = f"as {evidence.scored_by} scores, " if evidence.scored_by else ""
    return Clause(
        name="calibration error",
        passed=error <= limit + noise,
        text=f"{by}{error:.4f} against a limit of {limit:.4f} plus {noise:.4f} allowed for chance",
        value=error,
        limit=limit + noise,
    )


def _size(evidence: Evidence, params: GateParams) -> Clause | None:
    limit = params.budget.max_parameters
    if limit is None:
        return None
    size = evidence.parameters / 1e6
    text = f"{size:.1f} million parameters against a limit of {limit:.1f} million"
    if evidence.champion_parameters is not None:
        text += f"; {evidence.champion_name} has {evidence.champion_parameters / 1e6:.1f} million"
    return Clause(name="size", passed=size <= limit, text=text, value=size, limit=limit)


def _slowdown(evidence: Evidence, params: GateParams) -> Clause | None:
    name, limit = "not slower than the champion", params.budget.max_slowdown
    if limit is None or evidence.incomparable:
        return None
    if evidence.first:
        return Clause(name=name, passed=True, text=NONE_YET)
    speed, other = evidence.reviews_per_second, evidence.champion_reviews_per_second
    if not speed or not other:
        return Clause(name=name, passed=False, text="the speed was not measured", limit=limit)
    times = other / speed
    text = f"{speed:.1f} reviews a second against {other:.1f}: {times:.2f} times as long, limit {limit:.2f}"
    return Clause(name=name, passed=times <= limit, text=text, value=times, limit=limit)


def _speed(evidence: Evidence, params: GateParams) -> Clause | None:
    name, limit = "speed", params.budget.min_reviews_per_second
    if limit is None:
        return None
    speed = evidence.reviews_per_second
    if not speed:
        return Clause(name=name, passed=False, text="it was not measured", limit=limit)
    text = f"{speed:.1f} reviews a second against a floor of {limit:.1f}"
    return Clause(name=name, passed=speed >= limit, text=text, value=speed, limit=limit)


def _unseen(evidence: Evidence, params: GateParams) -> Clause | None:
    """Compare test and validation accuracy: a model that has seen the test reviews does better on them."""
    limit = params.plausibility.max_gain_over_validation
    if limit >= 1 or not evidence.validation_rows:
        return None
    correct, rows = int(evidence.candidate_right.sum()), len(evidence.labels)
    validation_right, validation_rows = evidence.validation_right, evidence.validation_rows
    lower_bound = difference_of_fractions(
        correct, rows, validation_right, validation_rows, params.clause_risk
    )
    validation = validation_right / validation_rows
    text = (
        f"{evidence.accuracy:.4f} on {rows:,} test reviews against {validation:.4f} "
        f"on {validation_rows:,} of validation, "
        f"difference {evidence.accuracy - validation:+.4f}, "
        f"at least {lower_bound:+.4f} after allowing for chance; limit {limit:+.4f}"
    )
    return Clause(
        name="test reviews unseen in training",
        passed=lower_bound <= limit,
        text=text,
        value=lower_bound,
        limit=limit,
    )


def _overlap(evidence: Evidence, params: GateParams) -> Clause | None:
    limit = params.plausibility.max_overlap_fraction
    if limit >= 1 or evidence.overlap is None:
        return None
    fraction = evidence.overlap / len(evidence.labels)
    text = f"{evidence.overlap:,} test reviews ({fraction:.4f}) have a near-duplicate in training, limit {limit:.4f}"
    if fraction > limit:
        text += (
            f"; near-duplicates.csv lists them, and {overlap_option(fraction)} allows this fraction"
        )
    return Clause(
        name="overlap with training",
        passed=fraction <= limit,
        text=text,
        value=fraction,
        limit=limit,
    )


def overlap_option(fraction: float) -> str:
    """Return the option, as typed, that allows a test set to contain this fraction of reviews the model knows."""
    return f"--gate.plausibility.max-overlap-fraction={min(1.0, math.ceil(100 * fraction) / 100):g}"


def _promotion_enabled(params: GateParams) -> Clause | None:
    if params.promote:
        return None
    return Clause(name="promotion wanted", passed=False, text="switched off in the form")
