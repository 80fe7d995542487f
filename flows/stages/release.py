"""From a trained model to a release: the second half of `retrain` and of `tune`.

evaluate -> check behaviour -> choose and verify engine -> judge -> register -> report -> approve -> promote
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
from tasks.core.models.class_costs import costs_of_labels
from tasks.core.records import ModelVersion, Reference
from tasks.core.release.gate.evidence import Verdict
from tasks.core.training.records import TrainingSummary
from tasks.engines.verification import proven_engine
from tasks.evaluation.behavioural_tests import check_behaviour
from tasks.evaluation.other_test_set import evaluate_on_old_test_set
from tasks.evaluation.predictions import Evaluation, evaluate_baseline, evaluate_model
from tasks.registry.champion import find_opponent, move_champion
from tasks.registry.decisions import human_veto, keep_challenger
from tasks.release.approval import ask_for_approval
from tasks.release.gate import Candidate, evaluate_champion, judge
from tasks.release.registration import register_model
from tasks.release.report import Judged, explain_errors, report_version
from tasks.runtime.reporting import artifacts
from tasks.training.class_costs import apply_class_costs

logger = logging.getLogger(__name__)

_RETRIES = 5  # after conflicts with concurrent promotions


def conclude(
    params: RetrainParams, prepared: Prepared, model: Reference[TrainingSummary]
) -> Retrained:
    """Evaluate a trained model, register it, and promote it if the gate and any required
    approver allow it."""
    split = prepared.split
    costs = costs_of_labels(params.registration.class_costs, split.summary.label_names)
    if costs:
        model = apply_class_costs(model, prepared.tokens, costs)
    candidate = Candidate(
        model,
        evaluate_model(model, split, params.evaluation),
        check_behaviour(model, split, prepared.checks, params.behaviour),
    )
    baseline = evaluate_baseline(split, params.evaluation, costs)
    engine, proof = proven_engine(
        model,
        prepared.tokens,
        candidate.evaluation,
        split,
        params.engines,
        params.registration.model_name,
    )
    candidate = replace(candidate, proof=proof)
    release = _release_with_retries(params, prepared, candidate, baseline, (engine, proof))
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


def _release_with_retries(
    params: RetrainParams,
    prepared: Prepared,
    candidate: Candidate,
    baseline: Evaluation,
    engine: _Engine,
) -> _Release:
    """Judge and register the model. Do so again if another promotion replaces the champion meanwhile."""
    for _ in range(_RETRIES):
        try:
            return _judge_and_register(params, prepared, candidate, baseline, engine)
        except ConflictError as error:
            logger.warning("%s; judging the model again, against the current champion", error.what)
    return _judge_and_register(params, prepared, candidate, baseline, engine)


def _judge_and_register(
    params: RetrainParams,
    prepared: Prepared,
    candidate: Candidate,
    baseline: Evaluation,
    engine: _Engine,
) -> _Release:
    """Judge the model against the current champion, register it, and promote it if allowed.

    Raises:
        ConflictError: another promotion has replaced the champion meanwhile.
    """
    opponent = find_opponent(params.registration.model_name)
    judged = _judged(params, prepared, candidate, baseline, engine, opponent.to_beat)
    version = register_model(judged)
    text = artifacts.evaluation_text(
        candidate.evaluation.summary, baseline.summary, judged.verdict.summary, version
    )
    artifacts.publish_text("evaluation", text, f"Evaluation of {version}, and the gate's verdict")
    report_uri, promoted = _promote_if_allowed(params, version, judged, opponent.champion, text)
    return _Release(version, judged.verdict, report_uri, promoted)


def _judged(
    params: RetrainParams,
    prepared: Prepared,
    candidate: Candidate,
    baseline: Evaluation,
    engine: _Engine,
    to_beat: ModelVersion | None,
) -> Judged:
    """Compare the model with the version to beat, apply the gate, and return all evidence with the verdict."""
    split = prepared.split
    champion = evaluate_champion(
        to_beat,
        split,
        prepared.checks,
        params.evaluation,
        params.behaviour,
        params.gate,
        params.data.inspection,
    )
    old_test_set = evaluate_on_old_test_set(
        candidate.model,
        to_beat,
        split,
        prepared.loaded.summary.source,
        params.evaluation,
        params.data.inspection,
        params.gate.plausibility.max_overlap_fraction,
    )
    champion = champion and replace(champion, other_test_set=old_test_set)
    verdict = judge(
        candidate, baseline, champion, split, prepared.inspection, params.gate, params.evaluation
    )
    steps = [*prepared.steps, candidate.model, candidate.evaluation, candidate.behaviour, verdict]
    return Judged(
        model_name=params.registration.model_name,
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


def _promote_if_allowed(
    params: RetrainParams,
    version: ModelVersion,
    judged: Judged,
    champion: ModelVersion | None,
    text: Markdown,
) -> tuple[str, bool]:
    """Promote the version if gate and people allow it. Return the report's URI, and whether it is the champion now.

    Write the report first, so that the approver can read it. After the approver's decision has taken effect, write the
    report again with it.
    """
    is_champion = champion is not None and champion.is_same_as(version)
    passed = judged.verdict.summary.promote
    needs_approval = passed and params.approval.required and not is_champion
    errors = explain_errors(judged.candidate, judged.split, params.report)
    url = report_version(version, judged, errors, params.report, None, needs_approval)
    if not passed:
        keep_challenger(version, champion, "the gate has refused it")
        return url, False
    if is_champion:
        logger.info("promote: %s is already the champion", champion)
        return url, True
    objection = human_veto(version)
    if objection and not needs_approval:
        keep_challenger(version, champion, objection)
        return url, False
    kind, who, why = "gate", "retrain", "It passed every clause of the gate."
    if champion and champion.has_weights_of(version):
        why += f" It has the weights of {champion}, with another engine: {version.engine}."
    decision = None
    if needs_approval:
        earlier = Markdown("\n**Earlier decision: {}**\n").format(objection) if objection else ""
        evidence = Markdown("{}{}\n{}\n\nReport: {}\n").format(text, earlier, why, link(url, url))
        decision = ask_for_approval(evidence, params.approval, judged.verdict.digest[:12])
        kind, who, why = "approval", decision.who, decision.why
    promoted = decision is None or decision.kind == "approved"
    if promoted:
        move_champion(version, kind, who, why, champion, judged.verdict.uri)
    else:
        keep_challenger(version, champion, f"rejected by {who}: {why}")
    if decision:
        report_version(version, judged, errors, params.report, decision)
    return url, promoted
