"""Cancellation of a run when the run that started it has ended, in whatever way: nobody waits for its result."""

import contextlib
import logging
import threading
from collections.abc import Generator
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run as current_run
from prefect.states import Cancelling

logger = logging.getLogger(__name__)

_POLL_SECONDS = 10.0


@contextlib.contextmanager
def cancelled_with_parent(poll_seconds: float = _POLL_SECONDS) -> Generator[None]:
    """Cancel the current flow run as soon as the run that started it is over, for the duration of the block.

    Prefect cancels the children of a cancelled run, but not those of a dead one.
    """
    context = FlowRunContext.get()
    own = context.flow_run if context else None
    parent = current_run.parent_flow_run_id if own and own.deployment_id else None
    if not own or not parent:  # started by a person, a schedule, or in this very process
        yield
        return
    over = threading.Event()
    watching = threading.Thread(
        target=_watch, args=(own.id, UUID(str(parent)), over, poll_seconds), daemon=True
    )
    watching.start()
    try:
        yield
    finally:
        over.set()


def _watch(own: UUID, parent: UUID, over: threading.Event, poll_seconds: float) -> None:
    with get_client(sync_client=True) as client:
        while not over.is_set():
            try:
                if _is_over(client, parent):
                    logger.error("The run that started this one is over; cancelling")
                    reason = Cancelling(message="The run that started it is over")
                    client.set_flow_run_state(own, reason)
                    return
            except (httpx.HTTPError, PrefectException) as error:
                logger.debug("Prefect does not answer: %s", type(error).__name__)
            over.wait(poll_seconds)


def _is_over(client: SyncPrefectClient, run_id: UUID) -> bool:
    state = client.read_flow_run(run_id).state
    return state is not None and state.is_final()
