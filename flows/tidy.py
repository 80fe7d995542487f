"""tidy: put right what dead runs left behind. An automation starts it whenever a run dies."""

from flows.form_flow import form_flow
from flows.parameters import TidyParams
from tasks.tidying import close_dead_runs, remove_dead_folders

_DEFAULTS = TidyParams()


@form_flow(TidyParams, name="tidy")
def tidy(params: TidyParams = _DEFAULTS) -> int:
    """Mark MLflow runs of dead processes as KILLED and remove their work folders; returns how many of both."""
    return close_dead_runs() + remove_dead_folders()
