"""promote: make a registered version the champion, forward or back."""

from flows.form_flow import form_flow
from flows.parameters import PromoteParams
from tasks.core.records import ModelVersion
from tasks.preflight import check_services
from tasks.registration import move_champion, pin_version


@form_flow(PromoteParams, name="promote")
def promote(params: PromoteParams) -> ModelVersion:
    """Point the alias champion to a version; the next scoring run uses it. Going back is the same with an older one."""
    check_services()
    version = pin_version(params.model_name, params.version)
    move_champion(version, params.reason)
    return version
