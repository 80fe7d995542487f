"""The programs of `make up-ha`: commands, environments and health checks."""

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from deployments.stack import prefect_api
from deployments.stack.high_availability.databases import Postgres, Redis
from deployments.stack.high_availability.load_balancer import LoadBalancer
from deployments.stack.programs import WORKER_ENVIRONMENT
from deployments.stack.starting import kept_port
from deployments.stack.supervision import Program, Supervisor
from deployments.stack.tracking.accounts import MLflowAccounts
from deployments.stack.tracking.server import mlflow_secrets, mlflow_server, write_mlflow_accounts
from tasks.connectors.servers.listening import listener_problem
from tasks.connectors.servers.local_servers import (
    NO_TELEMETRY,
    http_problem,
    own_origins,
    prefect_problem,
)
from tasks.connectors.servers.local_stack import PORT_SETTINGS, Stack
from tasks.connectors.servers.passwords import MLFLOW_ADMINISTRATOR, PREFECT_USER, Passwords
from tasks.connectors.servers.seaweedfs import HOST, SeaweedFS
from tasks.runtime.local_services import CLIENT_DEFAULTS
from tasks.runtime.settings import Settings

USER = PREFECT_USER  # also the workers' name in MLflow
# The forms' default, written here so that the forms need not be imported.
MODEL = "reviews"
_MLFLOW_BUCKET = "mlflow"
# The usual ports for services that people look for; the others are below the range the system assigns to clients.
_PORTS = {
    "s3": 8333,
    "prefect": 4200,
    "mlflow": 5000,
    "postgres": 15432,
    "redis": 16379,
    "prefect-api-1": 14201,
    "prefect-api-2": 14202,
}
_OF_OTHER_SERVERS = ("AWS_", "MLFLOW_", "PG", "PREFECT_", "NIGHTSHIFT_")


class Services:
    """All programs, in the order in which they are started.

    Args:
        home: the folder of this stack.
        settings: ports, bucket, experiment.
        passwords: the passwords of all programs.
    Raises:
        ServiceError: a requested port is taken, or a program is missing.
    """

    data_programs: ClassVar = ["postgres", "redis", "object-store"]
    # "prefect" is the load balancer, because clients use it under that name.
    server_programs: ClassVar = [
        "mlflow",
        "prefect-api-1",
        "prefect-api-2",
        "prefect-services",
        "prefect",
    ]
    worker_programs: ClassVar = ["cpu-worker", "gpu-worker"]
    order: ClassVar = [*data_programs, *server_programs, *worker_programs]

    def __init__(self, home: Path, settings: Settings, passwords: Passwords) -> None:
        self._home, self._settings, self._passwords = home, settings, passwords
        requested = {
            "s3": settings.s3_port,
            "prefect": settings.prefect_port,
            "mlflow": settings.mlflow_port,
        }
        self._ports = {
            name: kept_port(home / "stack", name, requested.get(name), usual)
            for name, usual in _PORTS.items()
        }
        replicas = [self._ports["prefect-api-1"], self._ports["prefect-api-2"]]
        self._postgres = Postgres(home / "postgres", self._ports["postgres"], passwords.postgres)
        self._redis = Redis(home / "redis", self._ports["redis"], passwords.redis)
        self._s3 = SeaweedFS(home / "s3", self._ports["s3"])
        self._balancer = LoadBalancer("prefect", home / "nginx", self._ports["prefect"], replicas)
        self.client_environment = (
            CLIENT_DEFAULTS
            | _of_this_process()
            | client_environment(home, self.stack(""), passwords)
        )
        self.client_environment |= {
            "NIGHTSHIFT_BUCKET": settings.bucket,
            "NIGHTSHIFT_EXPERIMENT": settings.experiment,
            "NIGHTSHIFT_CHECKPOINT_SECONDS": str(settings.checkpoint_seconds),
            "NIGHTSHIFT_NOTIFICATION_BLOCK": settings.notification_block,
        }
        programs = {
            p.name: p for p in (self._postgres.program, self._redis.program, self._object_store())
        }
        programs |= {p.name: p for p in (self._mlflow(), *self._prefect(), self._balancer.program)}
        programs |= {p.name: p for p in map(self._worker, self.worker_programs)}
        self.programs = [programs[name] for name in self.order]

    def stack(self, owner: str) -> Stack:
        """Return the stack's description for other programs."""
        return Stack(
            owner=owner,
            s3_url=self._s3.endpoint_url,
            mlflow_url=self._url("mlflow"),
            prefect_url=self._url("prefect"),
            asks_for_passwords=True,
            prefect_user=self._balancer.user_id,
        )

    def _url(self, name: str) -> str:
        return f"http://{HOST}:{self._ports[name]}"

    def _object_store(self) -> Program:
        return Program(
            name="object-store",
            command=self._s3.command,
            environment=self._s3.environment,
            directory=str(self._s3.folder),
            stop_signal="KILL",  # no data is lost; other signals take 20 s
        )

    def _mlflow(self) -> Program:
        environment = _of_this_process() | {
            "PGPASSWORD": self._passwords.mlflow_database,
            "AWS_ENDPOINT_URL_S3": self._s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": self._s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self._s3.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        environment |= mlflow_secrets(self._passwords.mlflow_admin, self._passwords.mlflow_forms)
        data, artifacts = self._postgres.url("mlflow", "mlflow"), f"s3://{_MLFLOW_BUCKET}/"
        return mlflow_server(
            self._ports["mlflow"], self._mlflow_configuration, data, artifacts, environment
        )

    @property
    def _mlflow_configuration(self) -> Path:
        return self._home / "mlflow" / "basic_auth.ini"

    def _prefect(self) -> list[Program]:
        command = [sys.executable, "-m", "prefect", "server"]
        programs = [
            Program(
                name="prefect-services",
                command=[*command, "services", "start"],
                environment=self._prefect_environment("services"),
                stop_signal="INT",  # with TERM it drops its current work
            )
        ]
        for name in ("prefect-api-1", "prefect-api-2"):
            where = ["--host", HOST, "--port", str(self._ports[name]), "--no-services"]
            environment = self._prefect_environment(name.removeprefix("prefect-"))
            programs.append(
                Program(name=name, command=[*command, "start", *where], environment=environment)
            )
        return programs

    def _prefect_environment(self, name: str) -> dict[str, str]:
        """Return an environment with a shared database and a shared Redis.

        With its state in memory, each server would know only its own events, leases and messages.
        """
        url, password = self._url("prefect"), self._passwords.redis
        environment = _of_this_process() | NO_TELEMETRY
        environment |= {
            "PREFECT_HOME": str(self._home / "prefect" / name),
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_UI_URL": url,
            "PREFECT_UI_STATIC_DIRECTORY": str(self._home / "prefect" / name / "ui"),
            "PREFECT_UI_API_URL": f"{url}/api",
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
            "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{self._passwords.prefect}",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": own_origins(self._ports["prefect"]),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self._postgres.url(
                "prefect", "prefect", "asyncpg"
            ),
            "PGPASSWORD": self._passwords.prefect_database,
            # If several servers migrate at the same start, some fail.
            "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
            "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
            "PREFECT_SERVER_DOCKET_URL": self._redis.url(1),
        }
        for part in ("MESSAGING", "WORKER_CLEANUP_QUEUE"):
            environment[f"PREFECT_REDIS_{part}_HOST"] = HOST
            environment[f"PREFECT_REDIS_{part}_PORT"] = str(self._ports["redis"])
            environment[f"PREFECT_REDIS_{part}_DB"] = "0"
            environment[f"PREFECT_REDIS_{part}_PASSWORD"] = password
        return environment

    def _worker(self, name: str) -> Program:
        command = [sys.executable, "-m", "deployments.worker", name.removesuffix("-worker")]
        environment = (
            WORKER_ENVIRONMENT | self.client_environment | {"NIGHTSHIFT_HOME": str(self._home)}
        )
        return Program(name=name, command=command, environment=environment)

    @property
    def migration(self) -> tuple[list[str], Mapping[str, str]]:
        """Return the command that migrates Prefect's database to the version of its servers, and its environment."""
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        return command, self._prefect_environment("services")

    def prepare(self) -> None:
        """Create folders and configurations.

        Raises:
            ServiceError: the cluster cannot be created.
        """
        self._postgres.prepare()
        self._redis.prepare()
        self._balancer.prepare()
        url = self._postgres.url("mlflow_auth", "mlflow")
        write_mlflow_accounts(self._mlflow_configuration, url, others_may="READ")
        for name in ("services", "api-1", "api-2"):
            (self._home / "prefect" / name).mkdir(parents=True, exist_ok=True)

    def make_databases(self) -> None:
        """Create the roles, databases and buckets that do not exist.

        Raises:
            StoreError: the object store refuses.
        """
        passwords = self._passwords
        self._postgres.make_role("prefect", passwords.prefect_database, ["prefect"])
        self._postgres.make_role("mlflow", passwords.mlflow_database, ["mlflow", "mlflow_auth"])
        for bucket in (self._settings.bucket, _MLFLOW_BUCKET):
            self._s3.store().make_bucket(bucket)

    def make_accounts(self) -> None:
        """Create the workers' account in MLflow.

        Raises:
            ServiceError: MLflow refuses.
        """
        administrator = self._passwords.mlflow_admin
        accounts = MLflowAccounts(self._url("mlflow"), MLFLOW_ADMINISTRATOR, administrator)
        password, experiment = self._passwords.mlflow_workers, self._settings.experiment
        accounts.make_worker(USER, password, experiment, MODEL)

    def health(self, name: str, supervisor: Supervisor) -> Callable[[], str]:
        """Return the health check of a program, which returns what is wrong; '' if the program is healthy.

        The check raises ServiceError if another user's program has the port, because clients would send it their
        password.
        """
        question = self._question(name, supervisor)
        if name not in self._ports:
            return question
        users = {
            "postgres": self._postgres.user_id,
            "redis": self._redis.user_id,
            "prefect": self._balancer.user_id,
        }
        setting = PORT_SETTINGS.get(name, "")
        return lambda: listener_problem(self._ports[name], setting, users.get(name)) or question()

    def _question(self, name: str, supervisor: Supervisor) -> Callable[[], str]:
        questions = {
            "postgres": self._postgres.problem,
            "redis": self._redis.problem,
            "object-store": self._s3.problem,
            "mlflow": lambda: http_problem(f"{self._url('mlflow')}/health"),
        }
        if name in questions:
            return questions[name]
        if name in self.worker_programs:
            pool = name.removesuffix("-worker")
            return partial(prefect_api.worker_problem, pool, supervisor.pid_of(name))
        if name in self._ports:
            return partial(prefect_problem, f"{self._url(name)}/api")
        return lambda: ""  # it serves no requests; every program is checked for staying up anyway


def client_environment(home: Path, stack: Stack, passwords: Passwords) -> dict[str, str]:
    """Return the environment of a client: addresses, keys and passwords, including the workers' password in MLflow."""
    return stack.addresses(home) | {
        "PREFECT_API_AUTH_STRING": f"{USER}:{passwords.prefect}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": passwords.mlflow_workers,
    }


def _of_this_process() -> dict[str, str]:
    """Return this process's environment without the variables that are meant for other servers."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_OF_OTHER_SERVERS)}
