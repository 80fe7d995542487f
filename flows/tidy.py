"""tidy: put right what dead runs left behind. An automation starts it whenever a run dies."""

from flows.form_flow import form_flow
from flows.parameters import TidyParams
from tasks.promotion import settle_all
from tasks.score_in_work import remove_old_records
from tasks.tidying import close_dead_runs, remove_dead_folders

_DEFAULTS = TidyParams()


@form_flow(TidyParams, name="tidy")
def tidy(params: TidyParams = _DEFAULTS) -> int:
    """Close MLflow runs of dead processes, remove their folders and records, end moves of champions that they began.

    Returns how many.
    """
    return close_dead_runs() + remove_dead_folders() + remove_old_records() + settle_all()
