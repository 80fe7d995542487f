"""trace: where does a prediction come from? Back to the model, its training data and the code."""

from flows.form_flow import form_flow
from flows.parameters import TraceParams
from tasks.score_proof import Provenance, trace_prediction


@form_flow(TraceParams, name="trace")
def trace(params: TraceParams) -> Provenance:
    """The way from a prediction back to model, training data and code."""
    return trace_prediction(params.prediction, params.row)
