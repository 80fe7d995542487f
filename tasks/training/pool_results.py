"""Check the results of the GPU pool before anything relies on them.

A worker of that pool may write trained models and results, so its own statements prove nothing. Its reference has to
lead to the folder of exactly the requested training, and the files have to be those of a model.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from tasks.core.digests import canonical_json
from tasks.core.errors import ModelError
from tasks.core.models.files import check_model_files
from tasks.core.records import Reference, StoredFile
from tasks.core.training.params import TrainingParams
from tasks.core.training.pretraining.params import PretrainingParams
from tasks.core.training.records import (
    BaseModelSummary,
    PretrainingTokensSummary,
    TokensSummary,
    TrainingSummary,
)
from tasks.runtime.clients import prepared_store
from tasks.runtime.steps import step
from tasks.training.fine_tuning import training_inputs
from tasks.training.pretraining import pretraining_inputs

SummaryT = TypeVar("SummaryT", bound=BaseModel)


@step
def accept_model(
    result: Reference[TrainingSummary],
    tokens: Reference[TokensSummary],
    base: Reference[BaseModelSummary],
    params: TrainingParams,
) -> Reference[TrainingSummary]:
    """Check a trained model, and return it.

    Args:
        result: the pool's result.
        tokens, base, params: the requested training.
    Raises:
        ModelError: it is another model, or no model.
        StoreError: the reference leads elsewhere, or other files lie there.
    """
    # Other models of the same tokens: one that release 0.1 distilled, one with class costs.
    inputs = {"lessons": None, "class_costs": None} | training_inputs(tokens, base, params)
    checked = _check(result, TrainingSummary, "model", inputs, base.summary.parameters)
    if checked.summary.label_names != tokens.summary.label_names:
        raise ModelError("The model has other labels than the reviews", result.uri, "train again")
    return checked


@step
def accept_base_model(
    result: Reference[BaseModelSummary],
    tokens: Reference[PretrainingTokensSummary],
    base: Reference[BaseModelSummary],
    params: PretrainingParams,
) -> Reference[BaseModelSummary]:
    """Check a further pre-trained base model as `accept_model` does, and return it."""
    inputs = pretraining_inputs(tokens, base, params)
    base_files = prepared_store().manifest_of(base).files  # it keeps the files beside the weights
    parameters = base.summary.parameters
    return _check(result, BaseModelSummary, "pretrained-base", inputs, parameters, base_files)


def _check(
    result: Reference[SummaryT],
    summary_type: type[SummaryT],
    kind: str,
    inputs: dict[str, Any],
    parameters: int,
    base_files: Mapping[str, StoredFile] | None = None,
) -> Reference[SummaryT]:
    """Return the reference, with the summary that the manifest holds."""
    prepared = prepared_store()
    manifest = prepared.manifest_of(result)
    recorded = {name: manifest.inputs.get(name) for name in inputs}
    if result.kind != kind or canonical_json(recorded) != canonical_json(inputs):
        raise ModelError(
            f"The pool returned something other than the {kind} that was requested",
            result.uri,
            "run again; if it happens again, find out which worker returned it",
        )
    check_model_files(manifest.files, parameters, result.uri, base_files)
    return prepared.refer(manifest, summary_type, result.reused)
