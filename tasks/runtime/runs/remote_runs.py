"""Execution of a step on another work pool: pass references, wait for the run, return small JSON.

Retries are made here, around the child run, because a flow's own retries die with its process.
"""

import json
import logging
import time
from typing import Any

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import DeploymentStatus, FlowRun, State, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run as current_run
from prefect.states import Cancelling
from prefect.utilities.urls import url_for

from tasks.core.errors import (
    PoolError,
    RegistryError,
    RunCrashedError,
    ServiceError,
    StoreUnavailableError,
)
from tasks.core.records import Record
from tasks.runtime.clients import object_store
from tasks.runtime.reporting.silence import PROGRESS_SECONDS, still_doing
from tasks.runtime.runs.cleanup import close_dead_runs
from tasks.runtime.settings import read_settings
from tasks.runtime.steps import step

logger = logging.getLogger(__name__)

_POLL_SECONDS = 2.0
_SERVER_AWAY_SECONDS = 900.0
_LONGEST_RESULT = 16 << 20  # bytes; workers of other pools may write there
_RETRY_DELAYS: list[float] = [5, 30, 120]  # delays in seconds before each retry


def _died(_task: Any, _run: Any, state: State[Any]) -> bool:
    error: Any = state.result(raise_on_failure=False)
    return isinstance(error, RunCrashedError | StoreUnavailableError | httpx.TransportError)


@task(
    cache_policy=NO_CACHE,
    task_run_name="{deployment}",
    retries=len(_RETRY_DELAYS),
    retry_delay_seconds=_RETRY_DELAYS,
    retry_condition_fn=_died,
)
def run_on_pool(deployment: str, params: dict[str, Any]) -> dict[str, Any]:
    """Run a deployment on its work pool and return its result. A run that dies is retried.

    Args:
        deployment: flow/deployment.
        params: of the flow, as JSON.
    Raises:
        ServiceError: there is no such deployment, or the Prefect server remains unavailable.
        RunCrashedError: the run died with its process or its worker on every attempt.
        PoolError: the run failed or was cancelled.
    """
    with get_client(sync_client=True) as client:
        run = _submitted(client, deployment, params)
        pool = run.work_pool_name or "?"
        logger.info("%s is queued on the pool %r: %s", run.name, pool, url_for(run) or run.id)
        try:
            with still_doing(f"waiting for {run.name} on the pool {pool!r}"):
                state = _Waiting(client, run, pool).until_over()
        except BaseException:  # this run is cancelled or fails: nobody needs the other any more
            _cancel(client, run)
            raise
    if state.is_completed():
        return load_result(str(run.id))
    try:
        close_dead_runs()
    except RegistryError as error:  # cleanup can wait; the retry of a dead training cannot
        logger.warning("MLflow runs of dead processes were not closed: %s", error)
    where = url_for(run) or str(run.id)
    if state.is_crashed():
        raise RunCrashedError(f"{run.name} on the pool {pool!r} died: {_message(state)}", where)
    what = "was cancelled" if state.is_cancelled() else f"failed: {_message(state)}"
    raise PoolError(f"{run.name} on the pool {pool!r} {what}", where, "see its page and its log")


def _submitted(client: SyncPrefectClient, deployment: str, params: dict[str, Any]) -> FlowRun:
    require_deployment(client, deployment)
    submitted: Any = run_deployment(deployment, parameters={"params": params}, timeout=0)
    return client.read_flow_run(submitted.id)


def require_deployment(client: SyncPrefectClient, deployment: str) -> None:
    """Check that runs of a deployment can start. Deleting a pool in the UI leaves its deployments without one.

    Raises:
        ServiceError: there is no such deployment, or it has no work pool.
    """
    setting = "NIGHTSHIFT_TRAINING_DEPLOYMENT or NIGHTSHIFT_SCORING_DEPLOYMENT"
    again = "register pools and deployments again: python -m deployments.apply"
    try:
        registered = client.read_deployment_by_name(deployment)
    except ObjectNotFound as error:
        raise ServiceError(f"There is no deployment {deployment!r}", setting, again) from error
    served = registered.status == DeploymentStatus.READY  # by a separate process, without a pool
    if not registered.work_pool_name and not served:
        raise ServiceError(
            f"The deployment {deployment!r} no longer has a work pool: it was deleted",
            setting,
            again,
        )


class _Waiting:
    """Waits for a run to end, and logs what it is waiting for."""

    def __init__(self, client: SyncPrefectClient, run: FlowRun, pool: str) -> None:
        self._client, self._run, self._pool = client, run, pool
        self._logged = self._answered = time.monotonic()
        self._began = False

    def until_over(self) -> State[Any]:
        """Wait for the end of the run and return its final state."""
        while True:
            state = self._state()
            if state and state.is_final():
                return state
            if state and state.is_running() and not self._began:
                self._began = True
                logger.info("%s is running", self._run.name)
            elif state and not state.is_running():
                self._log_why_it_waits(state)
            time.sleep(_POLL_SECONDS)

    def _state(self) -> State[Any] | None:
        try:
            state = self._client.read_flow_run(self._run.id).state
        except ObjectNotFound as error:
            raise PoolError(f"{self._run.name} was deleted", str(self._run.id)) from error
        except (httpx.HTTPError, PrefectException) as error:
            away = time.monotonic() - self._answered
            if away > _SERVER_AWAY_SECONDS:
                raise ServiceError(
                    f"The Prefect server has not answered for {away:.0f} s", "PREFECT_API_URL"
                ) from error
            self._log(
                f"The Prefect server does not answer ({type(error).__name__}); waiting for it"
            )
            return None
        self._answered = time.monotonic()
        return state

    def _log_why_it_waits(self, state: State[Any]) -> None:
        if state.is_pending() or time.monotonic() - self._logged < PROGRESS_SECONDS:
            return
        try:
            if self._client.read_work_pool(self._pool).is_paused:
                self._log(f"The pool {self._pool!r} is paused; resume it on its page in Prefect")
                return
            workers = self._client.read_workers_for_work_pool(self._pool)
        except ObjectNotFound as error:
            raise PoolError(
                f"The work pool {self._pool!r} was deleted while {self._run.name} waited there",
                str(self._run.id),
                "register pools and deployments again: python -m deployments.apply",
            ) from error
        except (httpx.HTTPError, PrefectException) as error:
            self._log(f"The Prefect server does not list its workers: {type(error).__name__}")
            return
        online = sum(worker.status == WorkerStatus.ONLINE for worker in workers)
        if online:
            self._log(
                f"Waiting for a free worker: {online} of the pool {self._pool!r} are online, all busy"
            )
        else:
            self._log(
                f"NO WORKER of the pool {self._pool!r} is online; start one: python -m deployments.worker {self._pool}"
            )

    def _log(self, message: str) -> None:
        now = time.monotonic()
        if now - self._logged >= PROGRESS_SECONDS or self._logged == self._answered:
            self._logged = now
            logger.warning(message)


def _cancel(client: SyncPrefectClient, run: FlowRun) -> None:
    try:
        if not (state := client.read_flow_run(run.id).state) or not state.is_final():
            client.set_flow_run_state(run.id, Cancelling(message="The run that started it ended"))
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("%s could not be cancelled: %s", run.name, type(error).__name__)


def _message(state: State[Any]) -> str:
    """Return a state's message without the prefix that Prefect adds."""
    message = str(state.message or state.name).removeprefix("Flow run encountered an exception: ")
    return message.removeprefix("Task run encountered an exception: ")[:500]


@step
def save_result(result: Record) -> None:
    """Store the result of the current flow run for the run that started it."""
    if current_run.id:
        object_store().write_bytes(
            result.model_dump_json().encode(), _result_uri(str(current_run.id))
        )


def load_result(run_id: str) -> dict[str, Any]:
    """Return the result that a run stored. Raises PoolError if there is none."""
    content = object_store().read_bytes(_result_uri(run_id), at_most=_LONGEST_RESULT)
    if content is None:
        raise PoolError(
            "The run completed without a result",
            _result_uri(run_id),
            "do both pools use one bucket (NIGHTSHIFT_BUCKET)?",
        )
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError, RecursionError) as error:
        raise PoolError(
            "The result of the run cannot be read",
            _result_uri(run_id),
            "see its log; find out who else may write there",
        ) from error


def _result_uri(run_id: str) -> str:
    return f"s3://{read_settings().bucket}/prepared/results/{run_id}.json"
