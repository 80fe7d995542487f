"""promote: make a registered version the champion, by a person's decision."""

from flows.forms.flow import form_flow
from flows.forms.registry import PromoteParams
from tasks.core.records import Promotion
from tasks.registry.champion import find_champion, move_champion, moved_by_this_run, pin_version
from tasks.registry.decisions import require_passed
from tasks.runtime.runs.preflight import check_services


@form_flow(PromoteParams, name="promote")
def promote(params: PromoteParams) -> Promotion:
    """Point the alias champion to a version; the next scoring run uses it. A version refused by the gate needs an
    override."""
    check_services()
    if move := moved_by_this_run(params.model_name):
        return move
    champion = find_champion(params.model_name)
    version = pin_version(params.model_name, params.version)
    kind = require_passed(version, params.overrule)
    return move_champion(version, kind, params.who, params.reason, champion)
