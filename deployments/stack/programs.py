"""The programs of `make up`: commands, environments and health checks. `make up-ha` builds on `StackServices`."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deployments.stack import prefect_api
from deployments.stack.starting import environment_of, start_and_wait
from deployments.stack.supervision import Program, Supervisor
from deployments.stack.tracking.server import mlflow_secrets, mlflow_server, write_mlflow_accounts
from tasks.connectors.servers.listening import listener_problem
from tasks.connectors.servers.local_servers import (
    http_problem,
    inherited_environment,
    prefect_problem,
    prefect_server_command,
    prefect_server_environment,
    require_free_port,
)
from tasks.connectors.servers.local_stack import PORT_SETTINGS, Stack, accounts_of, local_passwords
from tasks.connectors.servers.seaweedfs import HOST, SeaweedFS, free_ports
from tasks.core.errors import ServiceError
from tasks.runtime.local_services import CLIENT_DEFAULTS
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import Settings

_POOLS = ("cpu", "gpu")
_USUAL_PORTS = {"s3": 8333, "mlflow": 5000, "prefect": 4200}
# A stack on one machine favours latency over load: a run begins two seconds after it was requested.
WORKER_ENVIRONMENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "NIGHTSHIFT_TRAINING_DEPLOYMENT": "fine-tune/fine-tune",
    "NIGHTSHIFT_SCORING_DEPLOYMENT": "score-shards/score-shards",
    "NIGHTSHIFT_GPU_WORKER_ON_CPU": "true",
}


class StackServices:
    """The programs of a stack, in the order in which they are started: its servers, then a worker of each pool.

    A subclass adds the servers and sets their addresses, then adds the workers.
    """

    def __init__(self, home: Path, settings: Settings) -> None:
        self._home, self._settings = home, settings
        self._ports: dict[str, int] = {}
        self.s3_url = self.mlflow_url = self.prefect_url = ""
        self._prefect_user: int | None = None
        self.servers: list[Program] = []
        self.health: dict[str, Callable[[], str]] = {}

    def stack(self, owner: str) -> Stack:
        """Return the stack's description for other programs."""
        return Stack(
            owner=owner,
            s3_url=self.s3_url,
            mlflow_url=self.mlflow_url,
            prefect_url=self.prefect_url,
            asks_for_passwords=True,
            prefect_user=self._prefect_user,
        )

    def start_servers(self, console: Terminal, supervisor: Supervisor) -> None:
        """Start the servers, and create what clients expect in them.

        Raises:
            ServiceError, StoreError: a server does not stay up, or refuses.
        """
        start_and_wait(console, supervisor, self.servers, self.health)

    def start_workers(self, console: Terminal, supervisor: Supervisor) -> None:
        """Start the workers, whose pools are registered.

        Raises:
            ServiceError: a worker does not stay up.
        """
        names = {pool: f"{pool}-worker" for pool in _POOLS}
        health = {
            name: partial(prefect_api.worker_problem, pool, supervisor.pid_of(name))
            for pool, name in names.items()
        }
        with environment_of(self.client_environment):
            start_and_wait(console, supervisor, self.workers, health)

    def _add_workers(self, client_environment: dict[str, str]) -> None:
        self.client_environment = client_environment
        environment = WORKER_ENVIRONMENT | client_environment | {"NIGHTSHIFT_HOME": str(self._home)}
        command = [sys.executable, "-m", "deployments.worker"]
        self.workers = [
            Program(name=f"{pool}-worker", command=[*command, pool], environment=environment)
            for pool in _POOLS
        ]
        self.programs = self.servers + self.workers

    def _port(self, name: str, usual: int | None = None) -> int:
        """Choose the requested port, or the previous one (people keep bookmarks), or the usual one, or any free one."""
        s = self._settings
        asked = {"s3": s.s3_port, "mlflow": s.mlflow_port, "prefect": s.prefect_port}.get(name)
        if asked is not None:
            require_free_port(asked, PORT_SETTINGS[name])
            self._ports[name] = asked
            return asked
        file, port = self._home / "stack" / f"{name}.port", usual or _USUAL_PORTS[name]
        file.parent.mkdir(parents=True, exist_ok=True)
        port = int(file.read_text(encoding="utf-8")) if file.is_file() else port
        try:
            require_free_port(port, "")
        except ServiceError:
            port = free_ports(1)[0]
        file.write_text(str(port))
        self._ports[name] = port
        return port

    def _url(self, name: str) -> str:
        return f"http://{HOST}:{self._ports[name]}"

    def _add(self, program: Program, problem: Callable[[], str], user: int | None = None) -> None:
        """Add a server with its health check.

        If it has a port, the check first raises ServiceError if the port belongs to another user than `user`, because
        clients would send them their password.
        """
        self.servers.append(program)
        port, setting = self._ports.get(program.name), PORT_SETTINGS.get(program.name, "")
        self.health[program.name] = (
            (lambda: listener_problem(port, setting, user) or problem()) if port else problem
        )

    def _add_object_store(self) -> SeaweedFS:
        server = SeaweedFS(self._home / "s3", self._port("s3"))
        self.s3_url = server.endpoint_url
        program = Program(
            name="object-store",
            command=server.command,
            environment=server.environment,
            directory=str(server.folder),
            stop_signal="KILL",  # no data is lost; other signals take 20 s
        )
        self._add(program, server.problem)
        return server

    def _add_mlflow(
        self,
        secrets: dict[str, str],
        data: str,
        accounts: str,
        artifacts: str,
        others_may: str,
    ) -> None:
        """Add MLflow; for the arguments see `mlflow_server` and `write_mlflow_accounts`."""
        port, configuration = self._port("mlflow"), self._home / "mlflow" / "basic_auth.ini"
        self.mlflow_url = self._url("mlflow")
        write_mlflow_accounts(configuration, accounts, others_may)
        environment = inherited_environment() | secrets
        program = mlflow_server(port, configuration, data, artifacts, environment)
        self._add(program, partial(http_problem, f"{self.mlflow_url}/health"))


class Services(StackServices):
    """The programs of `make up`: the servers that are not configured elsewhere, and the workers."""

    def __init__(self, home: Path, settings: Settings) -> None:
        super().__init__(home, settings)
        self._passwords = local_passwords(home)
        self._store = self._add_object_store() if settings.embeds_object_store else None
        if not settings.mlflow_tracking_uri:
            folder, accounts = home / "mlflow", f"sqlite:///{accounts_of(home)}"
            data, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
            secrets = mlflow_secrets(self._passwords.mlflow, self._passwords.mlflow_forms)
            # One account is enough: experiments and models from before passwords existed have no owner.
            self._add_mlflow(secrets, data, accounts, artifacts, others_may="NO_PERMISSIONS")
        if not settings.prefect_api_url:
            self._add_prefect(self._port("prefect"))
        addresses = self.stack("").environment(home)
        self._add_workers(CLIENT_DEFAULTS | dict(os.environ) | addresses)

    def start_servers(self, console: Terminal, supervisor: Supervisor) -> None:
        """Start the servers, and create the bucket."""
        super().start_servers(console, supervisor)
        if self._store:
            self._store.store().make_bucket(self._settings.bucket)

    def _add_prefect(self, port: int) -> None:
        folder = self._home / "prefect"
        folder.mkdir(exist_ok=True)
        self.prefect_url = self._url("prefect")
        environment = prefect_server_environment(folder, port, self._passwords.prefect)
        command = prefect_server_command(port)
        program = Program(name="prefect", command=command, environment=environment)
        self._add(program, partial(prefect_problem, f"{self.prefect_url}/api"))
