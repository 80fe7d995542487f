"""What becomes of a trained model: the second half of `retrain` and of `tune`.

evaluate -> check behaviour -> judge -> register -> report -> approve -> promote
                  baseline -^     ^- champion, on the same rows and cases
"""

import logging

from flows.parameters import RetrainParams
from flows.preparing import Prepared
from tasks import reports
from tasks.approval import ask_for_approval
from tasks.behaving import check_behaviour
from tasks.core.errors import ConflictError
from tasks.core.gate import Verdict
from tasks.core.records import (
    EvaluationSummary,
    ModelVersion,
    Record,
    Reference,
    TrainingSummary,
)
from tasks.evaluation import Evaluation, evaluate_baseline, evaluate_model
from tasks.judging import Candidate, Champion, face_champion, judge
from tasks.promotion import find_champion, keep_challenger, move_champion
from tasks.registration import register_model

logger = logging.getLogger(__name__)

_MOST_CONFLICTS = 5  # with others who promote at the same time


class Retrained(Record):
    """What a retraining came to."""

    version: ModelVersion
    promoted: bool
    verdict: Verdict
    evaluation: EvaluationSummary
    baseline: EvaluationSummary
    train_rows: int
    training_seconds: float
    steps_reused: list[str]
    model_uri: str


def conclude(
    params: RetrainParams, prepared: Prepared, model: Reference[TrainingSummary]
) -> Retrained:
    """Evaluate a trained model, register it, and promote it to champion if the gate, and who is asked, let it."""
    split = prepared.split
    candidate = Candidate(
        model,
        evaluate_model(model, split, params.evaluation),
        check_behaviour(model, split, params.behaviour),
    )
    baseline = evaluate_baseline(split, params.evaluation)
    version, verdict, promoted = _settled(params, prepared, candidate, baseline)
    steps = (*prepared.steps, model, candidate.evaluation, candidate.behaviour, baseline, verdict)
    return Retrained(
        version=version,
        promoted=promoted,
        verdict=verdict.summary,
        evaluation=candidate.evaluation.summary,
        baseline=baseline.summary,
        train_rows=model.summary.train_rows,
        training_seconds=model.summary.seconds,
        steps_reused=[step.kind for step in steps if step.reused],
        model_uri=model.uri,
    )


_Outcome = tuple[ModelVersion, Reference[Verdict], bool]


def _settled(
    params: RetrainParams, prepared: Prepared, candidate: Candidate, baseline: Evaluation
) -> _Outcome:
    """Judged until no other has moved the champion meanwhile; version, verdict, and whether it is champion now."""
    for _ in range(_MOST_CONFLICTS):
        try:
            return _judged(params, prepared, candidate, baseline)
        except ConflictError as error:
            logger.warning("%s; the model is judged again, against the champion of now", error.what)
    return _judged(params, prepared, candidate, baseline)


def _judged(
    params: RetrainParams, prepared: Prepared, candidate: Candidate, baseline: Evaluation
) -> _Outcome:
    """Judged against the champion of now, registered, and promoted or not.

    Raises:
        ConflictError: the champion is another one by the time the model would follow it.
    """
    name, split = params.registration.model_name, prepared.split
    champion = face_champion(find_champion(name), split, params.evaluation, params.behaviour)
    verdict = judge(
        candidate, baseline, champion, split, prepared.inspection, params.gate, params.evaluation
    )
    made = [*prepared.steps, candidate.model, candidate.evaluation, candidate.behaviour, verdict]
    lineage = {step.kind: step.uri for step in made} | {"baseline": baseline.uri}
    version = register_model(
        candidate, split, baseline, verdict, params.model_dump(), lineage, name
    )
    text = reports.evaluation_text(
        candidate.evaluation.summary, baseline.summary, verdict.summary, version
    )
    reports.publish_text("evaluation", text, f"How {version} does, and what the gate says of it")
    return version, verdict, _promoted(params, version, verdict, champion, text)


def _promoted(
    params: RetrainParams,
    version: ModelVersion,
    verdict: Reference[Verdict],
    champion: Champion | None,
    evidence: str,
) -> bool:
    """Whether the version is the champion now."""
    present = champion.version if champion else None
    if not verdict.summary.promote:
        keep_challenger(version, present, "the gate has refused it")
        return False
    if present and present.version == version.version:
        logger.info("promote: %s is the champion already", version)
        return True
    kind, who, why = "gate", "retrain", "It passed every clause of the gate."
    if params.approval.required:
        decision = ask_for_approval(evidence, params.approval)
        if not decision.approved:
            keep_challenger(version, present, f"rejected by {decision.who}: {decision.why}")
            return False
        kind, who, why = "approval", decision.who, decision.why
    move_champion(version, kind, who, why, present, verdict.uri)
    return True
