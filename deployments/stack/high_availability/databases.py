"""Run PostgreSQL and Redis: on loopback, with passwords, in separate folders."""

import contextlib
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.stack.high_availability.debian import (
    Account,
    plain_environment,
    postgres_versions,
    program,
)
from deployments.stack.starting import run_to_end
from deployments.stack.supervision import Program
from tasks.connectors.private_files import write_private
from tasks.connectors.servers.seaweedfs import HOST
from tasks.core.errors import ServiceError

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_SUPERUSER = "nightshift"


class Postgres:
    """A PostgreSQL cluster that accepts only TCP connections with a password.

    Args:
        folder: the folder of the cluster.
        port: the port on loopback.
        password: the password of its superuser, which only creates roles and databases.
    Raises:
        ServiceError: no installed version can read the cluster.
    """

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self._folder, self._port, self._password = folder, port, password
        self._account = Account("postgres")
        self.user_id = self._account.user_id
        self.data = folder / "data"
        self._programs = _programs_for(self.data)
        command = [*self._account.prefix("INT"), str(self._programs / "postgres")]
        command += ["-D", str(self.data), "-c", f"listen_addresses={HOST}", "-c", f"port={port}"]
        command += ["-c", "unix_socket_directories="]  # a socket's path can be too long
        self.program = Program(
            name="postgres",
            command=command,
            environment=plain_environment(),
            stop_signal="INT",  # closes connections and flushes; with TERM it waits for clients
            stop_seconds=60,
        )

    def prepare(self) -> None:
        """Create the cluster if there is none.

        Raises:
            ServiceError: PostgreSQL cannot create it.
        """
        self._account.folder(self._folder)
        if self.data.exists():
            return
        part = self._folder / "data.part"
        shutil.rmtree(part, ignore_errors=True)  # left incomplete by a run that was killed
        file = self._folder / "superuser"
        write_private(file, self._password)
        self._account.give(file)
        command = [*self._account.prefix("TERM"), str(self._programs / "initdb"), "-D", str(part)]
        command += [f"--username={_SUPERUSER}", f"--pwfile={file}", "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]
        try:
            run_to_end(
                "Creating the PostgreSQL cluster", command, plain_environment(), self._folder
            )
        finally:
            file.unlink(missing_ok=True)
        part.rename(self.data)

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
            scope = cursor.connection
            hashed = encrypt_password(password, name, scope=scope, algorithm="scram-sha-256")
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

        connection = psycopg2.connect(
            host=HOST,
            port=self._port,
            user=_SUPERUSER,
            password=self._password,
            dbname="postgres",
            connect_timeout=3,
        )
        try:
            connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


def _programs_for(data: Path) -> Path:
    """Return the programs of the version that created the cluster, or of the newest version for a new one."""
    installed = postgres_versions()
    version_file = data / "PG_VERSION"
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


class Redis:
    """A persistent Redis: events that no server has processed yet survive a restart."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self._folder, self._port, self._password = folder, port, password
        self._account = Account("redis")
        self.user_id = self._account.user_id
        self._configuration = folder / "redis.conf"
        command = [*self._account.prefix("TERM"), program("redis-server")]
        self.program = Program(
            name="redis",
            command=[*command, str(self._configuration)],
            environment=plain_environment(),
        )

    def prepare(self) -> None:
        """Write its configuration, which contains the password."""
        self._account.folder(self._folder)
        lines = [
            f"bind {HOST}",
            f"port {self._port}",
            f"requirepass {self._password}",
            f'dir "{self._folder}"',
            "appendonly yes",
            'save ""',
            "maxmemory-policy noeviction",
        ]
        write_private(self._configuration, "\n".join(lines) + "\n")
        self._account.give(self._configuration)

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
