"""What is attacked: the servers of `make up`, of `make up-ha` and of a flow, run from the code of any commit.

Nothing here imports the code that is attacked: addresses and passwords are asked of its own commands, ports and sockets
of the system, so that the same attack meets the code of today and of any commit before.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from tasks.connectors.servers.seaweedfs import free_ports
from tasks.core.records import Record
from tests.commits import module_in

_FOREIGN_SETTINGS = ("AWS_", "MLFLOW_", "PREFECT_", "NIGHTSHIFT_", "PYTHON")
_TELL = "import json, os; print(json.dumps(dict(os.environ)))"
_EMBEDDED = """
import importlib, json, os, sys
with importlib.import_module(sys.argv[1]).local_services():
    print(json.dumps(dict(os.environ)), flush=True)
    sys.stdin.read()
"""
_HOLDS_SECRETS = re.compile(
    r"credential|secret|password|security|auth|\.key$|\.conf$|\.ini$|\.json$"
)
_SECRET_VARIABLE = re.compile(r"SECRET_ACCESS_KEY|PASSWORD|AUTH_STRING|SECRET_KEY|TOKEN$")
_SECRET = re.compile(r"(?<![\w/.-])(?:[0-9a-f]{32,}|[A-Za-z0-9_-]{40,}=*)(?![\w/.-])")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s(.*?)-----END", re.DOTALL)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def environment_for(root: Path, home: Path, temporary: Path) -> dict[str, str]:
    """For a process that runs the code of `root` on free ports, and knows of no other server."""
    s3, prefect, mlflow = free_ports(3)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_SETTINGS)}
    return kept | {
        "NIGHTSHIFT_HOME": str(home),
        "NIGHTSHIFT_S3_PORT": str(s3),
        "NIGHTSHIFT_PREFECT_PORT": str(prefect),
        "NIGHTSHIFT_MLFLOW_PORT": str(mlflow),
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(root),
        "HF_HUB_OFFLINE": "1",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Port(Record):
    """A port that a subject listens on. `name`: of the program, with the port's flag where it has one."""

    host: str
    number: int
    name: str


# Name, module of the commands, and home below NIGHTSHIFT_HOME.
KINDS = {
    "embedded": ("the servers of a flow", "", ""),
    "up": ("make up", "deployments.stack.local", ""),
    "ha": ("make up-ha", "deployments.stack.high_availability.service", "ha"),
}


class Subject:
    """Servers in a temporary folder into which anybody may look, as far as they let him.

    Args:
        name: for the table.
        module: whose commands `up`, `down` and `run` there are; '' for the servers of a flow.
        below: where its home is, below the folder that NIGHTSHIFT_HOME names.
        root: folder of the code.
    """

    def __init__(self, name: str, module: str, below: str, root: Path) -> None:
        self.name, self._root = name, root
        self._module = module_in(root, module) if module else ""
        self.folder = Path(tempfile.mkdtemp(prefix="nightshift-attack-"))
        self.folder.chmod(0o755)
        self.public = self.folder / "public"
        self.temporary = self.folder / "tmp"
        for made in (self.public, self.temporary):
            made.mkdir()
            made.chmod(0o1777)
        self.top = self.folder / "home"
        self.home = self.top / below
        self._given = environment_for(root, self.top, self.temporary)
        self._given["OMP_NUM_THREADS"] = "1"
        self._host: subprocess.Popen[str] | None = None
        self.environment: dict[str, str] = {}
        self.command_lines = CommandLines()

    def __enter__(self) -> "Subject":
        self.command_lines.start()
        try:
            if self._module:
                self._command("up")
                self.environment = json.loads(self._command("run", sys.executable, "-c", _TELL))
            else:
                self._start_embedded()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._host:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._host.communicate(timeout=60)
            self._host.kill()
        elif self._module:
            with contextlib.suppress(RuntimeError):
                self._command("down")
        self.command_lines.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", self._module, *arguments],
            cwd=self._root,
            env=self._given,
            capture_output=True,
            text=True,
            check=False,
            umask=0o022,
        )
        if done.returncode:
            raise RuntimeError(f"{self._module} {arguments[0]}: {done.stdout}\n{done.stderr}")
        return done.stdout

    def _start_embedded(self) -> None:
        services = module_in(self._root, "tasks.runtime.local_services")
        self._host = subprocess.Popen(
            [sys.executable, "-c", _EMBEDDED, services],
            cwd=self._root,
            env=self._given,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            umask=0o022,
        )
        assert self._host.stdout
        lines = iter(self._host.stdout.readline, "")
        line = next((line for line in lines if line.startswith("{")), "")
        if not line:
            raise RuntimeError("the embedded servers did not start")
        self.environment = json.loads(line)

    def processes(self) -> list[psutil.Process]:
        """All that runs for it."""
        if self._host:
            host = psutil.Process(self._host.pid)
            return [host, *host.children(recursive=True)]
        marked = [p for p in psutil.process_iter() if str(self.home) in _marks(p)]
        # Redis writes its title over its environment.
        return list({*marked, *(child for p in marked for child in _children(p))})

    def ports(self) -> list[Port]:
        """Every port that one of its processes listens on."""
        found: dict[int, Port] = {}
        for process in self.processes():
            for c in _connections(process, "inet"):
                if c.status == psutil.CONN_LISTEN:
                    name = _name_of(process, c.laddr.port)
                    found[c.laddr.port] = Port(host=c.laddr.ip, number=c.laddr.port, name=name)
        return sorted(found.values(), key=lambda p: p.number)

    def sockets(self) -> list[str]:
        """Every Unix socket that has a name."""
        named = {str(c.laddr) for p in self.processes() for c in _connections(p, "unix") if c.laddr}
        return sorted(named)

    def paths(self, top: Path) -> list[str]:
        """A folder, and every file and folder below it."""
        return [str(path) for path in (top, *_below(top))]

    def secrets(self) -> set[str]:
        """Keys and passwords, out of its files and the environment of its clients."""
        found = {v for k, v in self.environment.items() if _SECRET_VARIABLE.search(k)}
        found |= {value.partition(":")[2] for value in found if ":" in value}
        for path in map(Path, [*self.paths(self.top), *self.paths(self.temporary)]):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                private = path.is_file() and path.stat().st_size < 64_000
                if private and _HOLDS_SECRETS.search(path.name):
                    found |= _secrets_of(path.read_text())
        return {secret for secret in found if len(secret) >= 16}


_MARKS = ("STACK_OF_NIGHTSHIFT", "NIGHTSHIFT_STACK")  # the second in commits before


def _secrets_of(text: str) -> set[str]:
    """Random-looking words and the lines of private keys; a certificate is public."""
    keys = {line for block in _PRIVATE_KEY.findall(text) for line in block.split()}
    return keys | set(_SECRET.findall(_CERTIFICATE.sub("", text)))


def _below(folder: Path) -> Iterator[Path]:
    """All that is below a folder; what vanishes meanwhile does not matter."""
    for top, folders, files in os.walk(folder):
        yield from (Path(top, name) for name in [*folders, *files])


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _marks(process: psutil.Process) -> set[str]:
    given = _environment(process)
    return {given.get(name, "") for name in _MARKS}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _connections(process: psutil.Process, kind: str) -> Sequence[Any]:
    try:
        return process.net_connections(kind)
    except (psutil.Error, OSError):
        return []


def _name_of(process: psutil.Process, port: int) -> str:
    """The program, with the flag that gave it the port."""
    with contextlib.suppress(psutil.Error):
        line = process.cmdline()
        flag = next((re.split(r"[-=]", a, maxsplit=1) for a in line if a.endswith(f"={port}")), [])
        words = " ".join(line)
        programs = {"weed": "SeaweedFS", "nginx": "nginx", "postgres": "PostgreSQL"}
        programs |= {"redis-server": "Redis", "mlflow": "MLflow"}
        programs |= {"prefect server": "Prefect server", "prefect": "Prefect worker"}
        name = next((v for k, v in programs.items() if k in words), process.name())
        return f"{name} {flag[1].partition('=')[0]}" if flag else name
    return "a program that has ended"


class CommandLines:
    """Every command line that is seen on the machine while the subject lives."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to look, five times a second."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def holding(self, secrets: set[str]) -> list[str]:
        """Command lines with a secret in them, and without it."""
        lines = [line.replace(b"\0", b" ").decode("utf-8", "replace") for line in set(self._seen)]
        return [
            line.replace(secret, "<SECRET>")
            for line in lines
            for secret in secrets
            if secret in line
        ]

    def __len__(self) -> int:
        return len(self._seen)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    self._seen.add(Path("/proc", pid, "cmdline").read_bytes())
