"""trace: where does a prediction come from? Back to the model, its training data and the code."""

from prefect import flow

from flows.parameters import TraceParams
from tasks.logs import log_for_people
from tasks.score_proof import Provenance, trace_prediction


@flow(name="trace")
def trace(params: TraceParams) -> Provenance:
    """The way from a prediction back to model, training data and code."""
    log_for_people()
    return trace_prediction(params.prediction, params.row)
