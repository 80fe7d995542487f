"""The servers that a run on a single machine starts for itself: SeaweedFS for S3, and a Prefect server. Loopback only.

Each is a separate child process (`child_process`) and keeps its data below `.nightshift/`. It counts as started once
this user listens on its port and a real request has been answered there, not when it has been launched.
"""

import contextlib
import http.client
import logging
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.listening import listener_problem
from tasks.connectors.servers.seaweedfs import HOST, SeaweedFS, free_ports
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import ChildEndedError, ServiceError, SettingsError

logger = logging.getLogger(__name__)

_TRIES = 3

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def require_free_port(port: int, setting: str) -> None:
    """Raise ServiceError if the port that a setting asks for is in use."""
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

    Another process may take a free port before the server does. So a server that ends before it answers is started
    again, on other ports unless one was asked for.

    Raises:
        ServiceError: the program is missing, the port or the folder is taken, or the server does not start.
    """

    def __init__(
        self, folder: Path, port: int | None = None, timeout_seconds: float = 60.0
    ) -> None:
        if port is not None:
            require_free_port(port, "NIGHTSHIFT_S3_PORT")
        for tries_left in reversed(range(_TRIES)):
            try:
                self._start(folder, port or free_ports(1)[0], timeout_seconds)
                break
            except ChildEndedError as error:
                if not tries_left:
                    raise
                logger.warning("%s; starting it again", error)
        self.access_key, self.secret_key = self._program.access_key, self._program.secret_key
        self.endpoint_url = self._program.endpoint_url

    def _start(self, folder: Path, port: int, timeout_seconds: float) -> None:
        self._program = SeaweedFS(folder, port)
        self._child = ChildProcess(
            "SeaweedFS",
            self._program.command,
            self._program.environment,
            folder / "server.log",
            kill_at_once=True,
            cwd=self._program.folder,
        )
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            _wait_until(self._program.problem, self._child, timeout_seconds)
            undo.pop_all()

    def store(self) -> ObjectStore:
        """Return a client for this server."""
        return self._program.store()

    def stop(self) -> None:
        """Stop the server. Its data stays."""
        self._child.stop()
        self._program.clean_up()


def require_no_password(api_url: str) -> None:
    """Raise SettingsError if a Prefect URL holds a user or a password: libraries quote parts of it in errors."""
    if "@" in api_url:
        raise SettingsError(
            "The URL contains an @, as after a user name or a password",
            "PREFECT_API_URL",
            "put user and password into PREFECT_API_AUTH_STRING, as user:password",
        )


def require_prefect(api_url: str) -> None:
    """Check that a Prefect server answers at a URL.

    Raises:
        SettingsError: the URL holds a user or a password.
        ServiceError: no server answers.
    """
    require_no_password(api_url)
    if problem := prefect_problem(api_url, timeout_seconds=10):
        raise ServiceError(
            f"No Prefect server answers: {problem}", api_url, "check PREFECT_API_URL, or unset it"
        )


def prefect_problem(api_url: str, timeout_seconds: float = 2) -> str:
    """Return the reason why a Prefect server does not answer its health check, or '' if it does."""
    return http_problem(f"{api_url.rstrip('/')}/health", timeout_seconds)


def http_problem(url: str, timeout_seconds: float = 2) -> str:
    """Return the reason why a health check fails, or '' if it succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds):
            return ""
    except urllib.error.HTTPError as error:
        # A server that refuses us is running; authentication is left to Prefect.
        return str(error) if error.code >= 500 else ""
    except http.client.HTTPException as error:
        # Only its type: its text quotes parts of the URL, or what came instead of an answer.
        return f"the URL is wrong, or the server there does not speak HTTP ({type(error).__name__})"
    except (OSError, ValueError) as error:
        return str(error)


class LocalPrefectServer:
    """A Prefect server with its UI that keeps its history in SQLite below a folder.

    The constructor launches it; `wait` returns once it answers, so that other work can go on meanwhile.

    Args:
        folder: for its data.
        password: that it asks for, as account:password.
        port: on loopback; None for any free one.
    Raises:
        ServiceError: the port is taken, or the server does not start.
    """

    def __init__(self, folder: Path, password: str, port: int | None = None) -> None:
        if port is not None:
            require_free_port(port, "NIGHTSHIFT_PREFECT_PORT")
        folder.mkdir(parents=True, exist_ok=True)
        self._port = port = port or free_ports(1)[0]
        self.ui_url = f"http://{HOST}:{port}"
        self.api_url = f"{self.ui_url}/api"
        command = prefect_server_command(port)
        environment = prefect_server_environment(folder, port, password)
        self._child = ChildProcess(
            "The Prefect server", command, environment, folder / "server.log"
        )

    def wait(self, timeout_seconds: float = 120.0) -> None:
        """Return once the server answers its health check.

        Raises:
            ServiceError: the server does not start, or another user's program has its port.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            _wait_until(self._problem, self._child, timeout_seconds)
            undo.pop_all()

    def _problem(self) -> str:
        taken = listener_problem(self._port, "NIGHTSHIFT_PREFECT_PORT")
        return taken or prefect_problem(self.api_url)

    def stop(self) -> None:
        """Stop the server. Its history stays."""
        self._child.stop()


def inherited_environment() -> dict[str, str]:
    """Return this process's environment without settings for other servers and without keys."""
    others = ("AWS_", "MLFLOW_", "NIGHTSHIFT_", "PG", "PREFECT_")
    return {k: v for k, v in os.environ.items() if not k.startswith(others)}


def prefect_server_command(port: int) -> list[str]:
    """Return the command that starts a Prefect server."""
    where = ["--host", HOST, "--port", str(port)]
    return [sys.executable, "-m", "prefect", "server", "start", *where]


def prefect_server_environment(folder: Path, port: int, password: str) -> dict[str, str]:
    """Return the server's whole environment: the inherited one, and its settings.

    CSRF tokens would add nothing: a browser sends the password only for the server's own pages, from a storage that
    other origins cannot read, and never automatically.
    """
    return (
        inherited_environment()
        | NO_TELEMETRY
        | {
            "PREFECT_HOME": str(folder),
            "PREFECT_API_URL": f"http://{HOST}:{port}/api",
            # Prefect unpacks its UI, by default beside the installed package. Other users who share that could not
            # read the files.
            "PREFECT_UI_STATIC_DIRECTORY": str(folder / "ui"),
            "PREFECT_SERVER_API_AUTH_STRING": password,
            # Under these a browser on this machine may have opened its pages.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        }
    )


def _wait_until(problem: Callable[[], str], child: ChildProcess, timeout_seconds: float) -> None:
    """Return once there is no problem. Raises ServiceError with the last one, or if the child has ended."""
    deadline = time.monotonic() + timeout_seconds
    while last := problem():
        child.require_running()
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{child.name} did not answer within {timeout_seconds:.0f} s; last problem: {last}",
                str(child.log),
                "read the log",
            )
        time.sleep(0.1)
