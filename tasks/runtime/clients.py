"""Factories of connectors, configured from the settings."""

import functools

from tasks.connectors.storage.artifacts import PreparedStore
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking.champion import Champions
from tasks.connectors.tracking.model_listing import RegisteredModels
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.connectors.tracking.promotion_log import PromotionLog
from tasks.core.errors import SettingsError
from tasks.runtime.settings import read_settings

_HOW = "start flows with `python -m flows ...`, which brings its own, or set {variable}"


def object_store() -> ObjectStore:
    """Return the configured object store. Raises SettingsError if there is none."""
    settings = read_settings()
    if settings.embeds_object_store:
        raise SettingsError(
            "No object store is configured", "", _HOW.format(variable="AWS_ENDPOINT_URL_S3")
        )
    return _client(settings.s3_endpoint_url, settings.aws_variables)


@functools.lru_cache(maxsize=4)
def _client(endpoint_url: str | None, _configured: tuple[tuple[str, str], ...]) -> ObjectStore:
    """Return the client of a configuration. Cached: making one takes boto3 0.1 s, and a run asks hundreds of times."""
    return ObjectStore(endpoint_url)


def exact_objects() -> ExactObjects:
    """Return the object store with conditional reads and writes, for objects that several processes may write."""
    return _exact(object_store())


@functools.lru_cache(maxsize=4)
def _exact(store: ObjectStore) -> ExactObjects:
    """Return the instance of a client. Cached, so that a store is probed for conditional writes only once."""
    return ExactObjects(store)


def prepared_store() -> PreparedStore:
    """Return the store of prepared folders."""
    return PreparedStore(object_store(), read_settings().bucket)


def model_registry() -> ModelRegistry:
    """Return the configured model registry. Raises SettingsError if there is none."""
    return ModelRegistry(*_tracking())


def registered_models() -> RegisteredModels:
    """Return the model registry with methods that list everything in it."""
    return RegisteredModels(*_tracking())


def _tracking() -> tuple[str, str]:
    settings = read_settings()
    if not settings.mlflow_tracking_uri:
        raise SettingsError(
            "No MLflow is configured", "", _HOW.format(variable="MLFLOW_TRACKING_URI")
        )
    return settings.mlflow_tracking_uri, settings.experiment


def move_log() -> PromotionLog:
    """Return the log of all moves of champions, in the configured object store."""
    return PromotionLog(exact_objects(), read_settings().bucket)


def champions() -> Champions:
    """Return the champions of the configured registry and log."""
    return Champions(model_registry(), move_log())
