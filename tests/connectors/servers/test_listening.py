"""A server counts as started only where this user listens on its port: who else answers there gets no password."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployments.stack import programs
from deployments.stack.high_availability.debian import require_installed
from deployments.stack.high_availability.programs import Services as HighlyAvailable
from tasks.connectors.servers import listening
from tasks.connectors.servers.listening import listener_problem
from tasks.connectors.servers.passwords import Passwords
from tasks.connectors.servers.seaweedfs import SeaweedFS, free_ports
from tasks.core.errors import ServiceError
from tasks.runtime.local_services import local_services
from tasks.runtime.settings import Settings
from tests.attack.attack import NOBODY

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
# Holds a port as other users can: bound without listening it looks free, until a server has been started for it.
FAKE = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.readline()
server.listen()
print("listening", flush=True)
while True:
    client, _ = server.accept()
    print(client.recv(65536), flush=True)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\nConnection: close\\r\\n\\r\\ntrue")
    client.close()
"""


def be_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"])
def test_the_user_who_listens_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = server.getsockname()[1]
        assert listener_problem(port) == f"nothing listens on port {port}"
        server.listen()
        assert listener_problem(port) == listener_problem(port, user=os.geteuid()) == ""
        be_somebody_else(monkeypatch)
        said = rf"Port {port} belongs to another user .* \[X_PORT\] -> stop .* with X_PORT"
        with pytest.raises(ServiceError, match=said):
            listener_problem(port, "X_PORT")
        with pytest.raises(ServiceError, match="start again on another"):
            listener_problem(port)


def test_nothing_is_asked_where_the_system_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_TABLES", (tmp_path / "tcp", tmp_path / "tcp6"))
    assert listener_problem(1) == ""


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes another user"
)
def test_a_port_that_another_user_takes_meanwhile_gets_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": "/"}
    with subprocess.Popen([*NOBODY, "/usr/bin/python3", "-c", FAKE], **pipes) as fake:
        try:
            port = fake.stdout.readline().strip()
            monkeypatch.setenv("NIGHTSHIFT_HOME", str(tmp_path))
            monkeypatch.setenv("NIGHTSHIFT_PREFECT_PORT", port)
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")

            def listen() -> None:
                fake.stdin.write("\n")
                fake.stdin.flush()
                assert fake.stdout.readline() == "listening\n"

            said = (
                rf"Port {port} belongs to another user .*, nobody .* with NIGHTSHIFT_PREFECT_PORT"
            )
            with pytest.raises(ServiceError, match=said), local_services(prepare=listen):
                pass
        finally:
            fake.kill()
        assert fake.stdout.read() == ""  # nobody has asked it anything


@pytest.fixture
def fake_store() -> Iterator[int]:
    """The port of a server that gives back what was written to it, and looks at no signature."""
    kept: dict[str, bytes] = {}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = kept.get(self.path, b"<ListAllMyBucketsResult/>")
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_PUT(self) -> None:
            kept[self.path] = self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_DELETE(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_store_without_guarded_inner_ports_counts_as_not_started(
    fake_store: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SeaweedFS(tmp_path, fake_store)
    try:
        assert server.problem() == "Its internal ports do not answer"
        be_somebody_else(monkeypatch)
        with pytest.raises(ServiceError, match=r"another user .* with NIGHTSHIFT_S3_PORT"):
            server.problem()
    finally:
        monkeypatch.undo()
        server.clean_up()


def test_make_up_asks_whose_ports_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(**_free_ports())
    services = programs.Services(tmp_path, settings)
    assert services.health.keys() == {"object-store", "mlflow", "prefect"}
    be_somebody_else(monkeypatch)
    for name, url in (
        ("object-store", services.s3_url),
        ("mlflow", services.mlflow_url),
        ("prefect", services.prefect_url),
    ):
        _require_asked(services.health[name], int(url.rpartition(":")[2]))


def test_make_up_ha_asks_whose_ports_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        require_installed()
    except ServiceError as error:
        pytest.skip(str(error))
    services = HighlyAvailable(tmp_path, Settings(**_free_ports()), Passwords())
    assert services.stack("").prefect_user == services._balancer.user_id
    be_somebody_else(monkeypatch)
    for program, port in services._ports.items():
        name = "object-store" if program == "s3" else program
        _require_asked(services.health[name], port)


def _free_ports() -> dict[str, int]:
    names = ("s3_port", "mlflow_port", "prefect_port")
    return dict(zip(names, free_ports(3), strict=True))


def _require_asked(health: Callable[[], str], port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ServiceError, match=f"Port {port} belongs to another user"),
    ):
        health()
    assert health() == f"nothing listens on port {port}"
