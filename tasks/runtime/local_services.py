"""Services for a run on a single machine: those that are not configured are started, and stopped after the run."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Generator, MutableMapping
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.connectors.private_files import make_private, private_files
from tasks.connectors.servers.local_servers import (
    NO_TELEMETRY,
    LocalObjectStore,
    LocalPrefectServer,
    require_prefect,
)
from tasks.connectors.servers.local_stack import local_passwords, passwords_of, running_stack
from tasks.core.errors import ServiceError, disk_full, is_disk_full
from tasks.runtime.reporting.terminal import print_whatever_comes
from tasks.runtime.settings import (
    QUIET_LIBRARIES,
    SLEEPING_THREADS,
    Settings,
    go_past_proxies_to_loopback,
    read_settings,
)

logger = logging.getLogger(__name__)

CLIENT_DEFAULTS = (
    NO_TELEMETRY
    | SLEEPING_THREADS
    | QUIET_LIBRARIES
    | {
        "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # the automation for dead runs listens for it
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # otherwise a call hangs for minutes if the server is down
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it has emoji, and comes before a run's end is written
        "TOKENIZERS_PARALLELISM": "true",
    }
)


# For interactive commands: without MLflow they end, or do what they can, within half a minute.
IMPATIENT_CLIENTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def set_client_defaults(impatient: bool = False) -> None:
    """Set defaults of variables that libraries read on import, and make sure that printing never fails.

    Args:
        impatient: a person waits for the command, which takes seconds if all servers answer.
    """
    print_whatever_comes()
    go_past_proxies_to_loopback()
    for name, value in (CLIENT_DEFAULTS | (IMPATIENT_CLIENTS if impatient else {})).items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def local_services(prepare: Callable[[], object] = lambda: None) -> Generator[Settings]:
    """Start the services that are not configured, set the environment accordingly, and yield the resulting settings.

    Prefect reads the environment when it is first imported. So the servers are launched first, then `prepare` is called
    (for imports that take seconds), and only then does the function wait for the Prefect server.

    Raises:
        ServiceError: a server does not start or refuses access, or another run holds `.nightshift`.
        SettingsError: a setting is wrong.
    """
    home = read_settings().home
    with (
        contextlib.ExitStack() as stack,
        _environment() as environment,
        _sentences(home),
        private_files(),
    ):
        set_client_defaults()
        _use_running_stack(home, environment)
        settings = read_settings()
        if settings.embeds_object_store or not settings.prefect_api_url:
            stack.enter_context(ownership(home))
        server: LocalPrefectServer | None = None
        if settings.prefect_api_url:
            require_prefect(settings.prefect_api_url)
            require_login(settings)
        else:
            server = _launch_prefect(stack, home, settings, environment)
        if settings.embeds_object_store:
            _start_object_store(stack, home / "s3", settings, environment)
        if not settings.mlflow_tracking_uri:
            make_private(home)
            (home / "mlflow").mkdir(exist_ok=True)
            environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"
        prepare()
        if server:
            server.wait()
            stack.callback(_deliver_logs)
            logger.info(
                'Log in to the Prefect UI with the value of "prefect" in %s', passwords_of(home)
            )
        yield read_settings()


def require_login(settings: Settings) -> None:
    """Check that the configured Prefect server accepts this process's password. A server that is down is ignored.

    The check uses Prefect's own client, which also finds a password in profiles and files.

    Raises:
        ServiceError: the password is wrong or missing.
    """
    import httpx
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.settings import get_current_settings

    api, url = get_current_settings().api, settings.prefect_api_url or ""
    password, key = api.auth_string, api.key
    try:
        with SyncPrefectClient(
            url,
            auth_string=password.get_secret_value() if password else None,
            api_key=key.get_secret_value() if key else None,
        ) as client:
            client.hello()
    except httpx.HTTPStatusError as error:
        if error.response.status_code == 401:
            file = passwords_of(settings.home)
            raise ServiceError(
                "The Prefect server requires a password, and PREFECT_API_AUTH_STRING is missing or wrong",
                url,
                f'set it; for a server that `make up` has started, to the value of "prefect" in {file}',
            ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        logger.debug("The password of the Prefect server was not checked: %s", error)


def _use_running_stack(home: Path, environment: MutableMapping[str, str]) -> None:
    """Use the services that `make up` has started, except those that are configured otherwise."""
    stack = running_stack(home)
    if stack is None:
        return
    settings = read_settings()
    variables = stack.environment(home)
    for prefix, configured in (
        ("AWS_", not settings.embeds_object_store),
        ("NIGHTSHIFT_OBJECT_STORE", not settings.embeds_object_store),
        ("MLFLOW_", settings.mlflow_tracking_uri),
        ("PREFECT_", settings.prefect_api_url),
    ):
        if configured:
            variables = {k: v for k, v in variables.items() if not k.startswith(prefix)}
    environment.update(variables)


def _launch_prefect(
    stack: contextlib.ExitStack,
    home: Path,
    settings: Settings,
    environment: MutableMapping[str, str],
) -> LocalPrefectServer:
    passwords = local_passwords(home)
    server = LocalPrefectServer(home / "prefect", passwords.prefect, settings.prefect_port)
    stack.callback(server.stop)
    environment["PREFECT_HOME"] = str(home / "prefect")
    environment["PREFECT_API_URL"] = server.api_url
    environment.update(passwords.prefect_client())
    return server


def _deliver_logs() -> None:
    """Flush Prefect's logs: it sends them in the background, and the last second's would be lost with the server."""
    if "prefect" in sys.modules:
        from prefect.logging.handlers import APILogHandler

        APILogHandler().flush()


def _start_object_store(
    stack: contextlib.ExitStack,
    folder: Path,
    settings: Settings,
    environment: MutableMapping[str, str],
) -> None:
    store = LocalObjectStore(folder, settings.s3_port)
    stack.callback(store.stop)
    store.store().make_bucket(settings.bucket)
    environment["NIGHTSHIFT_OBJECT_STORE"] = "external"
    environment["AWS_ENDPOINT_URL_S3"] = store.endpoint_url
    environment["AWS_ACCESS_KEY_ID"] = store.access_key
    environment["AWS_SECRET_ACCESS_KEY"] = store.secret_key
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):  # other credentials
        environment.pop(name, None)


@contextlib.contextmanager
def _sentences(home: Path) -> Generator[None]:
    """Translate the errors of a folder that cannot be written to into readable ones."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(f"working in {home}", "NIGHTSHIFT_HOME") from error
        if not isinstance(error, PermissionError):
            raise
        raise ServiceError(
            f"Not allowed: {error}", str(home), "check who owns it, or set NIGHTSHIFT_HOME"
        ) from error


@contextlib.contextmanager
def ownership(home: Path, passable: bool = False) -> Generator[None]:
    """Hold the lock on a folder: two processes that run servers on it would corrupt each other's data.

    Args:
        home: the folder; made private.
        passable: accounts of other programs keep data in folders of their own below it.
    Raises:
        ServiceError: another process holds it, it belongs to another user, or it cannot be made.
    """
    make_private(home, passable)
    try:
        with FileLock(home / "lock", timeout=0):
            yield
    except Timeout as error:
        raise ServiceError(
            "Another Nightshift run is using this folder",
            str(home),
            "wait for it to end, or set NIGHTSHIFT_HOME to another",
        ) from error


@contextlib.contextmanager
def _environment() -> Generator[MutableMapping[str, str]]:
    """Yield the process environment, and restore it afterwards."""
    before = dict(os.environ)
    try:
        yield os.environ
    finally:
        os.environ.clear()
        os.environ.update(before)
