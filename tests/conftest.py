"""Real parts for the tests: an S3 server, an MLflow store, a Prefect server, tiny models. No test reaches a network."""

import atexit
import gc
import importlib
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.connectors.servers.local_servers import NO_TELEMETRY, LocalObjectStore
from tasks.connectors.storage.object_store import ObjectStore
from tasks.runtime.settings import SLEEPING_THREADS

if TYPE_CHECKING:
    from tasks.connectors.tracking.model_registry import ModelRegistry

BUCKET = "nightshift"


def pytest_configure() -> None:
    """Nothing of the developer's own configuration reaches a test, and no test reaches a hub.

    Before collection, because libraries read the environment when test modules import them.
    """
    home = tempfile.mkdtemp(prefix="nightshift-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in list(os.environ):
        if name.startswith(("AWS_", "MLFLOW_", "PREFECT_", "NIGHTSHIFT_", "HF_")):
            del os.environ[name]
    for name, value in SLEEPING_THREADS.items():
        os.environ.setdefault(name, value)
    os.environ |= NO_TELEMETRY | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": f"{home}/hf",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NIGHTSHIFT_HOME": f"{home}/nightshift",
        "PREFECT_HOME": f"{home}/prefect",
    }


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalObjectStore]:
    """A real S3 server."""
    server = LocalObjectStore(tmp_path_factory.mktemp("s3"))
    server.store().make_bucket(BUCKET)
    yield server
    server.stop()


@pytest.fixture
def store(s3: LocalObjectStore) -> ObjectStore:
    """A client of it."""
    return s3.store()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A place of this test's own in the bucket."""
    return f"s3://{BUCKET}/tests/{request.node.name.replace('[', '-').rstrip(']')}"


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow store."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def registry(tracking_uri: str) -> "ModelRegistry":
    """A client of it."""
    from tasks.connectors.tracking.model_registry import ModelRegistry

    return ModelRegistry(tracking_uri, "tests")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two small layers with random weights, and its own vocabulary."""
    from tests.models import tiny_bert

    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of GPT-2, with a byte-level BPE and no pad token."""
    from tests.models import tiny_gpt2

    return tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def _prefect() -> Generator[None]:
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    _leave_out_libraries_of_collections()
    with (
        prefect_test_harness(server_startup_timeout=120),
        # At the end of each run Prefect waits half a second, on average, for the thread of its heartbeats.
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


def _leave_out_libraries_of_collections() -> None:
    """Every training collects garbage twice, which takes the longer the more objects there are."""
    for library in ("mlflow", "torch", "transformers.trainer"):
        importlib.import_module(library)
    gc.collect()
    gc.freeze()


@pytest.fixture
def configured(s3: LocalObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The S3 server is the one that is configured."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    return s3.store()


@pytest.fixture
def services(
    configured: ObjectStore, tracking_uri: str, _prefect: None, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    """What a flow finds on a machine where everything runs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    return configured
