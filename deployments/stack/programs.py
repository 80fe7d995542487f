"""The programs of `make up`: commands, environments and health checks."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from deployments.stack.starting import kept_port
from deployments.stack.supervision import Program
from deployments.stack.tracking.server import mlflow_secrets, mlflow_server, write_mlflow_accounts
from tasks.connectors.servers.listening import listener_problem
from tasks.connectors.servers.local_servers import (
    http_problem,
    prefect_problem,
    prefect_server_command,
    prefect_server_environment,
)
from tasks.connectors.servers.local_stack import PORT_SETTINGS, Stack, accounts_of, local_passwords
from tasks.connectors.servers.seaweedfs import HOST, SeaweedFS
from tasks.runtime.local_services import CLIENT_DEFAULTS
from tasks.runtime.settings import Settings

_USUAL_PORTS = {"s3": 8333, "mlflow": 5000, "prefect": 4200}
# A stack on one machine favours latency over load: a run begins two seconds after it was requested.
WORKER_ENVIRONMENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "NIGHTSHIFT_TRAINING_DEPLOYMENT": "fine-tune/fine-tune",
    "NIGHTSHIFT_SCORING_DEPLOYMENT": "score-shards/score-shards",
    "NIGHTSHIFT_GPU_WORKER_ON_CPU": "true",
}


class Services:
    """The programs of the stack: the servers that are not configured elsewhere, and the workers."""

    def __init__(self, home: Path, settings: Settings) -> None:
        def port(service: str, requested: int | None) -> int:
            return kept_port(home / "stack", service, requested, _USUAL_PORTS[service])

        self.s3_url = self.mlflow_url = self.prefect_url = ""
        self._home, self._passwords = home, local_passwords(home)
        self.servers: list[Program] = []
        self.health: dict[str, Callable[[], str]] = {}
        if settings.embeds_object_store:
            self._add_object_store(home / "s3", port("s3", settings.s3_port))
        if not settings.mlflow_tracking_uri:
            self._add_mlflow(port("mlflow", settings.mlflow_port))
        if not settings.prefect_api_url:
            self._add_prefect(port("prefect", settings.prefect_port))
        self.bucket = settings.bucket
        self.client_environment = (
            CLIENT_DEFAULTS | dict(os.environ) | self.stack("").environment(home)
        )
        environment = WORKER_ENVIRONMENT | self.client_environment | {"NIGHTSHIFT_HOME": str(home)}
        command = [sys.executable, "-m", "deployments.worker"]
        self.workers = [
            Program(name=f"{pool}-worker", command=[*command, pool], environment=environment)
            for pool in ("cpu", "gpu")
        ]
        self.programs = self.servers + self.workers

    def stack(self, owner: str) -> Stack:
        """Return the stack's description for other programs."""
        return Stack(
            owner=owner,
            s3_url=self.s3_url,
            mlflow_url=self.mlflow_url,
            prefect_url=self.prefect_url,
            asks_for_passwords=True,
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
                directory=str(server.folder),
                stop_signal="KILL",
            )
        )

    def _add_mlflow(self, port: int) -> None:
        folder = self._home / "mlflow"
        folder.mkdir(exist_ok=True)
        self.mlflow_url = f"http://{HOST}:{port}"
        self.health["mlflow"] = lambda: (
            listener_problem(port, PORT_SETTINGS["mlflow"])
            or http_problem(f"{self.mlflow_url}/health")
        )
        # One account is enough: experiments and models from before passwords existed have no owner.
        configuration, accounts = folder / "basic_auth.ini", f"sqlite:///{accounts_of(self._home)}"
        write_mlflow_accounts(configuration, accounts, others_may="NO_PERMISSIONS")
        others = ("MLFLOW_", "AWS_", "PREFECT_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(others)}
        environment |= mlflow_secrets(self._passwords.mlflow, self._passwords.mlflow_forms)
        data, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self.servers.append(mlflow_server(port, configuration, data, artifacts, environment))

    def _add_prefect(self, port: int) -> None:
        folder = self._home / "prefect"
        folder.mkdir(exist_ok=True)
        self.prefect_url = f"http://{HOST}:{port}"
        self.health["prefect"] = lambda: (
            listener_problem(port, PORT_SETTINGS["prefect"])
            or prefect_problem(f"{self.prefect_url}/api")
        )
        self.servers.append(
            Program(
                name="prefect",
                command=prefect_server_command(port),
                environment=prefect_server_environment(folder, port, self._passwords.prefect),
            )
        )
