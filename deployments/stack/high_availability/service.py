"""The production setup of a team, on one machine and from Debian's packages: `make up-ha`, `make down-ha`.

    load balancer (nginx) --> two Prefect API servers --+--> PostgreSQL, Redis
                              background services ------+
    MLflow with accounts  --> PostgreSQL, and a bucket of its own in the object store
    workers of both pools --> load balancer, MLflow, object store

Each server has a password, generated at the first start. A program that dies is started again; until then the other API
server answers. Loopback only; data stay in `.nightshift/ha/`, apart from those of `make up`.

    python -m deployments.stack.high_availability.service up | down | status
    python -m deployments.stack.high_availability.service run COMMAND ...

`run` starts a command with the addresses and passwords of the services in its environment.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from deployments.stack import prefect_api
from deployments.stack.high_availability.debian import require_installed, require_reachable
from deployments.stack.high_availability.programs import USER, Services, client_environment
from deployments.stack.showing import show_status
from deployments.stack.starting import (
    environment_of,
    register_deployments,
    run_command,
    run_to_end,
    start_the_rest,
    starting,
    step,
    stopping,
    wait_until,
)
from deployments.stack.supervision import Supervisor
from tasks.connectors.private_files import make_private
from tasks.connectors.servers.local_stack import (
    high_availability_home,
    high_availability_passwords_of,
    record_of,
    running_stack,
)
from tasks.connectors.servers.passwords import (
    MLFLOW_ADMINISTRATOR,
    Passwords,
    kept_passwords,
    read_passwords,
)
from tasks.core.errors import ServiceError, SettingsError
from tasks.core.readable import on_one_line
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import Settings, read_settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit status."""
    commands = {"up": up, "down": down, "status": status, "run": run}
    return run_command(__doc__ or "", commands, arguments)


def home_folder() -> Path:
    """Return the folder of its data."""
    return high_availability_home(read_settings().home)


def up(console: Terminal, arguments: list[str]) -> int:
    """Start everything and return when it is ready.

    Raises:
        ServiceError: a program is not installed, a port is taken, or a program does not stay up.
        SettingsError: other servers are configured; this stack starts all of its own.
    """
    home, settings = home_folder(), read_settings()
    if running_stack(home):
        console.print("Nightshift is already running.")
        start_the_rest(console, Supervisor(home / "stack", str(home)))
        return status(console, arguments)
    require_installed()
    _require_nothing_configured(settings)

    def make_services() -> Services:
        require_reachable(home)
        database = home / "postgres" / "data"
        passwords = kept_passwords(
            high_availability_passwords_of(home), Passwords, belongs_to=database
        )
        return Services(home, settings, passwords)

    # If root starts them, PostgreSQL, Redis and nginx run under accounts of their own and must pass through to their
    # folders.
    passable = os.geteuid() == 0
    make_private(home.parent, passable)
    with starting(console, home, make_services, passable) as started:
        _start(console, *started)
    return status(console, arguments)


def _require_nothing_configured(settings: Settings) -> None:
    configured = {
        "AWS_ENDPOINT_URL_S3": settings.s3_endpoint_url,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "PREFECT_API_URL": settings.prefect_api_url,
    }
    if names := [name for name, value in configured.items() if value]:
        raise SettingsError(
            f"This starts its own servers, but others are configured: {', '.join(names)}",
            "",
            "unset them, or use `make up`, which starts only what is not configured",
        )


def _start(console: Terminal, supervisor: Supervisor, services: Services) -> None:
    """Start the data services, create their contents, start the servers, register deployments, start the workers."""
    with step(console, "preparation"):
        services.prepare()
    _start_and_wait(console, supervisor, services, services.data_programs)
    with step(console, "databases"):
        services.make_databases()
    # MLflow creates its tables itself; meanwhile Prefect's are created, once for all its servers.
    supervisor.start_program("mlflow")
    with step(console, "migration"):
        run_to_end("Migrating Prefect's database", *services.migration)
    _start_and_wait(console, supervisor, services, services.server_programs)
    with step(console, "accounts"):
        services.make_accounts()
    with step(console, "deployments"):
        register_deployments(console, services.client_environment)
    with environment_of(services.client_environment):
        _start_and_wait(console, supervisor, services, services.worker_programs)


def _start_and_wait(
    console: Terminal, supervisor: Supervisor, services: Services, names: list[str]
) -> None:
    for name in names:
        supervisor.start_program(name)  # no effect on a running program
    for name in names:
        with step(console, name):
            wait_until(services.health(name, supervisor), supervisor, name)


def down(console: Terminal, arguments: list[str]) -> int:
    """Stop everything, clients before the services they use; unfinished runs are ended and marked as crashed."""
    home = home_folder()
    supervisor = Supervisor(home / "stack", str(home))
    stack = running_stack(home)
    names = [state.name for state in supervisor.states()]
    with stopping(console) if stack else contextlib.nullcontext():
        if stack:
            supervisor.end_flow_runs()
            workers = [name for name in names if name.endswith("-worker")]
            for name in workers:
                supervisor.stop_program(name)
            # Neither a missing file of passwords nor a server that does not answer may prevent stopping the rest.
            with contextlib.suppress(OSError, ServiceError):
                environment = client_environment(home, stack, _passwords(home))
                with environment_of(environment):
                    for name in prefect_api.end_runs("The services were stopped (make down-ha)"):
                        console.print(f"  ended the run {on_one_line(name)}")
        for name in reversed([n for n in Services.order if n in names]):
            supervisor.stop_program(name)
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
        console.print("Nightshift is not running. Start it with `make up-ha`.")
        return 1
    supervisor = Supervisor(home / "stack", str(home))
    with environment_of(client_environment(home, stack, _passwords(home))):
        problems = show_status(console, stack, supervisor)
    file = high_availability_passwords_of(home)
    for name, login in (
        ("Prefect", f'with "{USER}:" followed by the value of "prefect"'),
        ("MLflow", f'as {MLFLOW_ADMINISTRATOR} with the value of "mlflow_admin"'),
    ):
        console.print(f"  {name:<24} log in {login}, in {file}", soft_wrap=True)
    return problems


def run(console: Terminal, arguments: list[str]) -> int:
    """Run a command with the services in its environment; return its exit status.

    Raises:
        SettingsError: no command, or nothing is up.
    """
    home = home_folder()
    stack = running_stack(home)
    if not arguments or stack is None:
        raise SettingsError("usage: run COMMAND ... (while the stack is up)", "run")
    environment = client_environment(home, stack, _passwords(home))
    return subprocess.run(arguments, env={**os.environ, **environment}, check=False).returncode


def _passwords(home: Path) -> Passwords:
    return read_passwords(high_availability_passwords_of(home), Passwords)


if __name__ == "__main__":
    sys.exit(main())
