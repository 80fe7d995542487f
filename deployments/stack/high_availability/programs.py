"""The programs of `make up-ha`: commands, environments, health checks, and the order in which they start."""

import sys
from functools import partial
from pathlib import Path

from deployments.stack.high_availability.servers import Postgres, Redis, load_balancer
from deployments.stack.programs import StackServices
from deployments.stack.starting import run_to_end, start_and_wait, step
from deployments.stack.supervision import Program, Supervisor
from deployments.stack.tracking.accounts import MLflowAccounts
from deployments.stack.tracking.server import mlflow_secrets
from tasks.connectors.servers.local_servers import (
    inherited_environment,
    prefect_problem,
    prefect_server_command,
    prefect_server_environment,
)
from tasks.connectors.servers.local_stack import Stack
from tasks.connectors.servers.passwords import MLFLOW_ADMINISTRATOR, PREFECT_USER, Passwords
from tasks.connectors.servers.seaweedfs import HOST
from tasks.runtime.local_services import CLIENT_DEFAULTS
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import Settings

# The forms' default, written here so that the forms need not be imported.
MODEL = "reviews"
_MLFLOW_BUCKET, _MLFLOW_DATABASES = "mlflow", ["mlflow", "mlflow_auth"]
# Usual ports, below the range that the system assigns to clients.
_POSTGRES, _REDIS = 15432, 16379
_API_SERVERS = {"prefect-api-1": 14201, "prefect-api-2": 14202}


class Services(StackServices):
    """All programs, in the order in which they are started.

    Args:
        home: the folder of this stack.
        settings: ports, bucket, experiment.
        passwords: the passwords of all programs.
    Raises:
        ServiceError: a requested port is taken, or a program is missing.
    """

    def __init__(self, home: Path, settings: Settings, passwords: Passwords) -> None:
        super().__init__(home, settings)
        self._passwords = passwords
        self._postgres = Postgres(
            home / "postgres", self._port("postgres", _POSTGRES), passwords.postgres
        )
        self._add(self._postgres.program, self._postgres.problem, self._postgres.user_id)
        self._redis = Redis(home / "redis", self._port("redis", _REDIS), passwords.redis)
        self._add(self._redis.program, self._redis.problem, self._redis.user_id)
        self._store = self._add_object_store()
        self._data = [*self.servers]
        secrets = mlflow_secrets(passwords.mlflow_admin, passwords.mlflow_forms) | {
            "PGPASSWORD": passwords.mlflow_database,
            "AWS_ENDPOINT_URL_S3": self._store.endpoint_url,
            "AWS_ACCESS_KEY_ID": self._store.access_key,
            "AWS_SECRET_ACCESS_KEY": self._store.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        data, accounts = (self._postgres.url(name, "mlflow") for name in _MLFLOW_DATABASES)
        self._add_mlflow(secrets, data, accounts, f"s3://{_MLFLOW_BUCKET}/", others_may="READ")
        # "prefect" is the load balancer, because clients use it under that name.
        replicas = [self._port(*server) for server in _API_SERVERS.items()]
        self._balancer = load_balancer(home / "nginx", self._port("prefect"), replicas)
        self.prefect_url, self._prefect_user = self._url("prefect"), self._balancer.user_id
        for name, replica in zip(_API_SERVERS, replicas, strict=True):
            command = [*prefect_server_command(replica), "--no-services"]
            self._add(self._prefect(name, command), self._prefect_problem(name))
        command = [sys.executable, "-m", "prefect", "server", "services", "start"]
        # With TERM it drops its current work. It serves no requests.
        self._background = self._prefect("prefect-services", command, stop_signal="INT")
        self._add(self._background, lambda: "")
        self._add(self._balancer.program, self._prefect_problem("prefect"), self._prefect_user)
        addresses = client_environment(home, self.stack(""), passwords)
        environment = CLIENT_DEFAULTS | inherited_environment() | addresses
        environment["NIGHTSHIFT_BUCKET"] = settings.bucket
        environment["NIGHTSHIFT_EXPERIMENT"] = settings.experiment
        environment["NIGHTSHIFT_CHECKPOINT_SECONDS"] = str(settings.checkpoint_seconds)
        environment["NIGHTSHIFT_NOTIFICATION_BLOCK"] = settings.notification_block
        self._add_workers(environment)

    def _prefect(self, name: str, command: list[str], stop_signal: str = "TERM") -> Program:
        """Return a server with a shared database and a shared Redis.

        With its state in memory, each server would know only its own events, leases and messages.
        """
        folder = self._home / "prefect" / name.removeprefix("prefect-")
        folder.mkdir(parents=True, exist_ok=True)
        login = f"{PREFECT_USER}:{self._passwords.prefect}"
        database = self._postgres.url("prefect", "prefect", "asyncpg")
        environment = prefect_server_environment(folder, self._ports["prefect"], login) | {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
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
            environment[f"PREFECT_REDIS_{part}_PASSWORD"] = self._passwords.redis
        return Program(name=name, command=command, environment=environment, stop_signal=stop_signal)

    def _prefect_problem(self, name: str) -> partial[str]:
        return partial(prefect_problem, f"{self._url(name)}/api")

    def start_servers(self, console: Terminal, supervisor: Supervisor) -> None:
        """Start the data services, create their contents, then start the servers."""
        passwords, settings = self._passwords, self._settings
        with step(console, "preparation"):
            for part in (self._postgres, self._redis, self._balancer):
                part.prepare()
        start_and_wait(console, supervisor, self._data, self.health)
        with step(console, "databases"):
            self._postgres.make_role("prefect", passwords.prefect_database, ["prefect"])
            self._postgres.make_role("mlflow", passwords.mlflow_database, _MLFLOW_DATABASES)
            for bucket in (settings.bucket, _MLFLOW_BUCKET):
                self._store.store().make_bucket(bucket)
        # MLflow creates its tables itself; meanwhile Prefect's are created, once for all its servers.
        supervisor.start_program("mlflow")
        with step(console, "migration"):
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
            run_to_end("Migrating Prefect's database", command, self._background.environment)
        start_and_wait(console, supervisor, self.servers[len(self._data) :], self.health)
        with step(console, "accounts"):
            administrator = passwords.mlflow_admin
            accounts = MLflowAccounts(self.mlflow_url, MLFLOW_ADMINISTRATOR, administrator)
            password, experiment = passwords.mlflow_workers, settings.experiment
            accounts.make_worker(PREFECT_USER, password, experiment, MODEL)


def client_environment(home: Path, stack: Stack, passwords: Passwords) -> dict[str, str]:
    """Return the environment of a client: addresses, keys and passwords, including the workers' password in MLflow."""
    return stack.addresses(home) | {
        "PREFECT_API_AUTH_STRING": f"{PREFECT_USER}:{passwords.prefect}",
        "MLFLOW_TRACKING_USERNAME": PREFECT_USER,
        "MLFLOW_TRACKING_PASSWORD": passwords.mlflow_workers,
    }
