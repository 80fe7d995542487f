"""Preflight checks: before a run spends anything, check that all services it needs can be reached and written to."""

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from tasks.core.errors import SettingsError
from tasks.core.models.params import Device
from tasks.runtime.clients import model_registry, object_store
from tasks.runtime.runs.cleanup import close_dead_runs, remove_dead_folders
from tasks.runtime.runs.remote_runs import require_deployment
from tasks.runtime.settings import Settings, is_of_this_machine, read_settings
from tasks.runtime.steps import is_outage

logger = logging.getLogger(__name__)

_CREDENTIALS = {
    "PREFECT_API_URL": "PREFECT_API_AUTH_STRING",
    "MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
}


@task(
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[5, 30],  # enough for a restart; short, so that a typo is reported soon
    retry_condition_fn=is_outage,
)
def check_services(
    device: Device | None = None, also_write_to: str | None = None, trains: bool = False
) -> None:
    """Probe the object store with a write, connect to the registry, and check that the device is available.

    Args:
        device: that the run will use; None if it computes nothing.
        trains: the run uses it for training, which may happen on another machine.
        also_write_to: an s3:// prefix besides the bucket for prepared data.
    Raises:
        MissingDataError, StoreError: a bucket or a permission is missing.
        RegistryError: MLflow is not there, or its experiment is deleted.
        ServiceError: the deployment for training or its pool does not exist.
        SettingsError: something is not configured, or there is no GPU here.
    """
    settings = read_settings()
    elsewhere = trains and settings.training_deployment
    here = ""
    if device:
        from tasks.core.models.devices import resolve_device  # imports torch

        here = f"; this run is on {resolve_device('auto' if elsewhere else device)}"
    require_passwords(settings)
    store = object_store()
    for uri in filter(None, [f"s3://{settings.bucket}/prepared", also_write_to]):
        store.probe(uri)
    registry = model_registry()
    if trains:
        registry.require_experiment()
        if settings.training_deployment:
            with get_client(sync_client=True) as client:
                require_deployment(client, settings.training_deployment)
    close_dead_runs()
    remove_dead_folders()
    training = f", training on the pool of {elsewhere}" if elsewhere else ""
    logger.info("Preflight: object store and model registry answer%s%s", here, training)


def require_passwords(settings: Settings) -> None:
    """Raise SettingsError if a server on another machine would be used without a password or token."""
    from tasks.connectors.tracking.credentials import has_credentials

    prefect = get_current_settings().api
    servers: dict[str, tuple[str | None, Callable[[], object]]] = {
        "PREFECT_API_URL": (settings.prefect_api_url, lambda: prefect.auth_string or prefect.key),
        "MLFLOW_TRACKING_URI": (settings.mlflow_tracking_uri, has_credentials),
    }
    for variable, (url, is_protected) in servers.items():
        parts = urlsplit(url or "")
        local = is_of_this_machine(url)
        if parts.scheme not in ("http", "https") or local or parts.password or is_protected():
            continue
        if not settings.trusted_network:
            raise SettingsError(
                f"{parts.hostname} is another machine, but no password is set for it",
                variable,
                f"set {_CREDENTIALS[variable]}; or, on a network that only you use, NIGHTSHIFT_TRUSTED_NETWORK=true",
            )
