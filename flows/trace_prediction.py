"""trace: from any one thing to what it was made from, and to what was made of it; from a prediction to the source."""

from flows.forms.flow import form_flow
from flows.forms.pipelines import TraceParams
from tasks.lineage.tracing import Provenance, trace_lineage


@form_flow(TraceParams, name="trace")
def trace(params: TraceParams) -> Provenance:
    """Both ways: back to the source of the training data, and on to the predictions."""
    return trace_lineage(params.start, params.row, params.source_row)
