"""The Prefect server that a run starts for itself lets nobody in who does not know its password."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.connectors.servers.local_stack import local_passwords, passwords_of
from tasks.runtime.local_services import local_services
from tests.paths import ROOT

pytestmark = pytest.mark.prefect
FLOW = "from prefect import flow\n\n@flow\ndef hello() -> None: ...\n"


class Embedded:
    """The running server, asked as anybody on this machine may ask it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.api_url = os.environ["PREFECT_API_URL"]
        self.login = os.environ["PREFECT_API_AUTH_STRING"]
        self.environment = dict(os.environ)

    def ask(
        self,
        path: str,
        question: Any = None,
        login: str = "",
        method: str | None = None,
        **more: str,
    ) -> tuple[int, Any]:
        """Status and answer."""
        headers = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in more.items()
        }
        if login:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        content = None if question is None else json.dumps(question).encode()
        request = urllib.request.Request(f"{self.api_url}/{path}", content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def make(self, path: str, question: Any) -> Any:
        """What the owner makes."""
        status, said = self.ask(path, question, self.login)
        assert status < 300, said
        return json.loads(said)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    home = tmp_path_factory.mktemp("embedded") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHIFT_HOME", str(home))
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        patch.setenv("PREFECT_API_AUTH_STRING", "somebody:of-another-server")
        with local_services():
            yield Embedded(home)


def test_without_the_password_nothing_is_answered(server: Embedded) -> None:
    assert server.ask("flows/filter", {}, server.login)[0] == 200
    for login in ("", "nightshift:", "admin:pass", "somebody:of-another-server"):
        assert server.ask("flows/filter", {}, login)[0] == 401
        assert server.ask("admin/settings", None, login)[0] == 401
        assert server.ask("variables/", {"name": "x", "value": 1}, login)[0] == 401
    assert server.login == local_passwords(server.home).prefect


def test_health_is_answered_to_everybody(server: Embedded) -> None:
    assert [server.ask(path)[0] for path in ("health", "ready")] == [200, 200]


def test_a_page_of_another_address_is_refused_by_the_browsers_own_question(
    server: Embedded,
) -> None:
    def preflight(origin: str) -> int:
        asked = {
            "Access_Control_Request_Method": "POST",
            "Access_Control_Request_Headers": "authorization",
        }
        return server.ask("flows/filter", None, "", "OPTIONS", Origin=origin, **asked)[0]

    port = server.api_url.split(":")[2].partition("/")[0]
    assert preflight(f"http://127.0.0.1:{port}") == preflight(f"http://localhost:{port}") == 200
    for origin in ("http://example.org", "null", "http://127.0.0.1:1", f"https://localhost:{port}"):
        assert preflight(origin) == 400


def test_the_password_is_in_the_environment_alone(server: Embedded) -> None:
    password = server.login.partition(":")[2]
    told = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert any("prefect server start" in line for line in told)
    assert not [line for line in told if password in line]
    files = [
        p
        for p in server.home.rglob("*")
        if p.is_file() and password in p.read_text(errors="replace")
    ]
    assert files == [passwords_of(server.home)]
    shown = [p for p in server.home.rglob("*") if p.stat().st_mode & 0o077]
    assert not [p for p in shown if "ui" not in p.parts], "its pages, which everybody may have"


def test_a_run_that_brings_its_own_command_is_refused(server: Embedded, tmp_path: Path) -> None:
    """Also to those who know the password: the template of the pool has no place for a command."""
    proof, deployment = tmp_path / "proof", f"deployments/{deployed(server, tmp_path)}"
    command = {"command": f"touch {proof}"}
    for given in (command, {"env": {"A": "b"}}, {"working_dir": "/tmp"}):
        new_run = f"{deployment}/create_flow_run"
        status, said = server.ask(new_run, {"job_variables": given}, server.login)
        assert (status, b"Additional properties are not allowed" in said) == (422, True), said
    run = server.make(f"{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    change = {"job_variables": command}
    assert server.ask(f"flow_runs/{run['id']}", change, server.login, "PATCH")[0] == 422
    # Prefect looks at no variables when a deployment is changed; the worker then finds no place for them.
    assert server.ask(deployment, change, server.login, "PATCH")[0] == 204
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "cpu", "--run-once"]
    environment = server.environment | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    subprocess.run(worker, env=environment, check=True, capture_output=True, timeout=300)
    done = json.loads(server.ask(f"flow_runs/{run['id']}", None, server.login)[1])
    assert done["state_type"] == "COMPLETED", done["state"]
    assert not proof.exists()


@pytest.mark.parametrize("password", ["", "somebody:of-another-server"])
@pytest.mark.parametrize(
    "command", ["flows history", "deployments.apply", "deployments.worker cpu"]
)
def test_who_has_its_address_alone_is_told_where_the_password_is(
    command: str, password: str, server: Embedded
) -> None:
    kept = {k: v for k, v in server.environment.items() if k != "PREFECT_API_AUTH_STRING"}
    given = {"PREFECT_API_AUTH_STRING": password} if password else {}
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        env=kept | given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        f"requires a password, and PREFECT_API_AUTH_STRING is missing or wrong [{server.api_url}]"
        in (done.stderr)
    )
    assert f'to the value of "prefect" in {passwords_of(server.home)}' in done.stderr


def deployed(server: Embedded, folder: Path) -> str:
    """A deployment on the pool `cpu`; returns its id."""
    (folder / "a_flow_of_a_test.py").write_text(FLOW)
    template = json.loads((ROOT / "deployments/pools/process.json").read_text())
    server.make("work_pools/", {"name": "cpu", "type": "process", "base_job_template": template})
    flow = server.make("flows/", {"name": "hello"})
    made = {
        "name": "hello",
        "flow_id": flow["id"],
        "entrypoint": "a_flow_of_a_test.hello",
        "pull_steps": [],
        "work_pool_name": "cpu",
    }
    return str(server.make("deployments/", made)["id"])
