"""watch: have newly labelled reviews landed? An event says so, and an automation starts retraining."""

from prefect import flow

from flows.parameters import WatchParams
from tasks.arrivals import announce, look
from tasks.logs import log_for_people

_DEFAULTS = WatchParams()


@flow(name="watch")
def watch(params: WatchParams = _DEFAULTS) -> bool:
    """Announce reviews below a prefix once they are complete; True when there was something to announce."""
    log_for_people()
    arrived = look(params.location)
    if arrived:
        announce(params.location, arrived)
    return arrived is not None
