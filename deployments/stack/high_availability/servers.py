"""Run PostgreSQL, Redis and nginx: on loopback, in separate folders, the databases with passwords."""

import contextlib
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.stack.high_availability.debian import DebianProgram, postgres_versions, program
from deployments.stack.starting import run_to_end
from tasks.connectors.servers.seaweedfs import HOST
from tasks.core.errors import ServiceError

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

ANSWERED_BY = "X-Nightshift-Answered-By"  # header with the address of the server that answered
_SUPERUSER = "nightshift"
_REDIS = """\
bind {host}
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
save ""
maxmemory-policy noeviction
"""
_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_tokens off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;

    # Events, logs and workers come by websocket; what asks for no upgrade gets a connection of its own.
    map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}

    upstream replicas {{ {servers} }}
    server {{
        listen {host}:{port};
        client_max_body_size 64m;
        add_header {answered_by} $upstream_addr always;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_connect_timeout 2s;
        proxy_read_timeout 120s; # a quiet websocket is pinged every 20 s
        proxy_next_upstream_tries {count};
        proxy_next_upstream error timeout http_502 http_503;

        # A change that a replica may have made before it died is not made again by the other: who asked for it gets a
        # 502. Prefect's clients then repeat it, and the server knows again those that must not happen twice.
        location / {{ proxy_pass http://replicas; }}
        # Prefect's questions are posted too, and do no harm when they are asked twice.
        location ~ /(filter|count|history|lateness|paginate)$ {{
            proxy_pass http://replicas;
            proxy_next_upstream error timeout http_502 http_503 non_idempotent;
        }}
    }}
}}
"""


class Postgres(DebianProgram):
    """A PostgreSQL cluster that accepts only TCP connections with a password.

    `password` is that of its superuser, which only creates roles and databases.

    Raises:
        ServiceError: no installed version can read the cluster, or the account does not exist.
    """

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self._port, self._password, self._data = port, password, folder / "data"
        self._programs = _programs_for(self._data)
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        command += ["-c", f"listen_addresses={HOST}", "-c", f"port={port}"]
        command += ["-c", "unix_socket_directories="]  # a socket's path can be too long
        # INT closes connections and flushes; with TERM it waits for clients.
        super().__init__("postgres", "postgres", folder, command, {}, "INT", stop_seconds=60)

    def prepare(self) -> None:
        """Create the cluster if there is none.

        Raises:
            ServiceError: PostgreSQL cannot create it.
        """
        super().prepare()
        if self._data.exists():
            return
        part = self._folder / "data.part"
        shutil.rmtree(part, ignore_errors=True)  # left incomplete by a run that was killed
        file = self.write("superuser", self._password)
        command = [f"{self._programs}/initdb", "-D", str(part), f"--username={_SUPERUSER}"]
        command += [f"--pwfile={file}", "--auth=scram-sha-256", "--encoding=UTF8"]
        command = self.as_account([*command, "--locale=C.UTF-8", "--data-checksums"])
        try:
            what = "Creating the PostgreSQL cluster"
            run_to_end(what, command, self.program.environment, self._folder)
        finally:
            file.unlink(missing_ok=True)
        part.rename(self._data)

    def url(self, database: str, role: str, driver: str = "") -> str:
        """Return a URL for SQLAlchemy, without the password: drivers take it from PGPASSWORD."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{role}@{HOST}:{self._port}/{database}"

    def problem(self) -> str:
        """Return why it answers no query; '' if it does."""
        import psycopg2

        try:
            with self._cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.OperationalError as error:
            return str(error).strip()
        return ""

    def make_role(self, name: str, password: str, databases: Sequence[str]) -> None:
        """Create a role that owns its databases, which no other role may enter.

        An existing role has its password set again.
        """
        from psycopg2.extensions import encrypt_password
        from psycopg2.sql import SQL, Identifier, Literal

        role = Identifier(name)
        with self._cursor() as cursor:
            # Hash the password here: the server logs failed statements verbatim.
            hashed = encrypt_password(password, name, cursor.connection, "scram-sha-256")
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
            verb = SQL("ALTER" if cursor.fetchone() else "CREATE")
            cursor.execute(SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, role, Literal(hashed)))
            for database in databases:
                identifier = Identifier(database)
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
                if not cursor.fetchone():
                    cursor.execute(SQL("CREATE DATABASE {} OWNER {}").format(identifier, role))
                cursor.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(identifier))

    @contextlib.contextmanager
    def _cursor(self) -> "Generator[Cursor]":
        import psycopg2

        url = self.url("postgres", _SUPERUSER)
        connection = psycopg2.connect(url, password=self._password, connect_timeout=3)
        with contextlib.closing(connection):
            connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
            with connection.cursor() as cursor:
                yield cursor


def _programs_for(data: Path) -> Path:
    """Return the programs of the version that created the cluster, or of the newest version for a new one."""
    installed, version_file = postgres_versions(), data / "PG_VERSION"
    if not version_file.is_file():
        return installed[max(installed)]
    version = int(version_file.read_text(encoding="utf-8"))
    if version not in installed:
        raise ServiceError(
            f"The databases were created by PostgreSQL {version}, which is not installed",
            str(data),
            f"apt-get install --yes postgresql-{version}, or upgrade them with pg_upgrade",
        )
    return installed[version]


class Redis(DebianProgram):
    """A persistent Redis: events that no server has processed yet survive a restart."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self._port, self._password = port, password
        command = [program("redis-server"), str(folder / "redis.conf")]
        text = _REDIS.format(host=HOST, port=port, password=password, folder=folder)
        super().__init__("redis", "redis", folder, command, {"redis.conf": text})

    def url(self, database: int) -> str:
        """Return the URL with the password, which some clients require: for environments, not for logs."""
        return f"redis://default:{self._password}@{HOST}:{self._port}/{database}"

    def problem(self) -> str:
        """Return why it does not answer; '' if it does."""
        import redis

        try:
            with redis.Redis(HOST, self._port, password=self._password, socket_timeout=2) as client:
                client.ping()
        except redis.RedisError as error:
            return str(error)
        return ""


def load_balancer(folder: Path, port: int, replicas: Sequence[int]) -> DebianProgram:
    """Return nginx in front of the Prefect servers on the ports `replicas`, for clients under the name "prefect".

    Raises:
        ServiceError: its account does not exist.
    """
    configuration = _NGINX.format(
        folder=folder,
        servers=" ".join(f"server {HOST}:{p} max_fails=1 fail_timeout=5s;" for p in replicas),
        host=HOST,
        port=port,
        count=len(replicas),
        answered_by=ANSWERED_BY,
    )
    command = [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", f"{folder}/nginx.conf"]
    return DebianProgram("prefect", "www-data", folder, command, {"nginx.conf": configuration})
