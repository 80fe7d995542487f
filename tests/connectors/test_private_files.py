"""What a machine's other users may not see: passwords, the home folder, what programs make in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments import worker
from tasks.connectors.private_files import make_private, private_files
from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.local_stack import accounts_of, local_passwords, passwords_of
from tasks.core.errors import ServiceError
from tasks.runtime.local_services import ownership


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture(autouse=True)
def _usual_umask() -> object:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_passwords_are_made_once_and_their_owner_alone_reads_them(tmp_path: Path) -> None:
    first = local_passwords(tmp_path)
    assert local_passwords(tmp_path) == first
    assert mode(passwords_of(tmp_path)) == 0o600
    made = first.model_dump()
    assert len(set(made.values())) == 3 and all(len(value) >= 48 for value in made.values())
    assert first.prefect.startswith("nightshift:")
    assert not any(value in repr(first) for value in made.values())


def test_two_homes_have_other_passwords(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert local_passwords(tmp_path / "a") != local_passwords(tmp_path / "b")


def test_spoilt_passwords_are_said_and_not_quoted(tmp_path: Path) -> None:
    passwords_of(tmp_path).write_text('{"prefect": 1, "mlflow": "a-secret"}')
    with pytest.raises(
        ServiceError, match=r"cannot be read.*accounts\.db.*created again"
    ) as caught:
        local_passwords(tmp_path)
    assert "a-secret" not in str(caught.value) and caught.value.__suppress_context__


def test_lost_passwords_are_not_made_anew_for_accounts_that_have_others(tmp_path: Path) -> None:
    accounts_of(tmp_path).parent.mkdir()
    accounts_of(tmp_path).touch()
    with pytest.raises(ServiceError, match="restore the file"):
        local_passwords(tmp_path)
    accounts_of(tmp_path).unlink()
    assert local_passwords(tmp_path)


@pytest.mark.parametrize("before", [None, 0o755, 0o777, 0o700])
def test_a_home_is_its_owners_alone(before: int | None, tmp_path: Path) -> None:
    home = tmp_path / "home"
    if before is not None:
        home.mkdir()
        home.chmod(before)
    with ownership(home):
        assert mode(home) == 0o700


def test_a_home_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ServiceError, match=r"belongs to another user.*NIGHTSHIFT_HOME"):
        make_private(tmp_path)


def test_a_folder_that_others_pass_through_shows_them_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("prefect", "ha/postgres"):
        (home / name).mkdir(parents=True)
    (home / "studies.db").touch()
    make_private(home, passable=True)
    make_private(home / "ha", passable=True)
    assert [mode(home), mode(home / "ha")] == [0o711, 0o711]
    assert [mode(home / n) for n in ("prefect", "ha/postgres", "studies.db")] == [
        0o700,
        0o700,
        0o600,
    ]
    make_private(home)  # as `make up` does beside `make up-ha`
    assert [mode(home), mode(home / "ha"), mode(home / "prefect")] == [0o711, 0o711, 0o700]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what belongs to others")
def test_a_folder_with_data_of_another_account_stays_passable(tmp_path: Path) -> None:
    """A worker of `make up-ha` makes its home private again when it keeps findings there."""
    home = tmp_path / "ha"
    make_private(home, passable=True)
    (home / "nginx").mkdir(mode=0o700)
    os.chown(home / "nginx", 33, 33)
    make_private(home)
    assert [mode(home), mode(home / "nginx")] == [0o711, 0o700]


def test_the_umask_holds_for_a_while_and_for_children(tmp_path: Path) -> None:
    with private_files():
        (tmp_path / "ours").mkdir()
        subprocess.run(["touch", tmp_path / "theirs"], check=True)
    (tmp_path / "after").mkdir()
    assert [mode(tmp_path / n) for n in ("ours", "theirs", "after")] == [0o700, 0o600, 0o755]


def test_what_a_server_makes_is_private(tmp_path: Path) -> None:
    code = "import sys; open(sys.argv[1], 'w').close()"
    command = [sys.executable, "-c", code, str(tmp_path / "made")]
    child = ChildProcess("A server", command, dict(os.environ), tmp_path / "log")
    child._process.wait(60)
    child.stop()
    assert mode(tmp_path / "made") == 0o600


def test_what_runs_of_a_worker_make_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(*_: object) -> None:
        raise InterruptedError(os.umask(0o022))

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr(worker, "set_client_defaults", lambda: None)
    with pytest.raises(InterruptedError) as caught:
        worker.main(["cpu"])
    assert caught.value.args == (0o077,)
