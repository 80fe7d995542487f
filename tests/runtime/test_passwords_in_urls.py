"""A password in any setting that is a URL: it is in no message, no log line and no line of a terminal."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments import apply, worker
from flows.cli.main import main as flow
from tasks.connectors.servers.local_servers import require_prefect
from tasks.connectors.storage import object_store
from tasks.connectors.storage.studies import StudyStore
from tasks.connectors.tracking.runs import TrackedRuns
from tasks.core.errors import NightshiftError
from tasks.runtime.settings import read_settings

PASSWORD = "hunter2-secret"
URL = f"http://someone:{PASSWORD}@127.0.0.1:9"
NO_PORT = f"http://someone:{PASSWORD}@localhost"  # what Python takes for a port is the password
ODD = f"http://someone:{PASSWORD}/#?{PASSWORD}@127.0.0.1:9"  # not encoded, as people write it


def all_of(error: BaseException) -> str:
    return f"{error} {error!r} {error.args}"


@pytest.mark.parametrize(
    "url", [URL, NO_PORT, ODD, URL.replace("://", ":/"), URL.replace("http", "htp")]
)
def test_the_object_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(NightshiftError) as caught:
        object_store.ObjectStore(url, "a", "b").read_bytes("s3://nightshift/x")
    assert PASSWORD not in all_of(caught.value)


@pytest.mark.parametrize("url", [URL, NO_PORT, ODD])
def test_mlflow(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(NightshiftError) as caught:
        TrackedRuns(url, "x")
    said = capfd.readouterr()
    assert PASSWORD not in all_of(caught.value) + said.out + said.err


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://someone:{PASSWORD}@127.0.0.1:9/x",
        f"postgresql+nodriver://someone:{PASSWORD}@127.0.0.1/x",
        f"postgresql://someone:{PASSWORD}/x@127.0.0.1:9/x",
        f"nothing//someone:{PASSWORD}@x",
        f"sqlite:////proc/{PASSWORD}@x/y.db",
    ],
)
def test_the_database_of_the_sweeps(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NightshiftError) as caught:
        StudyStore(url)
    said = capfd.readouterr()
    assert f":{PASSWORD}" not in all_of(caught.value) + said.out + said.err


def test_settings_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_STORE_PAGE", URL)
    with pytest.raises(NightshiftError) as caught:
        read_settings()
    assert PASSWORD not in all_of(caught.value)


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")  # the worker sets its own
@pytest.mark.parametrize("command", [flow, apply.main, worker.main], ids=lambda c: c.__module__)
@pytest.mark.parametrize(
    "url", [URL, NO_PORT, ODD, NO_PORT.removeprefix("http://"), NO_PORT.replace("@", "[x@")]
)
def test_a_password_in_the_url_of_prefect_is_refused_in_a_sentence(
    url: str,
    command: Callable[[list[str]], int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
    monkeypatch.setattr(os, "execv", None)
    arguments = {flow: ["history"], worker.main: ["cpu"]}
    assert command(arguments.get(command, [])) == 2
    said = capfd.readouterr()
    assert PASSWORD not in said.out + said.err
    assert "[PREFECT_API_URL] -> put user and password into PREFECT_API_AUTH_STRING" in said.err


def test_what_is_no_url_is_said_by_its_kind() -> None:
    for url in ("http://localhost:port/api", "http://127.0.0.1:9/a\x00b"):
        with pytest.raises(NightshiftError, match=r"answers: .* \(InvalidURL\) .*PREFECT_API_URL"):
            require_prefect(url)


@pytest.mark.slow  # each waits until a server that is not there is given up
@pytest.mark.parametrize(
    "given",
    [
        {"PREFECT_API_URL": f"{URL}/api"},
        {"AWS_ENDPOINT_URL_S3": URL.replace("http:", "htp:")},
        {"MLFLOW_TRACKING_URI": URL.replace("http:", "htp:")},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_command_that_fails_says_no_password(given: dict[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, "NIGHTSHIFT_HOME": str(tmp_path), **given}
    command = [sys.executable, "-m", "flows", "history"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode
    assert PASSWORD not in done.stdout + done.stderr, done.stderr[-2000:]
