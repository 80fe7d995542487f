"""Steps: Prefect tasks with retries, and folders that are reused if their inputs have not changed."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from pydantic import BaseModel

from tasks.connectors.storage.artifacts import free_bytes
from tasks.connectors.work_folders import owned_folder
from tasks.core.errors import (
    NightshiftError,
    RegistryUnavailableError,
    StoreUnavailableError,
    disk_full,
    is_disk_full,
)
from tasks.core.records import Reference
from tasks.runtime.clients import prepared_store
from tasks.runtime.reporting.silence import still_doing

logger = logging.getLogger(__name__)
# Less free space than this counts as a full disk, which torch and SQLite report with their own errors.
_NO_ROOM_BYTES = 1_000_000
_RETRY_DELAYS: list[float] = [5, 20, 60, 180]  # delays in seconds before each retry
_retries_disabled = threading.Event()
SummaryT = TypeVar("SummaryT", bound=BaseModel)
P = ParamSpec("P")
R = TypeVar("R")


def reuse_or_make(
    kind: str,
    inputs: Mapping[str, Any],
    summary_type: type[SummaryT],
    make: Callable[[Path], SummaryT],
) -> Reference[SummaryT]:
    """Return the prepared folder of a step. Make it unless an earlier run has made it from the same inputs.

    Args:
        kind: the name of the step's folders.
        inputs: everything the content depends on, as JSON.
        summary_type: type of the small facts that are stored with it.
        make: fills an empty local folder and returns the facts.
    """
    prepared = prepared_store()
    manifest = prepared.find(kind, inputs)
    reused = manifest is not None
    if manifest is None:
        started = time.perf_counter()
        with work_folder(kind) as folder:
            manifest = prepared.commit(kind, inputs, folder, make(folder))
        logger.info(
            "%s: made in %.1f s -> %s",
            kind,
            time.perf_counter() - started,
            prepared.uri(kind, manifest.digest),
        )
    else:
        logger.info(
            "%s: reused, nothing it depends on has changed <- %s",
            kind,
            prepared.uri(kind, manifest.digest),
        )
    return prepared.refer(manifest, summary_type, reused)


def step(function: Callable[P, R]) -> Task[P, R]:
    """Make a Prefect task that is retried while the object store or the registry is unavailable, for about 5 minutes.

    Retries are safe, because the output of a step is written atomically. While it logs nothing, a line every 30 s says
    that it is still running.
    """

    @functools.wraps(function)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        with still_doing(f"running {function.__name__}"):
            return function(*args, **kwargs)

    retrying = task(
        cache_policy=NO_CACHE,
        retries=len(_RETRY_DELAYS),
        retry_delay_seconds=_RETRY_DELAYS,
        retry_condition_fn=is_outage,
    )
    return retrying(reporting)


def disable_retries() -> None:
    """Turn off retries of steps in this process: a person at a terminal wants to see an error at once."""
    _retries_disabled.set()


def is_outage(_task: Any, _run: Any, state: State[Any]) -> bool:
    """True if a task failed because the object store or the registry does not answer, and may be retried."""
    if _retries_disabled.is_set():
        return False
    error: Any = state.result(raise_on_failure=False)
    return isinstance(error, StoreUnavailableError | RegistryUnavailableError)


@contextmanager
def work_folder(name: str) -> Generator[Path]:
    """Make a temporary folder that is always removed afterwards.

    Raises:
        DiskFullError: the disk was full while the folder was in use.
    """
    with owned_folder(name) as folder:
        try:
            yield folder
        except NightshiftError:
            raise
        except Exception as error:  # libraries report a full disk in many ways
            if not (is_disk_full(error) or free_bytes(folder) < _NO_ROOM_BYTES):
                raise
            raise disk_full(f"making {name} in {folder}") from error


@contextmanager
def fetched(source: str | Reference[Any], *names: str) -> Generator[Path]:
    """Download and check a prepared folder's files (all, or those named) in a temporary folder."""
    with work_folder("fetched") as folder:
        prepared_store().fetch(source, folder, *names)
        yield folder
