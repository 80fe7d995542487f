"""What a person deletes in Prefect's pages comes back with `python -m deployments.apply`, on a real server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tasks.connectors.servers.local_servers import LocalPrefectServer
from tests.paths import ROOT

pytestmark = pytest.mark.slow

PASSWORD = "nightshift:of-a-test"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPrefectServer]:
    server = LocalPrefectServer(tmp_path_factory.mktemp("prefect"), PASSWORD)
    server.wait(300)
    yield server
    server.stop()


@pytest.fixture
def client(server: LocalPrefectServer) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(server.api_url, auth_string=PASSWORD) as client:
        yield client


def applied(server: LocalPrefectServer, home: Path) -> str:
    """What `python -m deployments.apply` says."""
    environment = {
        **os.environ,
        "PREFECT_API_URL": server.api_url,
        "PREFECT_API_AUTH_STRING": PASSWORD,
        "PREFECT_HOME": str(home),
        "NIGHTSHIFT_NOTIFICATION_BLOCK": "none",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "deployments.apply"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_pools_deployments_and_automations_come_back(
    server: LocalPrefectServer, client: SyncPrefectClient, tmp_path: Path
) -> None:
    assert "created the process pool gpu" in applied(server, tmp_path)
    assert "Nothing to do" in applied(server, tmp_path)
    on_gpu = client.read_deployment_by_name("fine-tune/fine-tune")
    assert on_gpu.work_pool_name == "gpu"
    tidy = client.read_deployment_by_name("tidy/tidy")
    client.delete_deployment(tidy.id)
    client.delete_work_pool("gpu")
    (automation,) = client.read_automations_by_name("Nightshift: tidy up after a dead run")
    assert client.read_deployment_by_name("fine-tune/fine-tune").work_pool_name is None
    said = applied(server, tmp_path)
    assert "created the process pool gpu" in said and "tidy/tidy" in said
    assert client.read_deployment_by_name("fine-tune/fine-tune").work_pool_name == "gpu"
    made = client.read_deployment_by_name("tidy/tidy")
    (after,) = client.read_automations_by_name(automation.name)
    assert str(made.id) in after.model_dump_json(), "it starts the new one"
    client.delete_automation(after.id)
    assert "created the automation" in applied(server, tmp_path)
    assert "Nothing to do" in applied(server, tmp_path)
