"""Class costs of a trained model: its labels become those of least expected cost. Nothing is trained again."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.core.data.tokens.token_tables import read_tokens
from tasks.core.decision import predict_labels
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models import classifier as modeling
from tasks.core.models import head
from tasks.core.models.class_costs import costs_text
from tasks.core.records import Reference
from tasks.core.tags import FLOW_RUN_TAG, STEP_TAG
from tasks.core.training.records import TokensSummary, TrainingSummary
from tasks.runtime.clients import model_registry, prepared_store
from tasks.runtime.provenance import flow_run_id
from tasks.runtime.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

_VERSION = 1


@step
def apply_class_costs(
    model: Reference[TrainingSummary],
    tokens: Reference[TokensSummary],
    class_costs: Sequence[float],
) -> Reference[TrainingSummary]:
    """Return the model with class costs.

    Args:
        model: the trained model.
        tokens: those it was trained on. Its validation accuracy is measured again on their validation rows.
        class_costs: the cost of missing each class, in the order of the labels.
    Raises:
        ModelError: the classification head is not a linear layer.
    """
    named = dict(zip(model.summary.label_names, class_costs, strict=True))
    trained_inputs = prepared_store().manifest_of(model).inputs  # for lineage
    inputs = {
        **trained_inputs,
        "model": model.digest,
        "class_costs": list(class_costs),
        "class_costs_version": _VERSION,
    }

    def make(folder: Path) -> TrainingSummary:
        with fetched(model) as trained, fetched(tokens) as data:
            classifier = modeling.load(trained)
            shifted = modeling.with_class_costs(classifier, class_costs)
            (validation,) = read_tokens(data, ("validation",))
        modeling.save(shifted, folder)
        logits = TorchEngine(shifted).logits(validation["input_ids"])
        accuracy = float((predict_labels(logits) == np.asarray(validation["labels"])).mean())
        settings = {"class_costs": named, "training_run": model.summary.mlflow_run_id}
        tags = {STEP_TAG: "class-costs", FLOW_RUN_TAG: flow_run_id()}
        # A run of its own: those of the training hold the results of its own version.
        with model_registry().run(f"{model.summary.base_model}-class-costs", settings, tags) as run:
            run.log({"validation_accuracy": accuracy})
        if head.lacks_bias(shifted.model, len(named)):
            logger.warning(
                "The head of %s has no bias: its class costs are applied by Nightshift alone, not where MLflow or "
                "transformers run it",
                model.summary.base_model,
            )
        return model.summary.model_copy(
            update={
                "validation": model.summary.validation | {"accuracy": accuracy},
                "class_costs": named,
                "mlflow_run_id": run.id,
            }
        )

    result = reuse_or_make("model", inputs, TrainingSummary, make)
    logger.info(
        "Class costs %s: validation accuracy %.4f, without them %.4f",
        costs_text(named),
        result.summary.validation["accuracy"],
        model.summary.validation["accuracy"],
    )
    return result
