"""retrain: from labelled reviews to a registered model, and to the champion if it deserves it.

check -> load -> validate -> split -> tokenize -> fine-tune -> evaluate -> register -> judge -> promote
                               |         base model -^            baseline -^            ^- champion
"""

from flows.fine_tune import train
from flows.form_flow import form_flow
from flows.parameters import RetrainParams
from tasks import reports
from tasks.core.gate import Verdict
from tasks.core.records import EvaluationSummary, ModelVersion, Record
from tasks.data import load_reviews, split_reviews, validate_reviews
from tasks.evaluation import evaluate_baseline, evaluate_model, judge
from tasks.preflight import check_services
from tasks.registration import find_champion, promote, register_model
from tasks.tokens import prepare_base_model, tokenize_reviews


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


_DEFAULTS = RetrainParams()


@form_flow(RetrainParams, name="retrain")
def retrain(params: RetrainParams = _DEFAULTS) -> Retrained:
    """Retrain a review classifier, register it in MLflow, and promote it to champion if the gate lets it."""
    check_services(params.training.device, trains=True)
    base = prepare_base_model(params.training, params.tokenization)
    loaded = load_reviews(params.data.source)
    validated = validate_reviews(loaded, params.data.source.label_names, params.data.validation)
    split = split_reviews(validated, params.data.split)
    tokens = tokenize_reviews(split, base, params.tokenization)
    model = train(tokens, base, params.tokenization, params.training)
    evaluation = evaluate_model(model, split, params.evaluation)
    baseline = evaluate_baseline(split, params.evaluation)

    name = params.registration.model_name
    champion = find_champion(name)
    version = register_model(model, split, evaluation, baseline, params.model_dump(), name)
    verdict = judge(evaluation, baseline, champion, split, params.gate, params.evaluation)
    promoted = promote(version, verdict, champion)

    text = reports.evaluation_text(evaluation.summary, baseline.summary, verdict, version)
    reports.publish_text("evaluation", text, f"How {version} does, and why it was promoted or not")
    steps = (base, loaded, validated, split, tokens, model, evaluation, baseline)
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
