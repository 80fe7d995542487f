"""`make up`, `make down` and `open` beside what an earlier version started, or what became of its passwords."""

import io
import os
import time
from pathlib import Path

import pytest

from deployments.stack import local, starting
from flows.cli import opening
from flows.cli.main import main as nightshift
from tasks.connectors.servers.local_stack import Stack, local_passwords, passwords_of, record_of
from tasks.connectors.servers.processes import this_process
from tasks.core.errors import ServiceError
from tasks.runtime.local_services import local_services
from tasks.runtime.reporting import silence
from tasks.runtime.reporting.terminal import Terminal


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home on which a stack runs, as far as its record says."""
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    record_of(tmp_path).parent.mkdir()
    write_record(tmp_path, asks_for_passwords=True)
    return tmp_path


def write_record(home: Path, asks_for_passwords: bool) -> None:
    """As this version writes it, or as an earlier one did."""
    url = "http://127.0.0.1:1"
    stack = Stack(
        owner=this_process(),
        s3_url="",
        mlflow_url=url,
        prefect_url=url,
        asks_for_passwords=asks_for_passwords,
    )
    written = stack.model_dump_json(exclude_defaults=True)
    assert ("passwords" in written) == asks_for_passwords
    record_of(home).write_text(written)


def test_what_an_earlier_version_started_is_not_called_up(home: Path) -> None:
    write_record(home, asks_for_passwords=False)
    with pytest.raises(
        ServiceError,
        match=r"started by an earlier version, without passwords .* -> run `make down`, then `make up`",
    ):
        local.up(Terminal(file=io.StringIO()), [])


def test_clients_of_what_an_earlier_version_started_find_it_without_a_password(home: Path) -> None:
    passwords = local_passwords(home)
    write_record(home, asks_for_passwords=False)
    assert not [
        name for name in local._service_environment() if "PASSWORD" in name or "AUTH" in name
    ]
    write_record(home, asks_for_passwords=True)
    given = local._service_environment()
    assert given["PREFECT_API_AUTH_STRING"] == passwords.prefect
    assert given["MLFLOW_TRACKING_PASSWORD"] == passwords.mlflow


def test_lost_passwords_of_what_runs_are_missed_in_a_sentence(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["up"], ["status"], ["run", "true"]):
        assert local.main(arguments) == 2
        assert "The passwords cannot be read" in capsys.readouterr().err
    with pytest.raises(ServiceError, match="restore the file"), local_services():
        pass


def test_spoilt_passwords_do_not_keep_it_from_being_stopped(home: Path) -> None:
    passwords_of(home).write_text("{")
    said = io.StringIO()
    assert local.down(Terminal(file=said), []) == 0
    assert "Nightshift is stopped" in said.getvalue() and not record_of(home).exists()


@pytest.mark.parametrize(
    ("below", "login"),
    [
        ("", 'the value of "prefect" in HOME/passwords.json.'),
        ("ha", '"nightshift:" followed by the value of "prefect" in HOME/ha/secrets.json.'),
    ],
)
def test_open_knows_both_services(
    below: str,
    login: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(opening.webbrowser, "open", lambda url: not opened.append(url))
    (home / below).mkdir(exist_ok=True)
    (home / "stack").rename(home / below / "stack")
    assert nightshift(["open"]) == 0
    assert opened == ["http://127.0.0.1:1"]
    said = capsys.readouterr().out.replace(str(home), "HOME")
    assert said == f"Opened http://127.0.0.1:1\nLog in with {login}\n"


def test_status_says_what_is_typed_where(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local_passwords(home)
    monkeypatch.setattr(local, "show_status", lambda *_: 0)
    said = io.StringIO()
    assert local.status(Terminal(file=said), []) == 0
    lines = said.getvalue().replace(str(passwords_of(home)), "FILE").splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["Prefect", 'log in with the value of "prefect" in FILE'],
        ["MLflow", 'log in as admin with the value of "mlflow" in FILE'],
    ]


def test_open_says_in_a_sentence_that_nothing_is_up(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_of(home).unlink()
    assert nightshift(["open"]) == 2
    assert "ServiceError: Nightshift is not running" in capsys.readouterr().err


def test_a_home_of_somebody_else_is_believed_by_nobody(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(opening.webbrowser, "open", opened.append)
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    assert nightshift(["open"]) == 2
    assert opened == []
    for arguments in (["status"], ["down"], ["up"], ["put", __file__, "s3://b/"], ["run", "true"]):
        assert local.main(arguments) == 2
    with pytest.raises(ServiceError, match="It belongs to another user"), local_services():
        pass
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("It belongs to another user, who could read") == 6
    assert record_of(home).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what belongs to others")
def test_a_record_that_somebody_else_laid_into_an_open_home_is_not_believed(home: Path) -> None:
    os.chown(record_of(home), 65534, 65534)
    with (
        pytest.raises(ServiceError, match=r"belongs to another user.*stack\.json"),
        local_services(),
    ):
        pass


def test_a_step_that_takes_long_says_so_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silence, "_SILENT_SECONDS", 0.1)
    stream = io.StringIO()
    with starting.step(Terminal(file=stream), "mlflow"):
        time.sleep(0.15)
    said = stream.getvalue().splitlines()
    assert said[0] == "Still waiting for mlflow: 0 s" and said[-1].startswith("  mlflow ")
