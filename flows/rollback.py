"""rollback: make the previous champion the champion again."""

from flows.forms.flow import form_flow
from flows.forms.registry import RollbackParams
from tasks.connectors.tracking.champion import PREVIOUS
from tasks.core.records import Promotion
from tasks.registry.champion import (
    find_champion,
    move_champion,
    moved_by_this_run,
    pin_version,
    require_former_champion,
)
from tasks.runtime.runs.preflight import check_services


@form_flow(RollbackParams, name="rollback")
def rollback(params: RollbackParams) -> Promotion:
    """Go back to the previous champion, or to a named one; the next scoring run uses it.

    `previous` is then the version rolled back from, so a second rollback undoes the first. Within minutes of the first
    it has to name the version, because two people may press Run at once.
    """
    check_services()
    if move := moved_by_this_run(params.model_name):
        return move
    champion = find_champion(params.model_name)
    version = pin_version(params.model_name, params.to_version or PREVIOUS)
    require_former_champion(version, named=bool(params.to_version))
    return move_champion(version, "rollback", params.who, params.reason, champion)
