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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deployments.stack import prefect_api
from deployments.stack.programs import Services, StackServices
from deployments.stack.showing import show_status
from deployments.stack.starting import (
    environment_of,
    register_deployments,
    run_command,
    start_and_wait,
    start_the_rest,
    starting,
    step,
    stopping,
)
from deployments.stack.supervision import Supervisor
from tasks.connectors.servers.local_stack import Stack, passwords_of, record_of, running_stack
from tasks.connectors.servers.passwords import MLFLOW_ADMINISTRATOR
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import MissingDataError, ServiceError, SettingsError
from tasks.core.readable import on_one_line
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings


@dataclass(frozen=True)
class StackVariant:
    """What differs between `make up` and `make up-ha`.

    Attributes:
        suffix: end of the names of its make targets.
        home: returns the folder of its data.
        services: returns its programs; called once the folder is locked.
        client_environment: returns the environment of a client, from the folder and the running stack.
        passwords: returns the file with its passwords, from the folder.
        logins: what a person types from that file, by service.
        passable: True if programs under other accounts keep data below the folder.
    """

    suffix: str
    home: Callable[[], Path]
    services: Callable[[], StackServices]
    client_environment: Callable[[Path, Stack], dict[str, str]]
    passwords: Callable[[Path], Path]
    logins: Mapping[str, str]
    passable: bool = False


MAKE_UP = StackVariant(
    suffix="",
    home=lambda: read_settings().home,
    services=lambda: Services(read_settings().home, read_settings()),
    client_environment=lambda home, stack: stack.environment(home),
    passwords=passwords_of,
    logins={
        "Prefect": 'with the value of "prefect"',
        "MLflow": f'as {MLFLOW_ADMINISTRATOR} with the value of "mlflow"',
    },
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit status."""
    commands = {"up": up, "down": down, "status": status, "put": put, "run": run}
    return run_command(__doc__ or "", commands, arguments)


def up(console: Terminal, arguments: list[str], variant: StackVariant = MAKE_UP) -> int:
    """Start everything and return when it is ready.

    Raises:
        ServiceError: a port is taken, a program does not stay up, another run uses the folder, or the running stack was
            started by a version without passwords.
    """
    home = variant.home()
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
        with starting(console, home, variant.services, variant.passable) as started:
            _start(console, *started)
    return status(console, arguments, variant)


def _start(console: Terminal, supervisor: Supervisor, services: StackServices) -> None:
    """Start the servers, register everything with them, then start the workers."""
    services.start_servers(console, supervisor)
    with step(console, "deployments"):
        register_deployments(console, services.client_environment)
    health = {
        worker.name: partial(
            prefect_api.worker_problem,
            worker.name.removesuffix("-worker"),
            supervisor.pid_of(worker.name),
        )
        for worker in services.workers
    }
    with environment_of(services.client_environment):
        start_and_wait(console, supervisor, services.workers, health)


def down(console: Terminal, arguments: list[str], variant: StackVariant = MAKE_UP) -> int:
    """Stop everything, clients before the services they use; unfinished runs are ended and marked as crashed."""
    home = variant.home()
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
                    environment_of(variant.client_environment(home, stack)),
                ):
                    reason = f"The services were stopped (make down{variant.suffix})"
                    for name in prefect_api.end_runs(reason):
                        console.print(f"  ended the run {on_one_line(name)}")
        supervisor.shutdown()
    record_of(home).unlink(missing_ok=True)
    console.print(
        "Nightshift is stopped; its data stays." if stack else "Nightshift was not running."
    )
    return 0


def status(console: Terminal, arguments: list[str], variant: StackVariant = MAKE_UP) -> int:
    """Show the programs and their addresses; the exit status is 1 if one does not run."""
    home = variant.home()
    stack = running_stack(home)
    if stack is None:
        console.print(f"Nightshift is not running. Start it with `make up{variant.suffix}`.")
        return 1
    supervisor = Supervisor(home / "stack", str(home))
    with environment_of(variant.client_environment(home, stack)):
        problems = show_status(console, stack, supervisor)
    # Where the passwords are; never the passwords themselves.
    urls = {"Prefect": stack.prefect_url, "MLflow": stack.mlflow_url}
    for name in [name for name, url in urls.items() if url and stack.asks_for_passwords]:
        login = f"log in {variant.logins[name]} in {variant.passwords(home)}"
        console.print(f"  {name:<24} {login}", soft_wrap=True)
    return problems


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


def run(console: Terminal, arguments: list[str], variant: StackVariant = MAKE_UP) -> int:
    """Run a command with the services in its environment; return its exit status.

    Raises:
        SettingsError: no command.
    """
    if not arguments:
        raise SettingsError("usage: run COMMAND ...", "run")
    environment = {**os.environ, **_service_environment(variant)}
    return subprocess.run(arguments, env=environment, check=False).returncode


def _service_environment(variant: StackVariant = MAKE_UP) -> dict[str, str]:
    home = variant.home()
    stack = running_stack(home)
    return variant.client_environment(home, stack) if stack else {}


if __name__ == "__main__":
    sys.exit(main())
