"""The whole service on one machine: `make up`, `make down`, `make status`.

What a team runs in production, in small: Prefect server, MLflow server, object store, a worker on each pool, every
deployment registered with its schedule. Loopback only, so without passwords; what is configured (S3, MLflow, Prefect)
is used instead of being started. Data stays in `.nightshift/`.

    python -m deployments.local up | down | status
    python -m deployments.local put FILE ... s3://bucket/prefix/    bring reviews to the object store
    python -m deployments.local run COMMAND ...                     a command that finds the services
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

from rich.console import Console

from deployments import prefect_api
from deployments.showing import show_status
from deployments.supervision import Program, Supervisor
from tasks.connectors.local_servers import (
    http_problem,
    prefect_problem,
    prefect_server_command,
    prefect_server_environment,
    require_free_port,
)
from tasks.connectors.local_stack import Stack, record_of, running_stack
from tasks.connectors.object_store import ObjectStore
from tasks.connectors.seaweedfs import HOST, SeaweedFS, free_ports
from tasks.core.errors import MissingDataError, NightshiftError, ServiceError, SettingsError
from tasks.services import CLIENT_DEFAULTS, ownership
from tasks.settings import Settings, read_settings

_USUAL_PORTS = {"s3": 8333, "mlflow": 5000, "prefect": 4200}
_STARTING_SECONDS = 180.0
# For a stack on one machine latency matters and load does not: a run begins two seconds after it was asked for.
WORKER_ENVIRONMENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "NIGHTSHIFT_TRAINING_DEPLOYMENT": "fine-tune/fine-tune",
    "NIGHTSHIFT_GPU_WORKER_ON_CPU": "true",
}


def main(arguments: list[str] | None = None) -> int:
    """Do what the first argument says; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["help"]
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    commands: dict[str, Callable[[], int]] = {
        "up": lambda: up(console),
        "down": lambda: down(console),
        "status": lambda: status(console),
        "put": lambda: put(console, rest),
        "run": lambda: run(rest),
    }
    if command not in commands:
        console.print((__doc__ or "").strip(), markup=False)
        return 0 if command == "help" else 2
    try:
        return commands[command]()
    except NightshiftError as error:
        errors.print(f"[bold red]error[/]: {type(error).__name__}", end=": ")
        errors.print(str(error), markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted")
        return 130


def home_folder() -> Path:
    """Where the stack keeps its data."""
    return read_settings().home.expanduser().absolute()


def up(console: Console) -> int:
    """Start everything and return when it is ready.

    Raises:
        ServiceError: a port is taken, a program does not stay up, or another run uses the folder.
    """
    started = time.perf_counter()
    home = home_folder()
    if running_stack(home):
        console.print("Nightshift is up already.")
        return status(console)
    with ownership(home), contextlib.ExitStack() as undo:
        supervisor = Supervisor(home / "stack", str(home))
        if left := supervisor.sweep():
            console.print(f"Removed what an earlier stack left running: {', '.join(left)}")
        services = _Services(home, read_settings())
        undo.callback(supervisor.shutdown)
        owner = supervisor.start(services.programs)
        record_of(home).write_text(services.stack(owner).model_dump_json())
        undo.callback(record_of(home).unlink, missing_ok=True)
        _start(console, supervisor, services)
        undo.pop_all()
    seconds = time.perf_counter() - started
    console.print(f"[bold green]Ready[/] after {seconds:.0f} s.\n")
    return status(console)


class _Services:
    """The programs of the stack: those servers that nobody has configured, and the workers."""

    def __init__(self, home: Path, settings: Settings) -> None:
        self.s3_url = self.mlflow_url = self.prefect_url = ""
        self.servers: list[Program] = []
        self.health: dict[str, Callable[[], str]] = {}
        if settings.embeds_object_store:
            self._add_object_store(home / "s3", _port("s3", settings.s3_port, home))
        if not settings.mlflow_tracking_uri:
            self._add_mlflow(home / "mlflow", _port("mlflow", settings.mlflow_port, home))
        if not settings.prefect_api_url:
            self._add_prefect(home / "prefect", _port("prefect", settings.prefect_port, home))
        self.bucket = settings.bucket
        self.client_environment = (
            dict(os.environ) | CLIENT_DEFAULTS | self.stack("").environment(home)
        )
        given = WORKER_ENVIRONMENT | self.client_environment | {"NIGHTSHIFT_HOME": str(home)}
        command = [sys.executable, "-m", "deployments.worker"]
        self.workers = [
            Program(name=f"{pool}-worker", command=[*command, pool], environment=given)
            for pool in ("cpu", "gpu")
        ]
        self.programs = self.servers + self.workers

    def stack(self, owner: str) -> Stack:
        """What others need to know."""
        return Stack(
            owner=owner,
            s3_url=self.s3_url,
            mlflow_url=self.mlflow_url,
            prefect_url=self.prefect_url,
        )

    def _add_object_store(self, folder: Path, port: int) -> None:
        server = SeaweedFS(folder, port)
        self.s3_url = server.endpoint_url
        self.health["object-store"] = server.problem
        self.servers.append(
            Program(
                name="object-store",
                command=server.command,
                environment=server.environment,
                stop_signal="KILL",
            )
        )

    def _add_mlflow(self, folder: Path, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.mlflow_url = f"http://{HOST}:{port}"
        self.health["mlflow"] = lambda: http_problem(f"{self.mlflow_url}/health")
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", (folder / "artifacts").as_uri(), "--workers", "1"]
        given = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_"))}
        # Its job runner would be ten more processes for features that are not used here.
        given |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.servers.append(Program(name="mlflow", command=command, environment=given))

    def _add_prefect(self, folder: Path, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.prefect_url = f"http://{HOST}:{port}"
        self.health["prefect"] = lambda: prefect_problem(f"{self.prefect_url}/api")
        self.servers.append(
            Program(
                name="prefect",
                command=prefect_server_command(port),
                environment=prefect_server_environment(folder, port),
            )
        )


def _port(service: str, wanted: int | None, home: Path) -> int:
    """The port that is asked for, or that of last time (people keep bookmarks), or the usual one, or any free one."""
    if wanted is not None:
        require_free_port(wanted, f"NIGHTSHIFT_{service.upper()}_PORT")
        return wanted
    kept = home / "stack" / f"{service}.port"
    kept.parent.mkdir(parents=True, exist_ok=True)
    last = int(kept.read_text()) if kept.is_file() else _USUAL_PORTS[service]
    try:
        require_free_port(last, "")
    except ServiceError:
        last = free_ports(1)[0]
    kept.write_text(str(last))
    return last


def _start(console: Console, supervisor: Supervisor, services: _Services) -> None:
    """Servers, then what has to be registered with them, then the workers."""
    for server in services.servers:
        supervisor.start_program(server.name)
    for server in services.servers:
        with _step(console, server.name):
            _wait_until(services.health[server.name], supervisor, server.name)
    if services.s3_url:
        with _environment(services.client_environment):
            ObjectStore(services.s3_url).make_bucket(services.bucket)
    with _step(console, "deployments"):
        _apply(services.client_environment)
    for worker in services.workers:
        supervisor.start_program(worker.name)
    for worker in services.workers:
        with _step(console, worker.name), _environment(services.client_environment):
            pool = worker.name.removesuffix("-worker")
            _wait_until(lambda pool=pool: prefect_api.worker_problem(pool), supervisor, worker.name)


@contextlib.contextmanager
def _step(console: Console, name: str) -> Generator[None]:
    started = time.perf_counter()
    with console.status(f"{name} ..."):
        yield
    console.print(f"  {name:<14} ready   {time.perf_counter() - started:5.1f} s")


def _wait_until(problem: Callable[[], str], supervisor: Supervisor, name: str) -> None:
    deadline = time.monotonic() + _STARTING_SECONDS
    while last := problem():
        supervisor.require_alive(name)
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{name} is not ready after {_STARTING_SECONDS:.0f} s; at last: {last}",
                str(supervisor.log(name)),
                "read the log",
            )
        time.sleep(0.2)


def _apply(environment: dict[str, str]) -> None:
    """In a process of its own: Prefect reads its settings when it is first imported."""
    command = [sys.executable, "-m", "deployments.apply"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(
            "The deployments could not be registered: "
            + (done.stderr or done.stdout).strip()[-1500:],
            "deployments.apply",
        )


@contextlib.contextmanager
def _environment(given: dict[str, str]) -> Generator[None]:
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def down(console: Console) -> int:
    """Stop everything; runs that are under way are ended and said to have crashed."""
    home = home_folder()
    supervisor = Supervisor(home / "stack", str(home))
    stack = running_stack(home)
    if stack:
        for state in supervisor.states():
            if state.name.endswith("-worker"):
                supervisor.stop_program(state.name)
        if stack.prefect_url:
            with _environment(stack.environment(home)):
                for name in prefect_api.end_runs("The services were stopped (make down)"):
                    console.print(f"  ended the run {name}")
    supervisor.shutdown()
    record_of(home).unlink(missing_ok=True)
    console.print("Nightshift is down." if stack else "Nightshift was not up.")
    return 0


def status(console: Console) -> int:
    """Show what runs and where; the exit status is 1 when something of it does not."""
    home = home_folder()
    stack = running_stack(home)
    if stack is None:
        console.print("Nightshift is not up. `make up` starts it.")
        return 1
    supervisor = Supervisor(home / "stack", str(home))
    with _environment(stack.environment(home)):
        return show_status(console, stack, supervisor)


def put(console: Console, arguments: list[str]) -> int:
    """Upload files below a prefix.

    Raises:
        SettingsError, MissingDataError: wrong arguments, no such file.
        StoreError: the store refuses.
    """
    *names, target = arguments or [""]
    if not names or not target.startswith("s3://"):
        raise SettingsError("usage: put FILE ... s3://bucket/prefix/", "put")
    for name in names:
        if not Path(name).is_file():
            raise MissingDataError("No such file", name)
    with _environment(_found_services()):
        store = ObjectStore(read_settings().s3_endpoint_url)
        for name in names:
            uri = f"{target.rstrip('/')}/{Path(name).name}"
            store.upload(Path(name), uri)
            console.print(f"  {uri}", soft_wrap=True)
    return 0


def run(arguments: list[str]) -> int:
    """Run a command in whose environment the services are; returns its exit status."""
    if not arguments:
        raise SettingsError("usage: run COMMAND ...", "run")
    return subprocess.run(
        arguments, env={**os.environ, **_found_services()}, check=False
    ).returncode


def _found_services() -> dict[str, str]:
    home = home_folder()
    stack = running_stack(home)
    return stack.environment(home) if stack else {}


if __name__ == "__main__":
    sys.exit(main())
