"""Cleanup after dead processes: MLflow runs that still say RUNNING, and work folders."""

import functools
import logging
from collections.abc import Mapping
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException

from tasks.connectors.servers.leftovers import remove_dead_sockets
from tasks.connectors.work_folders import remove_left_folders
from tasks.core.tags import FLOW_RUN_TAG
from tasks.runtime.clients import model_registry

logger = logging.getLogger(__name__)


def close_dead_runs() -> int:
    """Mark MLflow runs whose process or flow run is over as KILLED. Returns how many."""
    ask = functools.lru_cache(maxsize=None)(flow_run_is_over)

    def is_over(tags: Mapping[str, str]) -> bool:
        return bool(tags.get(FLOW_RUN_TAG)) and ask(tags[FLOW_RUN_TAG])

    closed = model_registry().close_dead_runs(is_over)
    for run_id in closed:
        logger.warning("Closed MLflow run %s as KILLED: the run that started it is over", run_id)
    return len(closed)


def remove_dead_folders() -> int:
    """Remove work folders and sockets of processes that are gone. Returns how many."""
    removed = remove_left_folders() + remove_dead_sockets()
    for name in removed:
        logger.warning("Removed %s, left behind by a process that is gone", name)
    return len(removed)


def flow_run_is_over(run_id: str) -> bool:
    """True if a flow run is in a final state or unknown to the server; False if the server cannot be asked."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run_id)).state
    except ObjectNotFound:
        return True
    except (httpx.HTTPError, PrefectException, ValueError):
        return False  # its state is unknown
    return state is not None and state.is_final()
