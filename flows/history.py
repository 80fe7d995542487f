"""history: every move of a model's champion."""

from flows.forms.flow import form_flow
from flows.forms.registry import HistoryParams
from tasks.registry.champion import History, read_history

_DEFAULTS = HistoryParams()


@form_flow(HistoryParams, name="history")
def history(params: HistoryParams = _DEFAULTS) -> History:
    """List who made which version champion, when and why. The history outlives the versions, in the object store."""
    return read_history(params.model_name, params.last)
