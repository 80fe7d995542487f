"""The whole service on one machine: `make up`, `make down`, `make status`.

A small version of a team's production setup: Prefect server, MLflow server, object store, a worker on each pool, every
deployment registered with its schedule. Loopback only, each with a generated password or key; configured services (S3,
MLflow, Prefect) are used instead of being started. Data stays in `.nightshift/`, which only its owner can enter.

    python -m deployments.stack.local up | down | status
    python -m deployments.stack.local put FILE ... s3://bucket/prefix/    bring reviews to the object store
    python -m deployments.stack.local run COMMAND ...                     a command that finds the services
"""

import contextlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from deployments.stack import prefect_api
from deployments.stack.programs import Services
from deployments.stack.showing import show_status
from deployments.stack.starting import (
    environment_of,
    register_deployments,
    run_command,
    start_the_rest,
    starting,
    step,
    stopping,
    wait_until,
)
from deployments.stack.supervision import Supervisor
from tasks.connectors.servers.local_stack import Stack, passwords_of, record_of, running_stack
from tasks.connectors.servers.passwords import MLFLOW_ADMINISTRATOR
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import MissingDataError, ServiceError, SettingsError
from tasks.core.readable import on_one_line
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit status."""
    commands = {"up": up, "down": down, "status": status, "put": put, "run": run}
    return run_command(__doc__ or "", commands, arguments)


def home_folder() -> Path:
    """Return the folder of the stack's data."""
    return read_settings().home


def up(console: Terminal, arguments: list[str]) -> int:
    """Start everything and return when it is ready.

    Raises:
        ServiceError: a port is taken, a program does not stay up, another run uses the folder, or the running stack was
            started by a version without passwords.
    """
    home = home_folder()
    if stack := running_stack(home):
        if not stack.asks_for_passwords:
            raise ServiceError(
                "The running service was started by an earlier version, without passwords",
                str(home),
                "run `make down`, then `make up`",
            )
        console.print("Nightshift is already running.")
        start_the_rest(console, Supervisor(home / "stack", str(home)))
    else:
        with starting(console, home, lambda: Services(home, read_settings())) as started:
            _start(console, *started)
    return status(console, arguments)


def _start(console: Terminal, supervisor: Supervisor, services: Services) -> None:
    """Start the servers, register everything with them, then start the workers."""
    for server in services.servers:
        supervisor.start_program(server.name)
    for server in services.servers:
        with step(console, server.name):
            wait_until(services.health[server.name], supervisor, server.name)
    if services.s3_url:
        with environment_of(services.client_environment):
            ObjectStore(services.s3_url).make_bucket(services.bucket)
    with step(console, "deployments"):
        register_deployments(console, services.client_environment)
    for worker in services.workers:
        supervisor.start_program(worker.name)
    for worker in services.workers:
        with step(console, worker.name), environment_of(services.client_environment):
            pool = worker.name.removesuffix("-worker")
            problem = partial(prefect_api.worker_problem, pool, supervisor.pid_of(worker.name))
            wait_until(problem, supervisor, worker.name)


def down(console: Terminal, arguments: list[str]) -> int:
    """Stop everything; unfinished runs are ended and marked as crashed."""
    home = home_folder()
    supervisor = Supervisor(home / "stack", str(home))
    stack = running_stack(home)
    with stopping(console) if stack else contextlib.nullcontext():
        if stack:
            supervisor.end_flow_runs()
            for state in supervisor.states():
                if state.name.endswith("-worker"):
                    supervisor.stop_program(state.name)
            if stack.prefect_url:
                # Neither a server that does not answer nor a damaged file of passwords may prevent stopping the rest.
                with (
                    contextlib.suppress(OSError, ServiceError),
                    environment_of(stack.environment(home)),
                ):
                    for name in prefect_api.end_runs("The services were stopped (make down)"):
                        console.print(f"  ended the run {on_one_line(name)}")
        supervisor.shutdown()
    record_of(home).unlink(missing_ok=True)
    console.print(
        "Nightshift is stopped; its data stays." if stack else "Nightshift was not running."
    )
    return 0


def status(console: Terminal, arguments: list[str]) -> int:
    """Show the programs and their addresses; the exit status is 1 if one does not run."""
    home = home_folder()
    stack = running_stack(home)
    if stack is None:
        console.print("Nightshift is not running. Start it with `make up`.")
        return 1
    supervisor = Supervisor(home / "stack", str(home))
    with environment_of(stack.environment(home)):
        problems = show_status(console, stack, supervisor)
    _show_passwords(console, stack, passwords_of(home))
    return problems


def _show_passwords(console: Terminal, stack: Stack, file: Path) -> None:
    """Show where the passwords are and which login needs which one; never the passwords themselves."""
    if stack.asks_for_passwords and (stack.prefect_url or stack.mlflow_url):
        if stack.prefect_url:
            login = f'log in with the value of "prefect" in {file}'
            console.print(f"  Prefect                  {login}", soft_wrap=True)
        if stack.mlflow_url:
            login = f'log in as {MLFLOW_ADMINISTRATOR} with the value of "mlflow" in {file}'
            console.print(f"  MLflow                   {login}", soft_wrap=True)


def put(console: Terminal, arguments: list[str]) -> int:
    """Upload files below a prefix.

    Raises:
        SettingsError, MissingDataError: invalid arguments, no such file.
        StoreError: the store refuses.
    """
    *names, target = arguments or [""]
    if not names or not target.startswith("s3://"):
        raise SettingsError("usage: put FILE ... s3://bucket/prefix/", "put")
    for name in names:
        if not Path(name).is_file():
            raise MissingDataError("No such file", name)
    with environment_of(_service_environment()):
        store = ObjectStore(read_settings().s3_endpoint_url)
        for name in names:
            uri = f"{target.rstrip('/')}/{Path(name).name}"
            store.upload(Path(name), uri)
            console.print(f"  {on_one_line(uri)}", soft_wrap=True)
    return 0


def run(console: Terminal, arguments: list[str]) -> int:
    """Run a command with the services in its environment; return its exit status.

    Raises:
        SettingsError: no command.
    """
    if not arguments:
        raise SettingsError("usage: run COMMAND ...", "run")
    return subprocess.run(
        arguments, env={**os.environ, **_service_environment()}, check=False
    ).returncode


def _service_environment() -> dict[str, str]:
    home = home_folder()
    stack = running_stack(home)
    return stack.environment(home) if stack else {}


if __name__ == "__main__":
    sys.exit(main())
