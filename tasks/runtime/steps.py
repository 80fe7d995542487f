"""One mechanism for every step that prepares something: reuse what is there, or make it, commit it, and say which."""

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
    RegistryAwayError,
    StoreAwayError,
    disk_full,
    is_disk_full,
)
from tasks.core.records import Reference
from tasks.runtime.clients import prepared_store

logger = logging.getLogger(__name__)
_NO_ROOM_BYTES = 1_000_000  # torch and SQLite describe a full disk in words of their own
_OUTAGE: list[float] = [5, 20, 60, 180]  # seconds before another try
_impatient = threading.Event()
SummaryT = TypeVar("SummaryT", bound=BaseModel)
P = ParamSpec("P")
R = TypeVar("R")


def reuse_or_make(
    kind: str,
    inputs: Mapping[str, Any],
    summary_type: type[SummaryT],
    make: Callable[[Path], SummaryT],
) -> Reference[SummaryT]:
    """The prepared folder of a step, made now unless an earlier run has made it from the same inputs.

    Args:
        kind: names the step's folders.
        inputs: everything the content depends on, as JSON.
        summary_type: the small facts that go with it.
        make: fills an empty local folder and returns the facts.
    """
    prepared = prepared_store()
    found = prepared.find(kind, inputs)
    reused = found is not None
    if found is None:
        started = time.perf_counter()
        with work_folder(kind) as folder:
            found = prepared.commit(kind, inputs, folder, make(folder))
        logger.info(
            "%s: made in %.1f s -> %s",
            kind,
            time.perf_counter() - started,
            prepared.uri(kind, found.digest),
        )
    else:
        logger.info(
            "%s: reused, nothing it depends on has changed <- %s",
            kind,
            prepared.uri(kind, found.digest),
        )
    return prepared.refer(found, summary_type, reused)


def step(function: Callable[P, R]) -> Task[P, R]:
    """A Prefect task that is tried again while the object store or the registry is away, five minutes in all.

    Nothing is lost by that: what a step makes appears whole or not at all.
    """
    patient = task(
        cache_policy=NO_CACHE,
        retries=len(_OUTAGE),
        retry_delay_seconds=_OUTAGE,
        retry_condition_fn=is_outage,
    )
    return patient(function)


def be_impatient() -> None:
    """Try no step of this process again: a person waits, and will rather be told."""
    _impatient.set()


def is_outage(_task: Any, _run: Any, state: State[Any]) -> bool:
    """True when a task failed because the object store or the registry does not answer, and may be tried again."""
    if _impatient.is_set():
        return False
    error: Any = state.result(raise_on_failure=False)
    return isinstance(error, StoreAwayError | RegistryAwayError)


@contextmanager
def work_folder(name: str) -> Generator[Path]:
    """A temporary folder that is gone afterwards, whatever happens.

    Raises:
        DiskFullError: when writing in it met a full disk.
    """
    with owned_folder(name) as folder:
        try:
            yield folder
        except NightshiftError:
            raise
        except Exception as error:  # whatever a library makes of a full disk
            if not (is_disk_full(error) or free_bytes(folder) < _NO_ROOM_BYTES):
                raise
            raise disk_full(f"making {name} in {folder}") from error


@contextmanager
def fetched(source: str | Reference[Any], *names: str) -> Generator[Path]:
    """A prepared folder's files (all, or those named), downloaded and checked, in a temporary folder."""
    with work_folder("fetched") as folder:
        prepared_store().fetch(source, folder, *names)
        yield folder
