"""What becomes of a trained model: the second half of `retrain` and of `tune`.

evaluate -> judge -> register -> promote
baseline -^  ^- champion
"""

from flows.parameters import RetrainParams
from flows.preparing import Prepared
from tasks import reports
from tasks.core.gate import Verdict
from tasks.core.records import (
    EvaluationSummary,
    ModelVersion,
    Record,
    Reference,
    TrainingSummary,
)
from tasks.evaluation import evaluate_baseline, evaluate_model, judge
from tasks.registration import find_champion, promote, register_model


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
    """Evaluate a trained model, register it, and promote it to champion if the gate lets it."""
    split = prepared.split
    evaluation = evaluate_model(model, split, params.evaluation)
    baseline = evaluate_baseline(split, params.evaluation)

    name = params.registration.model_name
    champion = find_champion(name)
    version = register_model(model, split, evaluation, baseline, params.model_dump(), name)
    verdict = judge(evaluation, baseline, champion, split, params.gate, params.evaluation)
    promoted = promote(version, verdict, champion)

    text = reports.evaluation_text(evaluation.summary, baseline.summary, verdict, version)
    reports.publish_text("evaluation", text, f"How {version} does, and why it was promoted or not")
    steps = (*prepared.steps, model, evaluation, baseline)
    return Retrained(
        version=version,
        promoted=promoted,
        verdict=verdict,
        evaluation=evaluation.summary,
        baseline=baseline.summary,
        train_rows=model.summary.train_rows,
        training_seconds=model.summary.seconds,
        steps_reused=[step.kind for step in steps if step.reused],
        model_uri=model.uri,
    )
