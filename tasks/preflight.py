"""What is checked before anything is spent: that every place a run will need can be reached and written to."""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.connect import model_registry, object_store
from tasks.core import modeling
from tasks.core.modeling import Device
from tasks.settings import read_settings
from tasks.steps import remove_left_folders

logger = logging.getLogger(__name__)


@task(cache_policy=NO_CACHE)
def check_services(device: Device = "auto", also_write_to: str | None = None) -> None:
    """Probe the object store with a write, reach the registry, and see that the device is there.

    Args:
        device: that the run will ask for.
        also_write_to: an s3:// prefix beside the bucket for prepared data.
    Raises:
        MissingDataError, StoreError: a bucket is missing, or a right.
        RegistryError: MLflow is not there.
        SettingsError: something is not configured, or no GPU is here.
    """
    modeling.resolve_device(device)
    store = object_store()
    for uri in filter(None, [f"s3://{read_settings().bucket}/prepared", also_write_to]):
        store.probe(uri)
    for run_id in model_registry().close_dead_runs():
        logger.warning(
            "MLflow run %s was left running by a process that is gone; marked as KILLED", run_id
        )
    for name in remove_left_folders():
        logger.warning("Removed %s, left behind by a process that is gone", name)
    logger.info(
        "Preflight: object store and model registry answer, %s is there",
        modeling.resolve_device(device),
    )
