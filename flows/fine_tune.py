"""fine-tune: one training, as the GPU pool runs it. References in, a reference out."""

from flows.form_flow import form_flow
from flows.parameters import FineTuneParams
from tasks.core.records import BaseModelSummary, Reference, TokensSummary, TrainingSummary
from tasks.core.tokenization import TokenizationParams
from tasks.core.training import TrainingParams
from tasks.dispatch import hand_back, run_on_pool
from tasks.lifeline import cancelled_with_parent
from tasks.settings import read_settings
from tasks.training import find_prepared, say_trained, train_model


@form_flow(FineTuneParams, name="fine-tune")
def fine_tune(params: FineTuneParams) -> Reference[TrainingSummary]:
    """Fine-tune a base model on prepared tokens; reused where exactly this was done before."""
    with cancelled_with_parent():
        tokens, base = find_prepared(params.tokens, params.base_model)
        model = train_model(tokens, base, params.tokenization, params.training)
        hand_back(model)
        return model


def train(
    tokens: Reference[TokensSummary],
    base: Reference[BaseModelSummary],
    tokenization: TokenizationParams,
    training: TrainingParams,
) -> Reference[TrainingSummary]:
    """Run `fine-tune` where NIGHTSHIFT_TRAINING_DEPLOYMENT says: on the pool of that deployment, or in this process."""
    params = FineTuneParams(
        tokens=tokens.uri, base_model=base.uri, tokenization=tokenization, training=training
    )
    deployment = read_settings().training_deployment
    if not deployment:
        return fine_tune(params)
    model = Reference[TrainingSummary].model_validate(run_on_pool(deployment, params.model_dump()))
    say_trained(model.summary)
    return model
