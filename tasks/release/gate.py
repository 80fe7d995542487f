"""The gate as a step: turn the evidence on candidate, baseline and champion into a stored verdict."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.data import validation
from tasks.core.data.labels import scale_of
from tasks.core.engines.selection.records import EngineProof
from tasks.core.errors import ModelError, RegistryError, RegistryUnavailableError
from tasks.core.evaluation.behaviour.params import BehaviourParams
from tasks.core.evaluation.params import EvaluationParams
from tasks.core.quality.known_reviews import in_all
from tasks.core.quality.params import InspectionParams
from tasks.core.quality.records import InspectionSummary
from tasks.core.records import ModelVersion, Reference, SplitSummary
from tasks.core.release.gate import decision as gate
from tasks.core.release.gate.decision import overlap_option
from tasks.core.release.gate.evidence import Evidence, Verdict
from tasks.core.release.gate.minimum_evidence import of_test_rows, refusal
from tasks.core.release.gate.other_test_set import OtherTestSet
from tasks.core.release.gate.params import GateParams
from tasks.core.training.records import TrainingSummary
from tasks.data.champion_data import known_by, split_of
from tasks.data.test_set import TestSet, read_test_set
from tasks.evaluation.behavioural_tests import Behaviour, Checks, check_behaviour
from tasks.evaluation.predictions import Evaluation, evaluate_model, read_predictions
from tasks.registry.models import JudgedModel
from tasks.release.model_costs import count_parameters, reviews_per_second
from tasks.runtime.steps import reuse_or_make, step

logger = logging.getLogger(__name__)

VERDICT_VERSION = 5
_SPEED_REVIEWS = 64


@dataclass(frozen=True)
class Candidate:
    """A trained model and the evidence about it."""

    model: Reference[TrainingSummary]
    evaluation: Evaluation
    behaviour: Behaviour
    proof: Reference[EngineProof] | None = None  # of the engine that scores, unless that is torch


@dataclass(frozen=True)
class Champion:
    """The current champion on the same rows and cases, or why it cannot be compared."""

    version: ModelVersion
    evaluation: Evaluation | None = None
    behaviour: Behaviour | None = None
    incomparable: str = ""
    other_test_set: OtherTestSet | None = None


@step
def evaluate_champion(
    version: ModelVersion | None,
    split: Reference[SplitSummary],
    checks: Checks,
    evaluation: EvaluationParams,
    behaviour: BehaviourParams,
    gate: GateParams,
    inspection: InspectionParams,
) -> Champion | None:
    """Evaluate the champion on the candidate's test rows and cases, or reuse an earlier result.

    Args:
        version: the champion; None if there is none.
        split: the split with the test set.
        checks: the behavioural checks.
        evaluation, behaviour, gate: groups of the form.
        inspection: the definition of a near-duplicate.
    """
    if version is None:
        return None
    if knows_too_much := _knows_too_much(version, split, inspection, gate):
        return Champion(version, incomparable=knows_too_much)
    try:
        return Champion(
            version,
            evaluate_model.fn(version, split, evaluation),
            check_behaviour.fn(version, split, checks, behaviour),
        )
    except RegistryUnavailableError:
        raise
    except (ModelError, RegistryError) as error:  # different labels; files that are gone
        reason = f"{version} cannot be compared: {error}; {_overrule(version)}"
        return Champion(version, incomparable=reason)


def _knows_too_much(
    version: ModelVersion,
    split: Reference[SplitSummary],
    inspection: InspectionParams,
    gate: GateParams,
) -> str:
    """Return why a champion cannot be judged on a test set, because it has seen too much of it; '' if it can."""
    seen = split_of(version)
    if seen is None or seen.summary.test_digest == split.summary.test_digest:
        return ""
    overlap, rows = known_by(seen, split, inspection), split.summary.rows["test"]
    fraction, limit = overlap / rows, gate.plausibility.max_overlap_fraction
    if not overlap:
        return ""
    logger.warning(
        "%s of the test reviews (%.1f%%) have a near-duplicate in what %s was trained on",
        f"{overlap:,}",
        100 * fraction,
        version,
    )
    if fraction <= limit or limit >= 1:
        return ""
    return (
        f"{version} cannot be compared: {overlap:,} of the test reviews ({fraction:.4f}) have a near-duplicate in what "
        f"it was trained on, limit {limit:.4f}; {overlap_option(fraction)} compares them anyway, and "
        f"{_overrule(version)}"
    )


def _overrule(version: ModelVersion) -> str:
    command = f"promote --model-name={version.name} --who=NAME --reason=WHY --overrule"
    return f"'{command}' makes the challenger the champion without a comparison"


@step
def judge(
    candidate: Candidate,
    baseline: Evaluation,
    champion: Champion | None,
    split: Reference[SplitSummary],
    inspection: Reference[InspectionSummary],
    params: GateParams,
    evaluation: EvaluationParams,
) -> Reference[Verdict]:
    """Apply the gate; the verdict is kept under the digest of its inputs."""
    inputs = {
        "version": VERDICT_VERSION,
        "evaluation": candidate.evaluation.digest,
        "behaviour": candidate.behaviour.digest,
        "engine": candidate.proof.digest if candidate.proof else "",
        "baseline": baseline.digest,
        "champion": _identity(champion),
        "split": split.digest,
        "inspection": inspection.digest,
        "gate": params.identity(),
        "intervals": evaluation.identity(),
    }

    def make(folder: Path) -> Verdict:
        evidence = _evidence(candidate, baseline, champion, split, inspection, params)
        verdict = gate.decide(evidence, params, evaluation)
        verdict = verdict.model_copy(
            update={"warnings": [*verdict.warnings, *_unjudged(read_test_set(split), params)]}
        )
        (folder / "verdict.json").write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
        return verdict

    reference = reuse_or_make("verdict", inputs, Verdict, make)
    verdict = reference.summary
    log = logger.info if verdict.promote else logger.warning
    log("Gate: %s", "the model may become champion" if verdict.promote else "REFUSED")
    for clause in verdict.clauses:
        (logger.info if clause.passed else logger.warning)(
            "  %s %s: %s", "passed" if clause.passed else "FAILED", clause.name, clause.text
        )
    for figure in verdict.beside:
        logger.info("  beside: %s", figure)
    for warning in verdict.warnings:
        logger.warning("  %s", warning)
    return reference


def warn_of_few_test_rows(split: Reference[SplitSummary], params: GateParams) -> None:
    """Warn before a training if it cannot lead to a first champion."""
    test = read_test_set(split)
    rows = [row for row, again in zip(test.reviews, test.repeats(), strict=True) if not again]
    class_rows = validation.class_rows({"test": rows}, test.label_names)["test"]
    for clause in of_test_rows(class_rows, params.first_champion):
        if not clause.passed:
            logger.warning(refusal(clause))


def _unjudged(test: TestSet, params: GateParams) -> list[str]:
    _, too_small = test.slices(params.slices)
    if not too_small:
        return []
    named = ", ".join(f"{name} ({rows})" for name, rows in list(too_small.items())[:20])
    return [
        f"Slices too small to be judged (fewer than {params.slices.min_rows} reviews): {named}."
    ]


def _identity(champion: Champion | None) -> list[str] | None:
    if champion is None:
        return None
    references = [champion.evaluation, champion.behaviour]
    other = repr(champion.other_test_set) if champion.other_test_set else ""
    return [
        str(champion.version),
        champion.incomparable,
        other,
        *(r.digest for r in references if r),
    ]


def _evidence(
    candidate: Candidate,
    baseline: Evaluation,
    champion: Champion | None,
    split: Reference[SplitSummary],
    inspection: Reference[InspectionSummary],
    params: GateParams,
) -> Evidence:
    own = read_predictions(candidate.evaluation)
    theirs = champion and champion.evaluation and read_predictions(champion.evaluation)
    training = candidate.model.summary
    test = read_test_set(split)
    names = test.label_names
    speeds = _speeds(candidate.model, champion, test, params)
    sized = params.budget.max_parameters is not None
    return Evidence(
        labels=own.labels,
        label_names=names,
        candidate=own.answers,
        baseline=read_predictions(baseline).answers,
        champion=theirs.answers if theirs else None,
        champion_name=str(champion.version) if champion else "",
        incomparable=champion.incomparable if champion else "",
        slices=test.slices(params.slices)[0],
        behaviour=_behaviour(candidate, champion),
        parameters=count_parameters(candidate.model, names) if sized else 0,
        champion_parameters=count_parameters(champion.version, names)
        if sized and champion and theirs
        else None,
        reviews_per_second=speeds[0],
        champion_reviews_per_second=speeds[1],
        validation_right=round(training.validation["accuracy"] * training.validation_rows),
        validation_rows=training.validation_rows,
        overlap=_overlap(inspection.summary),
        repeats=test.repeats(),
        scale=scale_of(names),
        scored=read_predictions(candidate.proof).answers if candidate.proof else None,
        class_costs=own.class_costs,
        champion_class_costs=theirs.class_costs if theirs else (),
        other_test_set=champion.other_test_set if champion else None,
        scored_by=candidate.proof.summary.engine if candidate.proof else "",
    )


def _overlap(summary: InspectionSummary) -> int | None:
    """Count the test reviews with a near-duplicate in training."""
    if summary.test_rows_near_train is None:
        return None
    return in_all(summary.test_rows_near_train, summary.rows, summary.rows_compared)


def _behaviour(
    candidate: Candidate, champion: Champion | None
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_] | None]]:
    own = candidate.behaviour.summary
    theirs = champion.behaviour.summary if champion and champion.behaviour else None
    comparable = theirs is not None and theirs.cases_digest == own.cases_digest
    others = {c.name: c.failed for c in theirs.checks} if theirs and comparable else {}
    return {check.name: (check.failed, others.get(check.name)) for check in own.checks}


def _speeds(
    model: JudgedModel, champion: Champion | None, test: TestSet, params: GateParams
) -> tuple[float | None, float | None]:
    """Measure the reviews per second of candidate and champion; None if the rule does not ask for it."""
    if params.budget.max_slowdown is None and params.budget.min_reviews_per_second is None:
        return None, None
    models = [model]
    if champion is not None and not champion.incomparable:
        models.append(champion.version)
    speeds = reviews_per_second(models, test.label_names, test.texts[:_SPEED_REVIEWS])
    return speeds[0], speeds[1] if len(speeds) > 1 else None
