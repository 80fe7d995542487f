"""fine-tune: one training, or one further pre-training, as the GPU pool runs it. Takes and returns references."""

from dataclasses import replace
from typing import TypeAlias, TypeVar

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticError

from flows.forms.flow import form_flow
from flows.forms.pipelines import FineTuneParams, RetrainParams
from flows.stages.preparation import Prepared, Pretraining
from tasks.core.data.params import TokenizationParams
from tasks.core.errors import PoolError
from tasks.core.records import Reference
from tasks.core.training.params import TrainingParams
from tasks.core.training.records import BaseModelSummary, TokensSummary, TrainingSummary
from tasks.core.training.tuning.params import TrialParams
from tasks.core.training.tuning.sweep import PrunedTraining
from tasks.runtime.runs.parent_run import cancelled_with_parent
from tasks.runtime.runs.remote_runs import run_on_pool, save_result
from tasks.runtime.settings import read_settings
from tasks.training.fine_tuning import find_prepared, train_model
from tasks.training.pool_results import accept_base_model, accept_model
from tasks.training.pretraining import find_pretraining, log_pretraining, pretrain_base_model
from tasks.training.pretraining_data import gather_pretraining_reviews
from tasks.training.progress import log_training

_Result = TypeVar("_Result")
Outcome: TypeAlias = Reference[TrainingSummary] | PrunedTraining
_TRAINED: TypeAdapter[Outcome] = TypeAdapter(Outcome)
_PRETRAINED = TypeAdapter(Reference[BaseModelSummary])


@form_flow(FineTuneParams, name="fine-tune")
def fine_tune(params: FineTuneParams) -> Outcome | Reference[BaseModelSummary]:
    """Fine-tune a base model on prepared tokens, or reuse the result for identical inputs."""
    with cancelled_with_parent():
        if params.pretraining:
            reviews, start = find_pretraining(params.tokens, params.base_model)
            further = pretrain_base_model(reviews, start, params.training, params.pretraining)
            save_result(further)
            return further
        tokens, base = find_prepared(params.tokens, params.base_model)
        model = train_model(tokens, base, params.tokenization, params.training, params.trial)
        save_result(model)
        return model


def pretrain(params: RetrainParams, prepared: Prepared) -> Prepared:
    """Pre-train the base model further, if requested, in the same place as `train`."""
    if not params.pretraining.epochs:
        return prepared
    tokens = gather_pretraining_reviews(
        prepared.split, prepared.held_out, prepared.base, params.tokenization, params.pretraining
    )
    request = FineTuneParams(
        tokens=tokens.uri,
        base_model=prepared.base.uri,
        training=params.training,
        pretraining=params.pretraining,
    )
    answer = _carried_out(request, _PRETRAINED)
    base = accept_base_model(answer, tokens, prepared.base, params.pretraining)
    if _on_pool():
        log_pretraining(base.summary)
    return replace(prepared, pretraining=Pretraining(tokens, base))


def train(
    tokens: Reference[TokensSummary],
    base: Reference[BaseModelSummary],
    tokenization: TokenizationParams,
    training: TrainingParams,
) -> Reference[TrainingSummary]:
    """Run `fine-tune` on the pool of the deployment in NIGHTSHIFT_TRAINING_DEPLOYMENT; if unset, in this process."""
    outcome = train_trial(tokens, base, tokenization, training, None)
    if isinstance(outcome, PrunedTraining):
        raise PoolError("A training outside any sweep was stopped early as if it were a trial")
    return outcome


def train_trial(
    tokens: Reference[TokensSummary],
    base: Reference[BaseModelSummary],
    tokenization: TokenizationParams,
    training: TrainingParams,
    trial: TrialParams | None,
) -> Outcome:
    """Run `train` for a trial of a sweep, which may stop it early."""
    params = FineTuneParams(
        tokens=tokens.uri,
        base_model=base.uri,
        tokenization=tokenization,
        training=training,
        trial=trial,
    )
    outcome = _carried_out(params, _TRAINED)
    if isinstance(outcome, PrunedTraining):
        return outcome
    model = accept_model(outcome, tokens, base, training)
    if _on_pool():
        log_training(model.summary)
    return model


def _on_pool() -> bool:
    """True if the pool trains; this run's log then repeats the result."""
    return bool(read_settings().training_deployment)


def _carried_out(params: FineTuneParams, kind: TypeAdapter[_Result]) -> _Result:
    """Run in this process or on the pool. Raises PoolError if the pool returns something other than such a result."""
    deployment = read_settings().training_deployment
    if not deployment:
        return kind.validate_python(fine_tune(params))
    answer = run_on_pool(deployment, params.model_dump())
    try:
        return kind.validate_python(answer)
    except PydanticError as error:
        raise PoolError(
            f"The result of the pool has another format: {error.error_count()} fields differ",
            deployment,
            "run the same version of Nightshift on all pools",
        ) from None
