"""Compute the rows of a report from predictions: slices, labels, behavioural checks, comparison with the champion."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tasks.core.evaluation.behaviour.checks import Cases
from tasks.core.evaluation.behaviour.results import BehaviourResult
from tasks.core.evaluation.comparison import Bools, Pair
from tasks.core.evaluation.metrics import Floats, Ints
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.evaluation.plots.figures import SliceRow
from tasks.core.evaluation.records import Interval, Metrics
from tasks.core.evaluation.slices import Slice
from tasks.core.release.gate.champion import NOT_WORSE
from tasks.core.release.gate.evidence import Verdict
from tasks.core.release.gate.params import GateParams
from tasks.core.release.report.parts import CheckRow, ClassRow, Comparison

_EXAMPLES = 3


def slice_rows(
    slices: Sequence[Slice],
    candidate: Bools,
    champion: Bools | None,
    gate: GateParams,
    evaluation: EvaluationParams,
) -> list[SliceRow]:
    """Return each slice with its accuracies and whether it kept to the gate's margin.

    Args:
        slices: of the test set.
        candidate, champion: which rows each gets right, shape (rows,).
        gate: the margin, and the risk that all slices share.
        evaluation: how intervals are drawn.
    """
    rows: list[SliceRow] = []
    for part in slices:
        own = candidate[part.rows]
        row = SliceRow(str(part), part.count, share(own, evaluation.confidence))
        if champion is not None:
            theirs = champion[part.rows]
            pair = Pair.of(own, theirs)
            margin = gate.slices.margin
            row = SliceRow(
                row.name,
                row.rows,
                row.candidate,
                share(theirs, evaluation.confidence),
                pair.interval(evaluation),
                margin,
                pair.upper(gate.clause_risk / len(slices)) >= -margin,
            )
        rows.append(row)
    return rows


def share(right: Bools, confidence: float) -> Interval:
    """The fraction of right answers with Wilson's interval, which is informative even if all are right."""
    interval = stats.binomtest(int(right.sum()), len(right)).proportion_ci(confidence, "wilson")
    return Interval(value=float(right.mean()), low=float(interval.low), high=float(interval.high))


def class_rows(labels: Ints, per_class: Mapping[str, Metrics]) -> list[ClassRow]:
    """Return precision and recall of each label, in order of their ids."""
    counts = np.bincount(labels, minlength=len(per_class))
    return [
        ClassRow(name, int(count), metrics.get("precision"), metrics.get("recall"))
        for (name, metrics), count in zip(per_class.items(), counts, strict=True)
    ]


def comparison(
    name: str, candidate: Bools, champion: Bools, verdict: Verdict, evaluation: EvaluationParams
) -> Comparison:
    """Return the paired difference in accuracy, and the margin that the gate has applied."""
    limits = [c.limit for c in verdict.clauses if c.name == NOT_WORSE and c.limit is not None]
    pair = Pair.of(candidate, champion)
    return Comparison(
        champion=name,
        difference=pair.interval(evaluation),
        better=pair.better,
        worse=pair.worse,
        rows=pair.rows,
        p_value=pair.mcnemar(),
        margin=-limits[0] if limits else None,
    )


def check_rows(
    cases: Cases, candidate: BehaviourResult, champion: BehaviourResult | None
) -> list[CheckRow]:
    """Return each behavioural check, with the champion's failures if it was run on the same cases."""
    comparable = champion is not None and champion.cases_digest == candidate.cases_digest
    theirs = {c.name: c.failures for c in champion.checks} if champion and comparable else {}
    return [
        CheckRow(
            name=check.name,
            kind=check.kind,
            description=check.description,
            cases=check.cases,
            failures=check.failures,
            champion_failures=theirs.get(check.name),
            examples=cases.examples(check, _EXAMPLES),
        )
        for check in candidate.checks
    ]


def worst_errors(
    labels: Ints, predicted: Ints, probabilities: Floats, most: int
) -> NDArray[np.int64]:
    """Return the indices of the wrong answers with the highest confidence, the highest first."""
    wrong = np.flatnonzero(predicted != labels)
    order = np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")
    return wrong[order[:most]]
