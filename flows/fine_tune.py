"""fine-tune: one training, as the GPU pool runs it. References in, a reference out."""

from prefect import flow

from flows.parameters import FineTuneParams
from tasks.core.records import BaseModelSummary, Reference, TokensSummary, TrainingSummary
from tasks.training import train_model


@flow(name="fine-tune", validate_parameters=False)
def fine_tune(
    tokens: Reference[TokensSummary], base: Reference[BaseModelSummary], params: FineTuneParams
) -> Reference[TrainingSummary]:
    """Fine-tune a base model on prepared tokens; reused where exactly this was done before."""
    return train_model(tokens, base, params.tokenization, params.training)
