"""Nothing of a killed process stays: no server on its folder, no sockets; and of others nothing is taken or touched."""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tasks.connectors.private_files import private_folder, temporary_folder
from tasks.connectors.servers import leftovers
from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.leftovers import remove_dead_sockets
from tasks.connectors.servers.local_servers import LocalObjectStore
from tasks.connectors.servers.seaweedfs import SeaweedFS, free_ports
from tasks.connectors.work_folders import remove_left_folders
from tasks.core.errors import ServiceError
from tests.connectors.servers.test_local_servers import wait_for
from tests.paths import ROOT


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def sleeper(tmp_path: Path) -> tuple[ChildProcess, psutil.Process, psutil.Process]:
    """A child, its guardian, and itself."""
    child = ChildProcess("Sleeper", ["sleep", "600"], dict(os.environ), tmp_path / "log")
    guardian = psutil.Process(child._process.pid)
    assert wait_for(lambda: [p for p in guardian.children() if p.name() == "sleep"])
    return child, guardian, guardian.children()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it, and only Linux's")
def test_a_child_dies_with_its_guardian(tmp_path: Path) -> None:
    child, guardian, process = sleeper(tmp_path)
    guardian.kill()
    assert wait_for(lambda: gone(process), 5)
    with pytest.raises(ServiceError, match="Sleeper stopped with status -9"):
        child.require_running()
    child.stop()


def test_a_child_dies_with_a_parent_whose_pipe_another_holds(tmp_path: Path) -> None:
    """A process that the parent forked has the pipe's end, too, and lives on."""
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from tests.connectors.servers.test_leftovers import sleeper\n"
        "print(*(p.pid for p in sleeper(Path(sys.argv[1]))[1:]), flush=True)\n"
        "forked = os.fork()\n"
        "if forked: print(forked, flush=True)\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout
        guardian, process = (psutil.Process(int(p)) for p in parent.stdout.readline().split())
        forked = psutil.Process(int(parent.stdout.readline()))
        try:
            parent.kill()
            assert wait_for(lambda: gone(guardian) and gone(process), 10)
            assert not gone(forked)
        finally:
            forked.kill()


def orphan(folder: Path) -> psutil.Process:
    """A store that serves a folder, with an object in it, and whose parent is gone."""
    code = (
        "import subprocess, sys; from pathlib import Path\n"
        "from tasks.connectors.servers.seaweedfs import SeaweedFS, free_ports\n"
        "s = SeaweedFS(Path(sys.argv[1]), free_ports(1)[0]); log = open(sys.argv[2], 'wb')\n"
        "p = subprocess.Popen(s.command, env=s.environment, stdout=log, stderr=log, cwd=s.folder)\n"
        "while s.problem(): pass\n"
        "s.store().make_bucket('kept'); s.store().write_bytes(b'here', 's3://kept/x')\n"
        "print(p.pid, flush=True)"
    )
    log = folder.parent / "orphan.log"
    command = [sys.executable, "-c", code, str(folder), str(log)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return psutil.Process(int(done.stdout))


def test_a_store_left_running_is_ended_and_its_data_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = orphan(tmp_path / "s3")
    with caplog.at_level(logging.WARNING):
        store = LocalObjectStore(tmp_path / "s3")
    try:
        assert gone(left) and f"process {left.pid}), which a killed process had left" in caplog.text
        assert store.store().read_bytes("s3://kept/x") == b"here"
    finally:
        store.stop()


def test_a_store_left_running_that_does_not_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = orphan(tmp_path / "s3")

    def wait(process: psutil.Process, seconds: float) -> None:
        raise psutil.TimeoutExpired(seconds, process.pid)

    monkeypatch.setattr(psutil.Process, "wait", wait)
    with pytest.raises(ServiceError, match=rf"process {left.pid}, was killed and has not ended"):
        LocalObjectStore(tmp_path / "s3")
    assert wait_for(lambda: gone(left))


def test_a_store_that_somebody_still_runs_is_named(tmp_path: Path) -> None:
    first = LocalObjectStore(tmp_path)
    try:
        with pytest.raises(
            ServiceError,
            match=rf"process \d+, serves this folder for process {os.getpid()} .*end process {os.getpid()}",
        ):
            LocalObjectStore(tmp_path)
        assert first._program.problem() == ""
    finally:
        first.stop()
    LocalObjectStore(tmp_path).stop()


def test_stores_on_other_folders_are_left_alone(tmp_path: Path) -> None:
    first = LocalObjectStore(tmp_path / "one")
    second = LocalObjectStore(tmp_path / "two")
    try:
        assert first._program.problem() == second._program.problem() == ""
    finally:
        first.stop()
        second.stop()


# --- folders and sockets in shared places


def test_a_folder_is_ours_alone_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert private_folder(tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert private_folder(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o750)
    (tmp_path / "link").symlink_to(tmp_path / "new")
    (tmp_path / "file").write_text("")
    for name, fault in (
        ("open", "is open to others"),
        ("link", "is not a folder"),
        ("file", "is not a folder"),
    ):
        with pytest.raises(ServiceError, match=rf"It {fault}.*{name}.*remove it, or set TMPDIR"):
            private_folder(tmp_path / name)
    with pytest.raises(ServiceError, match=r"Cannot make the folder: No such file.*set TMPDIR"):
        private_folder(tmp_path / "missing" / "new")
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    for name, fault in (("new", "belongs to another user"), ("link", "is not a folder")):
        with pytest.raises(ServiceError, match=rf"It {fault}.* -> set TMPDIR"):
            private_folder(tmp_path / name)


@pytest.mark.parametrize("made", ["link", "open"])
def test_the_store_takes_no_folder_of_others_for_its_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = SeaweedFS(tmp_path / "s3", free_ports(1)[0])._sockets
    name.rmdir()
    if made == "open":
        name.mkdir()
        name.chmod(0o777)
    else:
        (tmp_path / "theirs").mkdir(0o700)
        name.symlink_to(tmp_path / "theirs")
    with pytest.raises(ServiceError, match="sockets and locks in it are not safe"):
        LocalObjectStore(tmp_path / "s3")


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


def age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - 3600,) * 2, follow_symlinks=False)


def test_dead_sockets_are_removed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as short:  # a socket's path has a hundred characters at most
        place = Path(short)
        monkeypatch.setattr(tempfile, "tempdir", short)
        monkeypatch.setattr(leftovers, "SEAWEEDFS_SOCKETS", place)
        folders = {
            name: private_folder(temporary_folder(name)) for name in ("dead", "alive", "new")
        }
        before = place / f"weed-{os.geteuid()}-before"
        before.mkdir(0o700)
        locks = private_folder(temporary_folder("locks"))
        (locks / "gpu-0.lock").write_text("")
        grpc = [place / f"seaweedfs-filer-grpc-{port}.sock" for port in (1, 2, 3)]
        dead = [folders["dead"] / "a.sock", before / "s3.sock", folders["new"] / "a.sock", grpc[0]]
        living = [folders["alive"] / "a.sock", grpc[1]]
        servers = [listening(path) for path in living]
        for path in dead:
            listening(path).close()
        pid = folders["dead"] / "supervisord.pid"
        pid.write_text("1")
        grpc[2].write_text("no socket")
        age(*dead[:2], dead[3], *living, *folders.values(), before, locks, grpc[2])
        removed = sorted(map(str, [grpc[0], folders["dead"] / "a.sock", pid, before / "s3.sock"]))
        assert sorted(remove_dead_sockets()) == removed
        assert not any(map(os.path.exists, removed)) and before.exists()
        assert all(path.exists() for path in [*living, dead[2], grpc[2], locks / "gpu-0.lock"])
        os.utime(before, (0, 0))
        assert remove_dead_sockets() == []
        assert not before.exists() and folders["dead"].exists()
        for server in servers:
            server.close()


@pytest.mark.parametrize("meanwhile", ["removed", "used again"])
def test_two_tidyings_at_once_are_no_fault(
    meanwhile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(leftovers, "SEAWEEDFS_SOCKETS", tmp_path)
    folder = private_folder(temporary_folder("empty"))

    def is_older(path: Path, seconds: float) -> bool:
        if meanwhile == "removed":
            path.rmdir()
        else:
            (path / "new.sock").touch()
        return True

    monkeypatch.setattr(leftovers, "_is_older", is_older)
    assert remove_dead_sockets() == []
    assert folder.exists() == (meanwhile == "used again")


def test_a_socket_that_is_removed_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(leftovers, "SEAWEEDFS_SOCKETS", tmp_path)
    (tmp_path / "seaweedfs-s3-grpc-1.sock").touch()

    def is_ours(path: Path) -> bool:
        path.unlink()
        return True

    monkeypatch.setattr(leftovers, "is_ours", is_ours)
    assert remove_dead_sockets() == []


def test_a_work_folder_that_is_removed_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "glob", lambda *_: iter([tmp_path / "nightshift-engine-gone"]))
    assert remove_left_folders() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what belongs to others")
def test_sockets_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        monkeypatch.setattr(leftovers, "SEAWEEDFS_SOCKETS", Path(short))
        theirs = Path(short) / "seaweedfs-s3-grpc-1.sock"
        folder = private_folder(temporary_folder("theirs"))
        for path in (theirs, folder / "a.sock"):
            listening(path).close()
            os.chown(path, 65534, 65534)
            age(path)
        os.chown(folder, 65534, 65534)
        age(folder)
        assert remove_dead_sockets() == []
        assert theirs.exists() and folder.exists()


def test_a_killed_stores_sockets_are_gone_after_the_next_tidying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalObjectStore(tmp_path)
    made = [
        path
        for port in store._program._ports
        for path in leftovers.SEAWEEDFS_SOCKETS.glob(f"seaweedfs-*-grpc-{port}.sock")
    ]
    assert made
    os.kill(store._child._process.pid, signal.SIGKILL)
    assert wait_for(lambda: _closed(store), 10)
    made += store._program._sockets.iterdir()
    age(*made)
    assert set(map(str, made)) <= set(remove_dead_sockets())
    store.stop()


def _closed(store: LocalObjectStore) -> bool:
    with socket.socket() as asking:
        port = int(store.endpoint_url.rpartition(":")[2])
        return asking.connect_ex(("127.0.0.1", port)) != 0
