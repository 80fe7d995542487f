"""Handing a step to another pool: what comes back, what is tried again, what is cancelled. The worker is played."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Cancelled, Completed, Crashed, Failed, Running

from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import PoolError, RunCrashedError, ServiceError
from tasks.data import arrivals
from tasks.runtime.runs import remote_runs
from tasks.runtime.runs.remote_runs import _result_uri, require_deployment, run_on_pool
from tests.service.stack import wait_for

pytestmark = pytest.mark.prefect

Play = Callable[[SyncPrefectClient, UUID, int], None]


@flow(name="elsewhere")
def elsewhere(params: dict[str, Any]) -> None:
    """Never run: the worker is played."""


@pytest.fixture
def deployment(services: ObjectStore) -> str:
    with get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name="far", type="process"))
        flow_id = client.create_flow(elsewhere)
        client.create_deployment(flow_id, "far", work_pool_name="far", entrypoint="x.y")
    return "elsewhere/far"


class Worker:
    """Takes the runs of the deployment one after the other and does with each what it is told."""

    def __init__(self, *plays: Play) -> None:
        self.runs: list[UUID] = []
        self._plays = plays
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._errors: list[Exception] = []

    def __enter__(self) -> "Worker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._errors:
            raise self._errors[0]

    def _work(self) -> None:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("elsewhere/far")
            mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
            done = {run.id for run in _newest(client, mine)}
            while not self._over.is_set():
                for run in reversed(_newest(client, mine)):
                    if run.id not in done:
                        done.add(run.id)
                        self.runs.append(run.id)
                        self._play(client, run.id, len(self.runs) - 1)
                time.sleep(0.1)

    def _play(self, client: SyncPrefectClient, run: UUID, number: int) -> None:
        try:
            self._plays[min(number, len(self._plays) - 1)](client, run, number)
        except Exception as error:  # raised again in the test's own thread, which must not wait for this run for ever
            self._errors.append(error)
            client.set_flow_run_state(run, Failed(message="the test's worker failed"), force=True)


def _newest(client: SyncPrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    """The newest first: a page of the server holds 200, and the runs of all tests are more."""
    newest_first = FlowRunSort.EXPECTED_START_TIME_DESC
    return client.read_flow_runs(flow_run_filter=wanted, sort=newest_first)


def completes(client: SyncPrefectClient, run: UUID, number: int) -> None:
    from tasks.runtime.clients import object_store

    client.set_flow_run_state(run, Running(), force=True)
    object_store().write_bytes(b'{"answer": 42}', _result_uri(str(run)))
    client.set_flow_run_state(run, Completed(), force=True)


def crashes(client: SyncPrefectClient, run: UUID, number: int) -> None:
    client.set_flow_run_state(run, Crashed(message="killed"), force=True)


def fails(client: SyncPrefectClient, run: UUID, number: int) -> None:
    client.set_flow_run_state(run, Failed(message="No such column"), force=True)


def is_cancelled(client: SyncPrefectClient, run: UUID, number: int) -> None:
    client.set_flow_run_state(run, Cancelled(), force=True)


def leaves_nothing(client: SyncPrefectClient, run: UUID, number: int) -> None:
    client.set_flow_run_state(run, Completed(), force=True)


@flow(name="asks")
def asks(deployment: str) -> dict[str, Any]:
    patient = run_on_pool.with_options(retry_delay_seconds=0)
    return patient(deployment, {"epochs": 2})


def test_small_json_comes_back_and_the_child_is_linked(deployment: str) -> None:
    with Worker(completes) as worker:
        assert asks(deployment) == {"answer": 42}
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(worker.runs[0])
    assert run.parameters == {"params": {"epochs": 2}} and run.parent_task_run_id


def test_a_run_that_dies_is_tried_again(deployment: str) -> None:
    with Worker(crashes, crashes, completes) as worker:
        assert asks(deployment) == {"answer": 42}
    assert len(worker.runs) == 3


@pytest.mark.slow
def test_one_that_always_dies_is_given_up(deployment: str) -> None:
    with Worker(crashes) as worker, pytest.raises(RunCrashedError, match="died: killed"):
        asks(deployment)
    assert len(worker.runs) == 4


@pytest.mark.parametrize(
    ("play", "said"),
    [
        (fails, "failed: No such column"),
        (is_cancelled, "was cancelled"),
        (leaves_nothing, "without a result"),
    ],
)
def test_one_that_fails_is_not_tried_again(play: Play, said: str, deployment: str) -> None:
    with Worker(play) as worker, pytest.raises(PoolError, match=said):
        asks(deployment)
    assert len(worker.runs) == 1


def test_an_unknown_deployment_is_named(services: ObjectStore) -> None:
    with pytest.raises(ServiceError, match=r"no deployment 'fine-tune/gone'.*deployments.apply"):
        asks("fine-tune/gone")


@pytest.fixture
def doomed(services: ObjectStore) -> Iterator[str]:
    """A deployment on a pool of its own, which a person will delete."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="doomed", type="process"))
        flow_id = client.create_flow(elsewhere)
        client.create_deployment(flow_id, "doomed", work_pool_name="doomed", entrypoint="x.y")
    yield "elsewhere/doomed"
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        client.delete_work_pool("doomed")


def test_a_deployment_whose_pool_was_deleted_is_told_before_anything_waits(doomed: str) -> None:
    """Prefect keeps the deployment, and would keep its runs waiting for ever."""
    with get_client(sync_client=True) as client:
        require_deployment(client, doomed)
        client.delete_work_pool("doomed")
    with pytest.raises(ServiceError, match=r"no longer has a work pool.*deployments.apply"):
        asks(doomed)


def test_a_pool_that_is_deleted_meanwhile_ends_the_waiting(
    doomed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote_runs, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(remote_runs, "_POLL_SECONDS", 0.1)
    ended: list[Exception] = []

    def ask() -> None:
        with pytest.raises(PoolError) as caught:
            asks(doomed)
        ended.append(caught.value)

    with get_client(sync_client=True) as client:
        client.update_work_pool("doomed", WorkPoolUpdate(is_paused=True))
        waiting = threading.Thread(target=ask, daemon=True)
        waiting.start()
        wait_for(lambda: "'doomed' is paused" in caplog.text, 60, "the waiting to be told")
        client.delete_work_pool("doomed")
    waiting.join(60)
    assert ended and "'doomed' was deleted while" in str(ended[0]) and "apply" in str(ended[0])


def test_nobody_goes_on_for_a_run_that_ended(
    deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_self: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote_runs._Waiting, "until_over", interrupted)
    with Worker(lambda *_: None) as worker:
        with pytest.raises(BaseException):  # noqa: B017, PT011 - Prefect gives it another name
            asks(deployment)
        wait_for(lambda: worker.runs, 30, "the worker to see the run")
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(worker.runs[0]).state
    assert state and (state.is_cancelling() or state.is_cancelled())


def test_labelled_reviews_are_announced_once_and_when_complete(
    services: ObjectStore, prefix: str
) -> None:
    place = f"{prefix}/labelled/"
    look, announce = arrivals.look.fn, arrivals.announce.fn
    assert look(place) is None  # nothing there
    services.write_bytes(b"1", f"{place}a.jsonl")
    assert look(place) is None  # it may still be landing
    services.write_bytes(b"2", f"{place}b.jsonl")
    assert look(place) is None
    arrived = look(place)
    assert arrived and arrived.objects == 2
    announce(place, arrived)
    assert look(place) is None
    services.write_bytes(b"3", f"{place}_SUCCESS")
    assert look(place) is None  # hidden: no reviews
    services.write_bytes(b"other", f"{place}a.jsonl")
    assert look(place) is None and look(place) is not None
