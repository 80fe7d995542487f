"""A home that was made by the version without passwords starts under this one: its data are there, and guarded."""

import json
import os
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prefect.workers.process import ProcessWorker

from tasks.connectors.child_process import ChildProcess
from tasks.connectors.local_servers import prefect_server_command, prefect_server_environment
from tasks.connectors.local_stack import passwords_of
from tasks.connectors.seaweedfs import free_ports
from tasks.core.digests import digest_of
from tests.service.stack import Service, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.prefect]
ROOT = Path(__file__).parents[2]
_DESCRIPTION = "Everything but training: preparing, evaluating, registering, scoring."


def make_prefect(folder: Path) -> str:
    """A server without a password that has a finished run, a deployment and a pool as that version made them."""
    port = free_ports(1)[0]
    environment = prefect_server_environment(folder, port, "")
    del environment["PREFECT_SERVER_API_AUTH_STRING"]
    folder.mkdir(parents=True)
    log = folder / "server.log"
    child = ChildProcess("Prefect", prefect_server_command(port), environment, log)
    url = f"http://127.0.0.1:{port}/api"
    try:
        wait_for(lambda: _answers(f"{url}/health"), 120, "the server")
        template = ProcessWorker.get_default_base_job_template()
        pool = {"name": "cpu", "type": "process", "description": _DESCRIPTION}
        _make(f"{url}/work_pools/", pool | {"base_job_template": template})
        applied = digest_of({"definition": ["process", template, _DESCRIPTION]})
        value = json.dumps({"pool:cpu": applied})
        _make(f"{url}/variables/", {"name": "nightshift_applied", "value": value})
        flow = _make(f"{url}/flows/", {"name": "retrain"})["id"]
        deployment = {"name": "retrain", "flow_id": flow, "work_pool_name": "cpu"}
        _make(f"{url}/deployments/", deployment | {"entrypoint": "flows.retrain.retrain"})
        run = {"name": "of-before", "flow_id": flow, "state": {"type": "COMPLETED"}}
        return str(_make(f"{url}/flow_runs/", run)["id"])
    finally:
        child.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _make(url: str, question: dict[str, Any]) -> Any:
    content, headers = json.dumps(question).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=30) as made:
        return json.loads(made.read())


def make_mlflow(folder: Path) -> str:
    """An experiment with a run and a model with a champion, made by nobody's account; returns the run."""
    from mlflow import MlflowClient

    folder.mkdir(parents=True)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    place = (folder / "artifacts").as_uri()
    experiment = client.create_experiment("nightshift", artifact_location=place)
    run = client.create_run(experiment).info.run_id
    client.log_metric(run, "accuracy", 0.9)
    client.set_terminated(run)
    client.create_registered_model("reviews")
    client.create_model_version("reviews", f"{place}/model", run)
    client.set_registered_model_alias("reviews", "champion", "1")
    return run


def test_a_home_of_before(tmp_path: Path) -> None:
    home = tmp_path / "home"
    before = os.umask(0o022)
    try:
        flow_run = make_prefect(home / "prefect")
        run = make_mlflow(home / "mlflow")
    finally:
        os.umask(before)
    for path in (home, home / "prefect", home / "mlflow"):
        path.chmod(0o755)
    service = Service(home, OMP_NUM_THREADS="1")
    try:
        service.up()
        assert home.stat().st_mode & 0o777 == 0o700
        assert passwords_of(home).stat().st_mode & 0o777 == 0o600
        with pytest.raises(urllib.error.HTTPError, match="401"):
            _make(f"{service.stack.prefect_url}/api/flows/filter", {})
        assert service.run(flow_run)["name"] == "of-before"
        template = json.loads((ROOT / "deployments/pools/process.json").read_text())
        assert service.api("work_pools/cpu")["base_job_template"] == template
        champion = service.registry().resolve("reviews", "champion")
        assert champion and champion.version == "1"
        kept = service.registry()._client.get_run(run)
        assert kept.data.metrics == {"accuracy": 0.9}
    finally:
        service.down()
    with sqlite3.connect(home / "mlflow" / "accounts.db") as accounts:
        (hashed,) = accounts.execute("SELECT password_hash FROM users").fetchone()
    assert json.loads(passwords_of(home).read_text())["mlflow"] not in hashed
