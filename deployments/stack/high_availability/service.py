"""The production setup of a team, on one machine and from Debian's packages: `make up-ha`, `make down-ha`.

    load balancer (nginx) --> two Prefect API servers --+--> PostgreSQL, Redis
                              background services ------+
    MLflow with accounts  --> PostgreSQL, and a bucket of its own in the object store
    workers of both pools --> load balancer, MLflow, object store

Each server has a password, generated at the first start. A program that dies is started again; until then the other API
server answers. Loopback only; data stay in `.nightshift/ha/`, apart from those of `make up`.

    python -m deployments.stack.high_availability.service up | down | status
    python -m deployments.stack.high_availability.service run COMMAND ...    a command that finds the services
"""

import os
import sys
from pathlib import Path

from deployments.stack.high_availability.debian import require_installed, require_reachable
from deployments.stack.high_availability.programs import Services, client_environment
from deployments.stack.local import LocalStack
from deployments.stack.starting import run_command
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


class HighAvailabilityStack(LocalStack):
    """The commands of `make up-ha`."""

    suffix = "-ha"
    # If root starts them, PostgreSQL, Redis and nginx run under accounts of their own.
    passable = os.geteuid() == 0
    logins = (
        f'with "{PREFECT_USER}:" followed by the value of "prefect"',
        f'as {MLFLOW_ADMINISTRATOR} with the value of "mlflow_admin"',
    )

    @property
    def home(self) -> Path:
        """The folder of its data, below that of `make up`."""
        return high_availability_home(read_settings().home)

    @property
    def password_file(self) -> Path:
        """The file with its passwords."""
        return high_availability_passwords_of(self.home)

    def client_environment(self, stack: Stack) -> dict[str, str]:
        """Return the environment of a client of the running stack, with keys and passwords."""
        passwords = read_passwords(self.password_file, Passwords)
        return client_environment(self.home, stack, passwords)

    def services(self) -> Services:
        """Return its programs."""
        require_reachable(self.home)
        database = self.home / "postgres" / "data"
        passwords = kept_passwords(self.password_file, Passwords, belongs_to=database)
        return Services(self.home, read_settings(), passwords)

    def up(self, console: Terminal, arguments: list[str]) -> int:
        """Start everything and return when it is ready.

        Raises:
            ServiceError: a program is not installed, a port is taken, or a program does not stay up.
            SettingsError: other servers are configured; this stack starts all of its own.
        """
        if not running_stack(self.home):
            require_installed()
            settings = read_settings()
            configured = {
                "AWS_ENDPOINT_URL_S3": settings.s3_endpoint_url,
                "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
                "PREFECT_API_URL": settings.prefect_api_url,
            }
            if names := ", ".join(name for name, value in configured.items() if value):
                raise SettingsError(
                    f"This starts its own servers, but others are configured: {names}",
                    "",
                    "unset them, or use `make up`, which starts only what is not configured",
                )
            make_private(settings.home, self.passable)
        return super().up(console, arguments)

    def run(self, console: Terminal, arguments: list[str]) -> int:
        """Run a command with the services in its environment; return its exit status.

        Raises:
            SettingsError: no command, or nothing is up.
        """
        if not running_stack(self.home):
            raise SettingsError("usage: run COMMAND ... (while the stack is up)", "run")
        return super().run(console, arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit status."""
    stack = HighAvailabilityStack()
    commands = {"up": stack.up, "down": stack.down, "status": stack.status, "run": stack.run}
    return run_command(__doc__ or "", commands, arguments)


if __name__ == "__main__":
    sys.exit(main())
