"""A person's surroundings: proxies, terminals, a store that is away; findings as files; errors that are told once."""

import io
import logging
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.connectors.servers.local_servers import LocalObjectStore
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import DataError, ModelError, StoreUnavailableError
from tasks.runtime import steps, waiting
from tasks.runtime.reporting import findings
from tasks.runtime.reporting.findings import keep_findings
from tasks.runtime.reporting.logs import _NOT_THE_LAST, _SENTENCES
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import go_past_proxies_to_loopback
from tests.paths import ROOT

_DEAD = "http://127.0.0.1:9"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_loopback_goes_past_proxies(
    variable: str, s3: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv(variable, _DEAD)
    monkeypatch.setenv("NO_PROXY", "intranet")
    go_past_proxies_to_loopback()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "intranet,127.0.0.1,localhost,::1"
    assert s3.store().unreachable_reason("nightshift") == ""


def test_without_a_proxy_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    go_past_proxies_to_loopback()
    assert "NO_PROXY" not in os.environ and "no_proxy" not in os.environ


def test_nothing_that_is_printed_ends_a_process() -> None:
    """Neither a sign that the terminal lacks, nor a reader who has gone."""
    script = (
        "from tasks.runtime.reporting.terminal import Terminal, print_whatever_comes as p; p(); print('\\U0001f3c3'); "
        "t = Terminal(); [t.print('\\u2603' * 5000) for _ in range(100)]; open('done', 'w')"
    )
    command = [sys.executable, "-c", script]
    for encoding in ("latin-1", "ascii"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            command, env=environment, cwd=_empty(), capture_output=True, check=False
        )
        assert ended.returncode == 0 and rb"\U0001f3c3" in ended.stdout, ended.stderr
    folder = _empty()
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.read(100)
    process.stdout.close()
    process.wait(60)
    assert (folder / "done").exists(), "it went on to its end"


def _empty() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="nightshift-tests-"))


def _waited(monkeypatch: pytest.MonkeyPatch, endpoint: str, gives_up: bool) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    stream = io.StringIO()
    waiting.await_object_store(Terminal(file=stream), gives_up)
    return stream.getvalue()


def test_a_dead_store_is_said_at_once(
    s3: LocalObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that works for hours goes on; one that a person waits for ends in seconds."""
    started = time.monotonic()
    assert "127.0.0.1:9 does not answer" in _waited(monkeypatch, _DEAD, gives_up=False)
    assert time.monotonic() - started < 10
    monkeypatch.setattr(waiting, "_PATIENCE_SECONDS", 1.0)
    with pytest.raises(
        StoreUnavailableError, match=r"does not answer.*correct AWS_ENDPOINT_URL_S3"
    ):
        _waited(monkeypatch, _DEAD, gives_up=True)
    assert time.monotonic() - started < 30
    assert _waited(monkeypatch, s3.endpoint_url, gives_up=True) == "", "a refusal is an answer"


def test_a_person_waits_for_no_step_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.states import exception_to_failed_state
    from prefect.utilities.asyncutils import run_coro_as_sync

    state = run_coro_as_sync(exception_to_failed_state(StoreUnavailableError("away")))
    assert state and steps.is_outage(None, None, state)
    monkeypatch.setattr(steps, "_retries_disabled", type(steps._retries_disabled)())
    steps.disable_retries()
    assert not steps.is_outage(None, None, state)


def _kept(message: str, error: Exception | None = None) -> tuple[str, bool]:
    """What the run's page has of a record, and whether a command's terminal has it."""
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("prefect.flow_runs", logging.ERROR, "x", 1, message, None, info)
    assert _SENTENCES.filter(record)
    return record.getMessage(), bool(_NOT_THE_LAST.filter(record))


def test_a_failure_is_told_once() -> None:
    """Prefect's three lines: the end of the task, the flow's error, the end of the flow."""
    error = ModelError("No such model", "x", "name another")
    sentence = f"ModelError: {error}"
    ended = [
        _kept(f"Finished in state Failed({quote}{which} run encountered an exception{colon} {sentence}{quote})")
        for which, colon, quote in (("Task", "", '"'), ("Flow", ":", '"'), ("Flow", ":", "'"))
    ]  # fmt: skip
    assert ended == [("Finished in state Failed", True)] * 3
    assert _kept("Encountered exception during execution", error) == (sentence, False)


def test_that_a_task_ends_well_is_not_told() -> None:
    """Twenty-seven of the 113 lines of a retraining said so, and nothing else."""
    for message in ("Finished in state Completed()", "Finished in state Completed('All states')"):
        record = logging.LogRecord("prefect.task_runs", logging.INFO, "x", 1, message, None, None)
        assert not _SENTENCES.filter(record)


def test_a_failure_of_the_code_keeps_what_is_known_of_it() -> None:
    message = 'Finished in state Failed("Task run encountered an exception KeyError: 3")'
    assert _kept(message) == (message, True)
    assert _kept("Encountered exception", KeyError(3)) == ("Encountered exception", True)
    own = "Finished in state Failed('Task run encountered an exception DataError: no')"
    assert DataError.__name__ in own and _kept(own) == ("Finished in state Failed", True)


def test_findings_are_files_of_their_owner_alone(
    configured: ObjectStore, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path / "home"))
    configured.write_bytes(b"a review", f"{prefix}/in/a.jsonl")
    objects = {"in/a.jsonl": f"{prefix}/in/a.jsonl"}
    folder = keep_findings(configured, "rejected/reviews-3", objects)
    expected = tmp_path / "home" / "findings" / "rejected" / "reviews-3"
    path = expected / "in" / "a.jsonl"
    assert folder == expected
    assert path.read_bytes() == b"a review" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert keep_findings(configured, "none", {}) is None


def test_what_cannot_be_copied_ends_no_run(
    configured: ObjectStore,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path / "home"))
    configured.write_bytes(b"a review", f"{prefix}/a")
    for name in ("../a", "gone"):
        uri = f"{prefix}/{'gone' if name == 'gone' else 'a'}"
        assert keep_findings(configured, "x", {name: uri}) is None
    assert caplog.text.count("No copy of the findings") == 2
    monkeypatch.setattr(findings, "_MOST_BYTES", 3)
    assert keep_findings(configured, "y", {"a": f"{prefix}/a"}) is not None
    assert "1 larger files were not copied; they are in the object store" in caplog.text
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.org")
    assert keep_findings(configured, "z", {"a": f"{prefix}/a"}) is None, "people open it there"
