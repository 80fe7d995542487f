"""The few requests of the local stack to a Prefect server, without importing Prefect, which takes seconds."""

import base64
import json
import os
import urllib.request
from collections.abc import Callable
from datetime import datetime
from typing import Any

_UNDER_WAY = ["RUNNING", "PENDING", "CANCELLING"]


def ask(path: str, question: dict[str, Any]) -> Any:
    """POST to the configured server's API. Raises OSError if it is unavailable or refuses."""
    headers = {"Content-Type": "application/json"}
    if proof := os.environ.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = "Basic " + base64.b64encode(proof.encode()).decode()
    elif key := os.environ.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    url = f"{os.environ['PREFECT_API_URL'].rstrip('/')}/{path}"
    request = urllib.request.Request(url, json.dumps(question).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


def worker_problem(pool: str, pid: Callable[[], int]) -> str:
    """Return why a worker is not online; '' if it is.

    Args:
        pool: its work pool.
        pid: returns its current process ID; a worker that was just killed counts as online for a while.
    """
    try:
        names = online_workers(pool)
    except (OSError, ValueError) as error:
        return str(error)
    return "" if any(name.endswith(f"-{pid()}") for name in names) else "the worker is not online"


def online_workers(pool: str) -> list[str]:
    """Return the names of the workers of a pool with a recent heartbeat."""
    workers = ask(f"work_pools/{pool}/workers/filter", {})
    return [worker["name"] for worker in workers if worker["status"] == "ONLINE"]


def next_runs() -> list[tuple[str, datetime]]:
    """Return the deployments with a schedule, and the time of the next run of each."""
    deployments = {d["id"]: d["name"] for d in ask("deployments/filter", {})}
    question = {
        "sort": "NEXT_SCHEDULED_START_TIME_ASC",
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "limit": 200,
    }
    next_times: dict[str, datetime] = {}
    for run in ask("flow_runs/filter", question):
        name = deployments.get(run["deployment_id"])
        if name and run["next_scheduled_start_time"]:
            next_times.setdefault(name, datetime.fromisoformat(run["next_scheduled_start_time"]))
    return sorted(next_times.items(), key=lambda item: item[1])


def end_runs(reason: str) -> list[str]:
    """Mark the runs whose processes were just stopped as Crashed; return their names."""
    tagged = {"tags": {"all_": ["nightshift"]}, "state": {"type": {"any_": _UNDER_WAY}}}
    runs: list[dict[str, Any]] = ask("flow_runs/filter", {"flow_runs": tagged})
    state = {"type": "CRASHED", "name": "Crashed", "message": reason}
    for run in runs:
        ask(f"flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    return [run["name"] for run in runs]
