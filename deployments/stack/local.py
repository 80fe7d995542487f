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
import time
from pathlib import Path

from rich.text import Text

from deployments.stack import prefect_api
from deployments.stack.programs import Services, StackServices
from deployments.stack.showing import show_status
from deployments.stack.starting import (
    environment_of,
    register_deployments,
    run_command,
    start_and_wait,
    step,
    waiting,
)
from deployments.stack.supervision import Supervisor
from tasks.connectors.private_files import private_files
from tasks.connectors.servers.local_stack import Stack, passwords_of, record_of, running_stack
from tasks.connectors.servers.passwords import MLFLOW_ADMINISTRATOR
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import MissingDataError, ServiceError, SettingsError
from tasks.core.readable import on_one_line
from tasks.runtime.local_services import ownership
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings


class LocalStack:
    """The commands of `make up`. Those of `make up-ha` are a subclass.

    Attributes:
        suffix: end of the names of its make targets.
        passable: True if programs under other accounts keep data below its folder.
        logins: the login of each service, from the file of passwords.
    """

    suffix, passable = "", False
    logins = (
        'with the value of "prefect"',
        f'as {MLFLOW_ADMINISTRATOR} with the value of "mlflow"',
    )

    @property
    def home(self) -> Path:
        """The folder of its data."""
        return read_settings().home

    @property
    def password_file(self) -> Path:
        """The file with its passwords."""
        return passwords_of(self.home)

    def client_environment(self, stack: Stack) -> dict[str, str]:
        """Return the environment of a client of the running stack, with keys and passwords."""
        return stack.environment(self.home)

    def services(self) -> StackServices:
        """Return its programs. Called once its folder is locked."""
        return Services(self.home, read_settings())

    def _supervisor(self) -> Supervisor:
        return Supervisor(self.home / "stack", str(self.home))

    def up(self, console: Terminal, arguments: list[str]) -> int:
        """Start everything and return when it is ready.

        Raises:
            ServiceError: a port is taken, a program does not stay up, another run uses the folder, or the running stack
                was started by a version without passwords.
        """
        if stack := running_stack(self.home):
            if not stack.asks_for_passwords:
                raise ServiceError(
                    "The running service was started by an earlier version, without passwords",
                    str(self.home),
                    "run `make down`, then `make up`",
                )
            console.print("Nightshift is already running.")
            # Some programs may be down: they gave up, or `up` was killed half-way.
            supervisor = self._supervisor()
            stopped = [state for state in supervisor.states() if state.state != "RUNNING"]
            start_and_wait(console, supervisor, stopped, health={})
        else:
            self._start(console)
        return self.status(console, arguments)

    def _start(self, console: Terminal) -> None:
        """Start supervisord and all programs, and publish the stack; undo everything if something fails."""
        started, home = time.perf_counter(), self.home
        console.print("Starting the services ...")
        with private_files(), ownership(home, self.passable), contextlib.ExitStack() as undo:
            supervisor = self._supervisor()
            with waiting(console, "starting supervisord"):
                if killed := supervisor.sweep():
                    names = ", ".join(killed)
                    console.print(f"Killed processes left by an earlier start: {names}")
                services = self.services()
                undo.callback(supervisor.shutdown)
                owner = supervisor.start(services.programs)
            record_of(home).write_text(services.stack(owner).model_dump_json())
            undo.callback(record_of(home).unlink, missing_ok=True)
            services.start_servers(console, supervisor)
            with step(console, "deployments"):
                register_deployments(console, services.client_environment)
            services.start_workers(console, supervisor)
            undo.pop_all()
        seconds = time.perf_counter() - started
        console.print(Text.assemble(("Ready", "bold green"), f" after {seconds:.0f} s.\n"))

    def down(self, console: Terminal, arguments: list[str]) -> int:
        """Stop everything, clients before the services they use; unfinished runs are ended and marked as crashed."""
        supervisor, stack = self._supervisor(), running_stack(self.home)
        if stack:
            console.print("Stopping the services ...")
        with waiting(console, "stopping the services") if stack else contextlib.nullcontext():
            if stack:
                supervisor.end_flow_runs()
                for state in supervisor.states():
                    if state.name.endswith("-worker"):
                        supervisor.stop_program(state.name)
                if stack.prefect_url:
                    # Neither a server that does not answer nor a damaged file of passwords may prevent stopping the
                    # rest.
                    with (
                        contextlib.suppress(OSError, ServiceError),
                        environment_of(self.client_environment(stack)),
                    ):
                        reason = f"The services were stopped (make down{self.suffix})"
                        for name in prefect_api.end_runs(reason):
                            console.print(f"  ended the run {on_one_line(name)}")
            supervisor.shutdown()
        record_of(self.home).unlink(missing_ok=True)
        console.print(
            "Nightshift is stopped; its data stays." if stack else "Nightshift was not running."
        )
        return 0

    def status(self, console: Terminal, arguments: list[str]) -> int:
        """Show the programs and their addresses; the exit status is 1 if one does not run."""
        stack = running_stack(self.home)
        if stack is None:
            console.print(f"Nightshift is not running. Start it with `make up{self.suffix}`.")
            return 1
        with environment_of(self.client_environment(stack)):
            problems = show_status(console, stack, self._supervisor())
        # Where the passwords are; never the passwords themselves.
        urls = {"Prefect": stack.prefect_url, "MLflow": stack.mlflow_url}
        for (name, url), login in zip(urls.items(), self.logins, strict=True):
            if url and stack.asks_for_passwords:
                text = f"  {name:<24} log in {login} in {self.password_file}"
                console.print(text, soft_wrap=True)
        return problems

    def run(self, console: Terminal, arguments: list[str]) -> int:
        """Run a command with the services in its environment; return its exit status.

        Raises:
            SettingsError: no command.
        """
        if not arguments:
            raise SettingsError("usage: run COMMAND ...", "run")
        environment = {**os.environ, **self.service_environment()}
        return subprocess.run(arguments, env=environment, check=False).returncode

    def service_environment(self) -> dict[str, str]:
        """Return the environment of a client; nothing if the stack is not running."""
        stack = running_stack(self.home)
        return self.client_environment(stack) if stack else {}


_STACK = LocalStack()
up, down, status, run = _STACK.up, _STACK.down, _STACK.status, _STACK.run
_service_environment = _STACK.service_environment


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


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit status."""
    commands = {"up": up, "down": down, "status": status, "put": put, "run": run}
    return run_command(__doc__ or "", commands, arguments)


if __name__ == "__main__":
    sys.exit(main())
