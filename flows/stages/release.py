"""From a trained model to a release: the second half of `retrain` and of `tune`.

evaluate -> check behaviour -> choose engine, prove it -> judge -> register -> report -> approve -> promote
                                              baseline -^     ^- champion, on the same rows and cases
"""

import logging
from dataclasses import dataclass, replace

from flows.forms.pipelines import RetrainParams
from flows.stages.preparation import Prepared
from flows.stages.results import Retrained
from tasks.core.engines.selection.records import EngineChoice, EngineProof
from tasks.core.errors import ConflictError
from tasks.core.markdown import Markdown, link
from tasks.core.records import ModelVersion, Reference
from tasks.core.release.gate.evidence import Verdict
from tasks.core.training.records import TrainingSummary
from tasks.engines.verification import proven_engine
from tasks.evaluation.behavioural_tests import check_behaviour
from tasks.evaluation.other_test_set import ask_old_test_set
from tasks.evaluation.predictions import Evaluation, evaluate_baseline, evaluate_model
from tasks.registry.champion import find_opponent, move_champion
from tasks.registry.decisions import human_veto, keep_challenger
from tasks.release.approval import ask_for_approval
from tasks.release.gate import Candidate, evaluate_champion, judge
from tasks.release.registration import register_model
from tasks.release.report import Judged, explain_errors, report_version
from tasks.runtime.reporting import artifacts

logger = logging.getLogger(__name__)

_MOST_CONFLICTS = 5  # with concurrent promotions


def conclude(
    params: RetrainParams, prepared: Prepared, model: Reference[TrainingSummary]
) -> Retrained:
    """Evaluate a trained model, register it, and promote it if the gate and, if asked, a person allow it."""
    split = prepared.split
    candidate = Candidate(
        model,
        evaluate_model(model, split, params.evaluation),
        check_behaviour(model, split, prepared.checks, params.behaviour),
    )
    baseline = evaluate_baseline(split, params.evaluation)
    engine, proof = proven_engine(
        model,
        prepared.tokens,
        candidate.evaluation,
        split,
        params.engines,
        params.registration.model_name,
    )
    candidate = replace(candidate, proof=proof)
    release = _settled(params, prepared, candidate, baseline, (engine, proof))
    verdict = release.verdict
    results = (model, candidate.evaluation, candidate.behaviour, baseline, engine, verdict)
    steps = (*prepared.steps, *results, *filter(None, [proof]))
    return Retrained(
        version=release.version,
        promoted=release.promoted,
        verdict=verdict.summary,
        evaluation=candidate.evaluation.summary,
        baseline=baseline.summary,
        train_rows=model.summary.train_rows,
        training_seconds=model.summary.seconds,
        steps_reused=[step.kind for step in steps if step.reused],
        model_uri=model.uri,
        report_uri=release.report_uri,
    )


_Engine = tuple[Reference[EngineChoice], Reference[EngineProof] | None]


@dataclass(frozen=True)
class _Release:
    """A registered version, the verdict on it, the URI of its report, and whether it is the champion now."""

    version: ModelVersion
    verdict: Reference[Verdict]
    report_uri: str
    promoted: bool


def _settled(
    params: RetrainParams,
    prepared: Prepared,
    candidate: Candidate,
    baseline: Evaluation,
    engine: _Engine,
) -> _Release:
    """Judge until no concurrent promotion interferes, and return the release."""
    for _ in range(_MOST_CONFLICTS):
        try:
            return _judged(params, prepared, candidate, baseline, engine)
        except ConflictError as error:
            logger.warning("%s; judging the model again, against the current champion", error.what)
    return _judged(params, prepared, candidate, baseline, engine)


def _judged(
    params: RetrainParams,
    prepared: Prepared,
    candidate: Candidate,
    baseline: Evaluation,
    engine: _Engine,
) -> _Release:
    """Judge against the current champion, register, and promote or not.

    Raises:
        ConflictError: the champion has changed by the time the model would replace it.
    """
    name, split = params.registration.model_name, prepared.split
    opponent = find_opponent(name)
    champion = evaluate_champion(
        opponent.to_beat,
        split,
        prepared.checks,
        params.evaluation,
        params.behaviour,
        params.gate,
        params.data.inspection,
    )
    other = ask_old_test_set(
        candidate.model,
        opponent.to_beat,
        split,
        prepared.loaded.summary.source,
        params.evaluation,
        params.data.inspection,
        params.gate.plausibility.max_overlap_fraction,
    )
    champion = champion and replace(champion, other_test_set=other)
    verdict = judge(
        candidate, baseline, champion, split, prepared.inspection, params.gate, params.evaluation
    )
    steps = [*prepared.steps, candidate.model, candidate.evaluation, candidate.behaviour, verdict]
    judged = Judged(
        model_name=name,
        candidate=candidate,
        baseline=baseline,
        champion=champion,
        verdict=verdict,
        split=split,
        inspection=prepared.inspection,
        source=params.data.source.location,
        lineage={step.kind: step.uri for step in steps} | {"baseline": baseline.uri},
        params=params.model_dump(),
        gate=params.gate,
        evaluation=params.evaluation,
        behaviour=params.behaviour,
        checks=prepared.checks,
        loaded=prepared.loaded.summary,
        label_map=params.data.source.label_map,
        engine=engine[0],
        proof=engine[1],
    )
    version = register_model(judged)
    text = artifacts.evaluation_text(
        candidate.evaluation.summary, baseline.summary, verdict.summary, version
    )
    artifacts.publish_text("evaluation", text, f"Evaluation of {version}, and the gate's verdict")
    report_uri, promoted = _promoted(params, version, judged, opponent.champion, text)
    return _Release(version, verdict, report_uri, promoted)


def _promoted(
    params: RetrainParams,
    version: ModelVersion,
    judged: Judged,
    present: ModelVersion | None,
    text: Markdown,
) -> tuple[str, bool]:
    """Promote if the decision allows it. Return the report's URI, and whether the version is the champion now.

    A decision takes effect before the report on it is written.
    """
    is_champion = present is not None and present.is_same_as(version)
    passed = judged.verdict.summary.promote
    waits = passed and params.approval.required and not is_champion
    errors = explain_errors(judged.candidate, judged.split, params.report)
    url = report_version(version, judged, errors, params.report, None, waits)
    if not passed:
        keep_challenger(version, present, "the gate has refused it")
        return url, False
    if is_champion:
        logger.info("promote: %s is already the champion", present)
        return url, True
    objection = human_veto(version)
    if objection and not waits:
        keep_challenger(version, present, objection)
        return url, False
    kind, who, why = "gate", "retrain", "It passed every clause of the gate."
    if present and present.has_weights_of(version):
        why += f" It has the weights of {present} with another engine: {version.engine}."
    decision = None
    if waits:
        before = Markdown("\n**Before now: {}**\n").format(objection) if objection else ""
        evidence = Markdown("{}{}\n{}\n\nReport: {}\n").format(text, before, why, link(url, url))
        decision = ask_for_approval(evidence, params.approval, judged.verdict.digest[:12])
        kind, who, why = "approval", decision.who, decision.why
    promoted = decision is None or decision.kind == "approved"
    if promoted:
        move_champion(version, kind, who, why, present, judged.verdict.uri)
    else:
        keep_challenger(version, present, f"rejected by {who}: {why}")
    if decision:
        report_version(version, judged, errors, params.report, decision)
    return url, promoted
