"""tidy: put right what dead runs left behind. An automation starts it whenever a run dies."""

from prefect import flow

from flows.parameters import TidyParams
from tasks.logs import log_for_people
from tasks.tidying import close_dead_runs, remove_dead_folders

_DEFAULTS = TidyParams()


@flow(name="tidy")
def tidy(params: TidyParams = _DEFAULTS) -> int:
    """Mark MLflow runs of dead processes as KILLED and remove their work folders; returns how many of both."""
    log_for_people()
    return close_dead_runs() + remove_dead_folders()
