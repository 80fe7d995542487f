"""tidy: clean up after dead runs. An automation starts it whenever a run dies."""

from flows.forms.flow import form_flow
from flows.forms.pipelines import TidyParams
from tasks.registry.champion import reconcile_all
from tasks.runtime.runs.cleanup import close_dead_runs, remove_dead_folders
from tasks.scoring.store.in_work import remove_old_records

_DEFAULTS = TidyParams()


@form_flow(TidyParams, name="tidy")
def tidy(params: TidyParams = _DEFAULTS) -> int:
    """Close MLflow runs of dead processes, remove their folders and records, and complete their champion moves.

    Returns the number of things cleaned up.
    """
    return close_dead_runs() + remove_dead_folders() + remove_old_records() + reconcile_all()
