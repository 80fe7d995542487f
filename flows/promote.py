"""promote: make a registered version the champion, forward or back."""

from prefect import flow

from flows.parameters import PromoteParams
from tasks.core.records import ModelVersion
from tasks.logs import log_for_people
from tasks.preflight import check_services
from tasks.registration import move_champion, pin_version


@flow(name="promote")
def promote(params: PromoteParams) -> ModelVersion:
    """Point the alias champion to a version; the next scoring run uses it. Going back is the same with an older one."""
    log_for_people()
    check_services()
    version = pin_version(params.model_name, params.version)
    move_champion(version, params.reason)
    return version
