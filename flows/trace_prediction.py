"""trace: follow lineage upstream and downstream of anything, such as from a prediction to the source."""

from flows.forms.flow import form_flow
from flows.forms.scoring import TraceParams
from tasks.lineage.tracing import Provenance, trace_lineage


@form_flow(TraceParams, name="trace")
def trace(params: TraceParams) -> Provenance:
    """Trace in both directions: back to the source of the training data, and on to the predictions."""
    return trace_lineage(params.start, params.row, params.source_row)
