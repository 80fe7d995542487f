"""Registration: a trained model becomes a version with the alias challenger."""

import logging
import shutil
from importlib.metadata import version as installed
from pathlib import Path

from tasks.connectors.tracking.champion import CHALLENGER
from tasks.connectors.tracking.mlflow_flavors import describe_for_mlflow
from tasks.core.digests import canonical_json
from tasks.core.evaluation.records import EvaluationSummary
from tasks.core.markdown import escape
from tasks.core.models.folders import load_tokenizer
from tasks.core.records import ModelVersion
from tasks.core.release.report.model_card import CardDetails, model_card
from tasks.core.tags import (
    ACCURACY_TAG,
    BASE_MODEL_TAG,
    BASE_REVISION_TAG,
    BEATS_BASELINE_TAG,
    CODE_TAG,
    DATA_DIGEST_TAG,
    ENGINE_IDENTITY_TAG,
    ENGINE_TAG,
    FLOW_RUN_TAG,
    GATE_TAG,
    LINEAGE_TAG,
    MODEL_DIGEST_TAG,
    PARAMS_TAG,
    PASSED,
    REFUSED,
    TEST_DIGEST_TAG,
    VERDICT_TAG,
)
from tasks.core.training.records import TrainingSummary
from tasks.release.report import Judged, assemble
from tasks.runtime.clients import model_registry
from tasks.runtime.provenance import code_version, flow_run_id
from tasks.runtime.reporting import artifacts
from tasks.runtime.steps import fetched, step, work_folder

logger = logging.getLogger(__name__)


@step
def register_model(judged: Judged) -> ModelVersion:
    """Register the model as a version with its card and tags, and give it the alias `challenger`.

    A model that is already registered keeps its version, unless another engine is best this time: a version is a model
    and an engine. Tags about the evaluation are updated, because the test set or the champion may have changed. Plots
    and test metrics go to the MLflow run of the training.
    """
    registry = model_registry()
    model, evaluation = judged.candidate.model, judged.candidate.evaluation
    baseline = judged.baseline
    run_id = _log_evaluation(judged)
    beats_baseline = (
        evaluation.summary.metrics["accuracy"].value > baseline.summary.metrics["accuracy"].value
    )
    summary = _summary(model.summary, evaluation.summary, baseline.summary, beats_baseline)
    description = _description(summary)
    current_tags = _current_tags(judged, beats_baseline)
    version = registry.find_version(judged.model_name, model.digest, judged.engine.summary.identity)
    if version:
        version = version.model_copy(update={"reused": True})
        registry.describe_version(version, current_tags, description)
        logger.info("register: reused %s, which was registered from the same training", version)
    else:
        with fetched(model) as folder, fetched(judged.engine) as engines:
            shutil.copytree(engines, folder, dirs_exist_ok=True)
            (folder / "README.md").write_text(_card(judged), encoding="utf-8")
            max_length = int(judged.params["tokenization"]["max_length_tokens"])
            describe_for_mlflow(folder, load_tokenizer(folder), max_length)
            tags = _permanent_tags(judged) | current_tags
            version = registry.register(judged.model_name, folder, run_id, tags, description)
        logger.info("register: registered %s", version)
    if not beats_baseline:
        logger.warning(summary)
    registry.set_alias(version, CHALLENGER)
    return version


def _permanent_tags(judged: Judged) -> dict[str, str]:
    """Return the tags that never change."""
    model = judged.candidate.model
    return {
        MODEL_DIGEST_TAG: model.digest,
        ENGINE_IDENTITY_TAG: judged.engine.summary.identity,
        DATA_DIGEST_TAG: judged.split.digest,
        BASE_MODEL_TAG: model.summary.base_model,
        BASE_REVISION_TAG: model.summary.base_revision,
        PARAMS_TAG: canonical_json(judged.params),
        CODE_TAG: code_version(),
        FLOW_RUN_TAG: flow_run_id(),
        ENGINE_TAG: judged.scored_by,
    }


def _current_tags(judged: Judged, beats_baseline: bool) -> dict[str, str]:
    """Return the tags that are updated when a retraining gives the same version again."""
    verdict = judged.verdict.summary
    return {
        TEST_DIGEST_TAG: judged.split.summary.test_digest,
        ACCURACY_TAG: str(judged.candidate.evaluation.summary.metrics["accuracy"]),
        BEATS_BASELINE_TAG: str(beats_baseline).lower(),
        GATE_TAG: PASSED if verdict.promote else REFUSED,
        VERDICT_TAG: str(verdict),
        LINEAGE_TAG: canonical_json(judged.lineage),
    }


def _card(judged: Judged) -> str:
    """Return the model card that is stored with the model, in the format of the Hugging Face hub."""
    tokenization, training = judged.params["tokenization"], judged.params["training"]
    base = str(training["base_model"])
    is_hub_id = base.count("/") == 1 and not base.startswith((".", "/", "~"))
    details = CardDetails(
        max_length_tokens=int(tokenization["max_length_tokens"]),
        truncation=str(tokenization["truncation"]),
        base_hub_id=base if is_hub_id else "",
        languages=[c for c in str(judged.params["data"]["inspection"]["language"]).split(",") if c],
        versions={name: installed(name) for name in ("torch", "transformers", "tokenizers")},
    )
    return model_card(assemble(judged), details)


def _log_evaluation(judged: Judged) -> str:
    """Log metrics and plots to the MLflow run of the training, and return its ID."""
    evaluation, baseline = judged.candidate.evaluation, judged.baseline
    figures: dict[str, float] = {}
    for prefix, summary in (("test", evaluation.summary), ("baseline", baseline.summary)):
        for name, interval in summary.metrics.items():
            figures[f"{prefix}_{name}"] = interval.value
            figures[f"{prefix}_{name}_low"] = interval.low
            figures[f"{prefix}_{name}_high"] = interval.high
    with work_folder("plots") as folder:
        plots: list[Path] = []
        for picture in sorted(judged.plots, key=lambda p: p.name):
            plots.append(path := folder / f"{picture.name}.png")
            path.write_bytes(picture.png)
            artifacts.publish_picture(
                path, f"{evaluation.summary.model} on {evaluation.summary.rows:,} test reviews"
            )
        return model_registry().add_to_run(
            judged.candidate.model.summary.mlflow_run_id,
            figures,
            {FLOW_RUN_TAG: flow_run_id()},
            {"evaluation": plots},
        )


def _summary(
    model: TrainingSummary,
    evaluation: EvaluationSummary,
    baseline: EvaluationSummary,
    beats_baseline: bool,
) -> str:
    accuracy, baseline_accuracy = evaluation.metrics["accuracy"], baseline.metrics["accuracy"]
    warning = (
        "" if beats_baseline else "WARNING: does not beat the baseline, which trains in seconds. "
    )
    return (
        f"{warning}{model.base_model} fine-tuned on {model.train_rows:,} reviews: accuracy {accuracy} on "
        f"{evaluation.rows:,} test reviews; {baseline.model}: {baseline_accuracy}."
    )


def _description(summary: str) -> str:
    """Escape a description for MLflow's page, which renders Markdown."""
    return str(escape(summary))
