"""watch: have newly labelled reviews landed? An event says so, and an automation starts retraining."""

from flows.forms.flow import form_flow
from flows.forms.pipelines import WatchParams
from tasks.data.arrivals import announce, look

_DEFAULTS = WatchParams()


@form_flow(WatchParams, name="watch")
def watch(params: WatchParams = _DEFAULTS) -> bool:
    """Announce reviews below a prefix once they are complete; True when there was something to announce."""
    arrived = look(params.location)
    if arrived:
        announce(params.location, arrived)
    return arrived is not None
