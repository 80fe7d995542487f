"""A home that was made by the version without passwords starts under this one: its data are there, and guarded."""

import json
import os
import sqlite3
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tasks.connectors.servers.local_stack import passwords_of
from tests.commits import code_of
from tests.paths import ROOT
from tests.reviews import jsonl, reviews
from tests.service.stack import Service

BEFORE = "72417a1"  # the last commit without passwords and certificates
_KNOWN = subprocess.run(
    ["git", "-C", str(ROOT), "cat-file", "-e", BEFORE], capture_output=True, check=False
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.prefect,
    pytest.mark.skipif(_KNOWN.returncode != 0, reason="needs the repository's history"),
]
LARGE = os.urandom(20_000_000)
SMALL = jsonl(reviews(60))


def made_before(service: Service, folder: Path) -> tuple[str, str]:
    """Objects, a flow run and a champion, made with no password; returns the runs of Prefect and of MLflow."""
    for name, content in (("large.bin", LARGE), ("small.jsonl", SMALL)):
        (folder / name).write_bytes(content)
        service.command("put", str(folder / name), "s3://nightshift/before/")
    api = f"{service.stack.prefect_url}/api"
    flow = asked(f"{api}/flows/", {"name": "retrain"})["id"]
    run = {"name": "of-before", "flow_id": flow, "state": {"type": "COMPLETED"}}
    return str(asked(f"{api}/flow_runs/", run)["id"]), champion_of(service.stack.mlflow_url)


def champion_of(url: str) -> str:
    """A run of an MLflow server without accounts, and a model with a champion."""
    from mlflow import MlflowClient

    client = MlflowClient(url)
    run = client.create_run(client.create_experiment("before")).info
    client.log_metric(run.run_id, "accuracy", 0.9)
    client.set_terminated(run.run_id)
    client.create_registered_model("reviews")
    client.create_model_version("reviews", f"{run.artifact_uri}/model", run.run_id)
    client.set_registered_model_alias("reviews", "champion", "1")
    return run.run_id


def asked(url: str, question: dict[str, Any]) -> Any:
    """The answer to a question without a password."""
    content, headers = json.dumps(question).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=30) as made:
        return json.loads(made.read())


def test_a_home_of_before(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with code_of(BEFORE) as root:
        old = Service(home, root, OMP_NUM_THREADS="1")
        umask = os.umask(0o022)
        try:
            old.up()
            flow_run, run = made_before(old, tmp_path)
        finally:
            old.down()
            os.umask(umask)
    home.chmod(0o755)
    service = Service(home, OMP_NUM_THREADS="1")
    try:
        service.up()
        assert home.stat().st_mode & 0o777 == 0o700
        assert passwords_of(home).stat().st_mode & 0o777 == 0o600
        with pytest.raises(urllib.error.HTTPError, match="401"):
            asked(f"{service.stack.prefect_url}/api/flows/filter", {})
        assert service.run(flow_run)["name"] == "of-before"
        template = json.loads((ROOT / "deployments/pools/process.json").read_text())
        assert service.api("work_pools/cpu")["base_job_template"] == template
        store = service.store()
        assert store.read_bytes("s3://nightshift/before/large.bin") == LARGE
        assert store.read_bytes("s3://nightshift/before/small.jsonl") == SMALL
        assert (home / "s3/.seaweedfs").stat().st_mode & 0o777 == 0o700
        champion = service.registry().resolve("reviews", "champion")
        assert champion and champion.version == "1"
        kept = service.registry()._client.get_run(run)
        assert kept.data.metrics == {"accuracy": 0.9}
    finally:
        service.down()
    with sqlite3.connect(home / "mlflow" / "accounts.db") as accounts:
        (hashed,) = accounts.execute("SELECT password_hash FROM users").fetchone()
    assert json.loads(passwords_of(home).read_text())["mlflow"] not in hashed
