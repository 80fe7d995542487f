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

import os
import sys
from functools import partial
from pathlib import Path

from deployments.stack import local
from deployments.stack.high_availability.debian import require_installed, require_reachable
from deployments.stack.high_availability.programs import Services, client_environment
from tasks.connectors.private_files import make_private
from tasks.connectors.servers.local_stack import (
    Stack,
    high_availability_home,
    high_availability_passwords_of,
    running_stack,
)
from tasks.connectors.servers.passwords import (
    MLFLOW_ADMINISTRATOR,
    PREFECT_USER,
    Passwords,
    kept_passwords,
    read_passwords,
)
from tasks.core.errors import SettingsError
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings

# If root starts them, PostgreSQL, Redis and nginx run under accounts of their own and must pass through to their
# folders.
_PASSABLE = os.geteuid() == 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit status."""
    down, status = (partial(command, variant=_VARIANT) for command in (local.down, local.status))
    commands = {"up": up, "down": down, "status": status, "run": run}
    return local.run_command(__doc__ or "", commands, arguments)


def _home() -> Path:
    return high_availability_home(read_settings().home)


def up(console: Terminal, arguments: list[str]) -> int:
    """Start everything and return when it is ready.

    Raises:
        ServiceError: a program is not installed, a port is taken, or a program does not stay up.
        SettingsError: other servers are configured; this stack starts all of its own.
    """
    if not running_stack(_home()):
        require_installed()
        settings = read_settings()
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
        make_private(settings.home, _PASSABLE)
    return local.up(console, arguments, _VARIANT)


def run(console: Terminal, arguments: list[str]) -> int:
    """Run a command with the services in its environment; return its exit status.

    Raises:
        SettingsError: no command, or nothing is up.
    """
    if not arguments or not running_stack(_home()):
        raise SettingsError("usage: run COMMAND ... (while the stack is up)", "run")
    return local.run(console, arguments, _VARIANT)


def _services() -> Services:
    home = _home()
    require_reachable(home)
    file, database = high_availability_passwords_of(home), home / "postgres" / "data"
    passwords = kept_passwords(file, Passwords, belongs_to=database)
    return Services(home, read_settings(), passwords)


def _client_environment(home: Path, stack: Stack) -> dict[str, str]:
    passwords = read_passwords(high_availability_passwords_of(home), Passwords)
    return client_environment(home, stack, passwords)


_VARIANT = local.StackVariant(
    suffix="-ha",
    home=_home,
    services=_services,
    client_environment=_client_environment,
    passwords=high_availability_passwords_of,
    logins={
        "Prefect": f'with "{PREFECT_USER}:" followed by the value of "prefect"',
        "MLflow": f'as {MLFLOW_ADMINISTRATOR} with the value of "mlflow_admin"',
    },
    passable=_PASSABLE,
)

if __name__ == "__main__":
    sys.exit(main())
