"""A password in any setting that is a URL: it is in no message, no log line and no line of a terminal."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from tasks.connectors import object_store
from tasks.connectors.studies import StudyStore
from tasks.connectors.tracked_runs import TrackedRuns
from tasks.core.errors import NightshiftError
from tasks.settings import read_settings

PASSWORD = "hunter2-secret"
URL = f"http://someone:{PASSWORD}@127.0.0.1:9"
ODD = f"http://someone:{PASSWORD}/#?{PASSWORD}@127.0.0.1:9"  # not encoded, as people write it


def all_of(error: BaseException) -> str:
    return f"{error} {error!r} {error.args}"


@pytest.mark.parametrize("url", [URL, ODD, URL.replace("://", ":/"), URL.replace("http", "htp")])
def test_the_object_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:

    def once(**given: Any) -> Config:
        given["retries"] = {"total_max_attempts": 1}
        return Config(**given)

    monkeypatch.setattr(object_store, "Config", once)
    with pytest.raises(NightshiftError) as caught:
        object_store.ObjectStore(url, "a", "b").read_bytes("s3://nightshift/x")
    assert PASSWORD not in all_of(caught.value)


@pytest.mark.parametrize("url", [URL, ODD])
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
