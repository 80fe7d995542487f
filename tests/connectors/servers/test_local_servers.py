"""Local servers: they come up, keep data and credentials, and never outlive whoever started them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tasks.connectors.servers import local_servers, seaweedfs
from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.local_servers import (
    LocalObjectStore,
    LocalPrefectServer,
    require_free_port,
)
from tasks.core.errors import ServiceError
from tasks.runtime.local_services import local_services
from tests.paths import ROOT


def wait_for(condition, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(condition())


def test_data_and_credentials_survive(tmp_path: Path) -> None:
    first = LocalObjectStore(tmp_path)
    first.store().make_bucket("kept")
    first.store().write_bytes(b"here", "s3://kept/x")
    first.stop()
    second = LocalObjectStore(tmp_path)
    try:
        assert second.store().read_bytes("s3://kept/x") == b"here"
        assert second.secret_key == first.secret_key
        assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600
        assert first.secret_key not in (tmp_path / "server.log").read_text()
    finally:
        second.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_dies_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tasks.connectors.servers.local_servers import LocalObjectStore\n"
        "s = LocalObjectStore(Path(sys.argv[1])); print('up', flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    with parent:
        try:
            assert parent.stdout and parent.stdout.readline() == b"up\n"
            children = psutil.Process(parent.pid).children(recursive=True)
            assert any("weed" in c.name() for c in children)
        finally:
            parent.send_signal(number)
    assert wait_for(
        lambda: not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children)
    )


def test_a_child_that_ends_says_why(tmp_path: Path) -> None:
    child = ChildProcess(
        "The thing",
        [sys.executable, "-c", "print('no luck'); exit(3)"],
        dict(os.environ),
        tmp_path / "log",
    )
    assert wait_for(lambda: not child.running())
    with pytest.raises(ServiceError, match=r"The thing stopped with status 3: no luck"):
        child.require_running()
    child.stop()


def test_a_port_that_is_taken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        offered = [[taken.getsockname()[1]], *(seaweedfs.free_ports(n) for n in (10, 1, 10))]
        monkeypatch.setattr(seaweedfs, "free_ports", lambda count: offered.pop(0))
        monkeypatch.setattr(local_servers, "free_ports", lambda count: offered.pop(0))
        server = LocalObjectStore(tmp_path)
    try:
        server.store().make_bucket("there")
        assert offered == []
        assert "not available" in caplog.text and "starting it again" in caplog.text
    finally:
        server.stop()


def test_its_other_ports_are_not_its_s3_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The S3 port is not taken before the server starts, so the system may offer it a second time."""
    offered = seaweedfs.free_ports(10)
    monkeypatch.setattr(seaweedfs, "free_ports", lambda count: offered[:count])
    server = seaweedfs.SeaweedFS(tmp_path, offered[3])
    flags = [flag for flag in server.command if flag.endswith(f"={offered[3]}")]
    assert flags == [f"-s3.port={offered[3]}"]
    assert f"-s3.allowedOrigins={server.endpoint_url}" in server.command


def test_what_a_program_died_of_is_said_rather_than_its_stacks(tmp_path: Path) -> None:
    said = "F1127 01:43:00.1 mini.go:9 bind: in use\ngoroutine 1 [running]:\nmain.main()\n\tmini.go:9 +0x1\n"
    (tmp_path / "log").write_text("panic: of a run before\n")
    child = ChildProcess("Weed", ["printf", "%s", said], dict(os.environ), tmp_path / "log")
    assert wait_for(lambda: not child.running())
    with pytest.raises(ServiceError, match=r"status 0: F1127 .* bind: in use \["):
        child.require_running()
    child.stop()


def test_the_store_has_room_for_its_memory(tmp_path: Path) -> None:
    """Its garbage is collected now and then, and not all the time: too low a limit cost four collections an upload."""
    server = seaweedfs.SeaweedFS(tmp_path, seaweedfs.free_ports(1)[0])
    traced = server.environment | {"GODEBUG": "gctrace=1"}
    child = ChildProcess("SeaweedFS", server.command, traced, tmp_path / "log")
    try:
        assert wait_for(lambda: server.problem() == "")
        store = server.store()
        for number in range(20):
            store.write_bytes(b"x" * 5_000_000, f"s3://nightshift-probe/{number}")
        collections = [
            line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("gc ")
        ]
        assert 0 < len(collections) < 50
    finally:
        child.stop()
        server.clean_up()


def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
    child = ChildProcess(
        "Stubborn", [sys.executable, "-c", code], dict(os.environ), tmp_path / "log"
    )
    assert wait_for(lambda: "up" in (tmp_path / "log").read_text())
    child.stop()
    assert not child.running()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(
            ServiceError, match=rf"Port {port} is taken .*\[NIGHTSHIFT_S3_PORT\] -> stop"
        ):
            LocalObjectStore(tmp_path, port)
        with pytest.raises(ServiceError, match="NIGHTSHIFT_PREFECT_PORT"):
            LocalPrefectServer(tmp_path, "nightshift:secret", port)
    require_free_port(port, "X")


@pytest.fixture
def healthy_server() -> Iterator[str]:
    """Something that answers every request, as a Prefect server answers its health check."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()


def test_a_prefect_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with (
        pytest.raises(ServiceError, match=r"No Prefect server answers.*PREFECT_API_URL"),
        local_services(),
    ):
        pass


def test_no_sockets_are_left_behind(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 25)  # no socket's path could be so long
    server = LocalObjectStore(deep)
    program = server._program
    server.stop()
    left = [p for port in program._ports for p in Path(tempfile.gettempdir()).glob(f"*{port}.sock")]
    assert left == [] and not Path(program._sockets).exists()


def test_credentials_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("")
    with pytest.raises(ServiceError, match=r"credentials cannot be read.*delete"):
        LocalObjectStore(tmp_path)


def test_one_run_at_a_time_owns_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy_server: str
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", healthy_server)
    before = dict(os.environ)
    with local_services() as settings:
        assert not settings.embeds_object_store and settings.mlflow_tracking_uri
        assert dict(os.environ) != before
    with (
        FileLock(tmp_path / "lock"),
        pytest.raises(ServiceError, match="Another Nightshift run is using this folder"),
        local_services(),
    ):
        pass
    assert dict(os.environ) == before


def test_what_is_configured_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy_server: str
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path / "home"))
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "PREFECT_API_URL": healthy_server,
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    with local_services() as settings:
        assert settings.s3_endpoint_url == "http://127.0.0.1:1"
    assert not (tmp_path / "home").exists()
