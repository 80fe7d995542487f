"""watch: look for newly labelled reviews. An event announces them, and an automation starts retraining."""

from flows.forms.flow import form_flow
from flows.forms.pipelines import WatchParams
from tasks.data.arrivals import announce, look

_DEFAULTS = WatchParams()


@form_flow(WatchParams, name="watch")
def watch(params: WatchParams = _DEFAULTS) -> bool:
    """Announce reviews below a prefix once they are complete; return True if there was something to announce."""
    arrived = look(params.location)
    if arrived:
        announce(params.location, arrived)
    return arrived is not None
