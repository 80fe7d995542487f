"""A whole service of one's own for a test or a script: `make up` on free ports, in a folder that is thrown away."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from deployments.stack.supervision import ProgramState, Supervisor
from tasks.connectors.servers.local_stack import Stack, passwords_of, running_stack
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking.model_registry import ModelRegistry
from tests.commits import module_in
from tests.paths import ROOT

_MLFLOW_ACCOUNT = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
T = TypeVar("T")


def wait_for(look: Callable[[], T], seconds: float, what: str, every: float = 0.25) -> T:
    """What `look` returns as soon as it is something. Raises TimeoutError with `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)
    return found


class Service:
    """The running service, as a person at the API sees it.

    Args:
        home: its folder.
        root: of the code that it runs.
        environment: settings beside those that make it stand alone.
    """

    def __init__(self, home: Path, root: Path = ROOT, **environment: str) -> None:
        self.home, self._root = home, root
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("AWS_", "MLFLOW_", "PREFECT_", "NIGHTSHIFT_"))
        }
        self._environment = (
            kept
            | {
                "NIGHTSHIFT_HOME": str(home),
                "PYTHONPATH": str(root),
                "HF_HUB_OFFLINE": "1",
                "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            | environment
        )
        self.supervisor = Supervisor(home / "stack", str(home))

    def command(self, *arguments: str) -> str:
        """Run `python -m deployments.stack.local ...`; returns what it says."""
        done = subprocess.run(
            [sys.executable, "-m", module_in(self._root, "deployments.stack.local"), *arguments],
            cwd=self._root,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}\n{done.stderr}")
        return done.stdout

    def up(self) -> str:
        """Start it."""
        return self.command("up")

    def down(self) -> str:
        """Stop it."""
        for name in _MLFLOW_ACCOUNT:
            os.environ.pop(name, None)
        return self.command("down")

    def left_processes(self) -> list[str]:
        """Names of processes of this service that are there."""
        return [p.name() for p in psutil.process_iter() if self.supervisor._is_marked(p)]

    @property
    def stack(self) -> Stack:
        """Where things are."""
        found = running_stack(self.home)
        assert found, "it is not up"
        return found

    @property
    def environment(self) -> dict[str, str]:
        """For a client of it."""
        return self._environment | self.stack.environment(self.home)

    @property
    def credentials(self) -> dict[str, str]:
        """The accounts and addresses that a worker has."""
        return self.stack.environment(self.home)

    def store(self) -> ObjectStore:
        """A client of its object store."""
        given = self.stack.addresses(self.home)
        return ObjectStore(
            given["AWS_ENDPOINT_URL_S3"], given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]
        )

    def registry(self) -> ModelRegistry:
        """A client of its model registry. MLflow's own client finds its password in the environment alone."""
        given = self.credentials
        os.environ.update({name: given[name] for name in _MLFLOW_ACCOUNT})
        return ModelRegistry(self.stack.mlflow_url, "nightshift")

    def program(self, name: str) -> ProgramState:
        """What supervisor says of one of its programs."""
        return self.supervisor.state(name)

    def api(self, path: str, question: Any = None, method: str | None = None) -> Any:
        """GET from Prefect's API, or POST a question to it. None when the server does not answer.

        Asks again after a 503, as Prefect's own client does: by that its server says that SQLite was locked.
        """
        request = urllib.request.Request(
            f"{self.stack.prefect_url}/api/{path}",
            None if question is None else json.dumps(question).encode(),
            {"Content-Type": "application/json", "Authorization": self.proof()},
            method=method,
        )
        for seconds in (0.5, 1, 2, 4, 0):
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != 503 or not seconds:
                    raise
                time.sleep(seconds)
            except OSError:
                return None
        return None

    def proof(self) -> str:
        """The header by which Prefect's server knows its owner."""
        return f"Basic {base64.b64encode(self.login.encode()).decode()}"

    @property
    def login(self) -> str:
        """What Prefect's login page asks for, as a person finds it in the file."""
        return str(json.loads(passwords_of(self.home).read_text())["prefect"])

    def press_run(self, deployment: str, params: dict[str, Any], **changed: Any) -> str:
        """What the Run button of the UI does; returns the run's id."""
        flow, _, name = deployment.partition("/")
        found = self.api(f"deployments/name/{flow}/{name}")
        question = {"parameters": {"params": params}, "state": {"type": "SCHEDULED"}} | changed
        return str(self.api(f"deployments/{found['id']}/create_flow_run", question)["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A flow run."""
        return self.api(f"flow_runs/{run_id}") or {}

    def state(self, run_id: str) -> str:
        """The type of its state; '' while the server is away."""
        return str(self.run(run_id).get("state_type") or "")

    def until(self, run_id: str, *states: str, seconds: float = 300) -> str:
        """Wait for one of these states (over, if none is named); returns it."""
        wanted = states or OVER
        return wait_for(
            lambda: self.state(run_id) if self.state(run_id) in wanted else "",
            seconds,
            f"{run_id} to be {' or '.join(wanted)}, at last {self.state(run_id)}",
        )

    def children(self, run_id: str) -> list[dict[str, Any]]:
        """Runs that a run has started, oldest first."""
        question = {
            "flow_runs": {"parent_flow_run_id": {"any_": [run_id]}},
            "sort": "START_TIME_ASC",
        }
        return self.api("flow_runs/filter", question) or []

    def log(self, run_id: str) -> list[str]:
        """The lines on a run's page."""
        question = {
            "logs": {"flow_run_id": {"any_": [run_id]}},
            "sort": "TIMESTAMP_ASC",
            "limit": 200,
        }
        lines: list[str] = []
        while page := self.api("logs/filter", question | {"offset": len(lines)}):
            lines += [entry["message"] for entry in page]
        return lines

    def flow_process(self, run_id: str) -> psutil.Process | None:
        """The process on this machine that runs a flow run's code: the innermost."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PREFECT__FLOW_RUN_ID", "").replace(
                    "-", ""
                ) == run_id.replace("-", "") and self.supervisor._is_marked(process):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return max(found, key=lambda p: p.create_time(), default=None)
