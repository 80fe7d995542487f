"""Keep programs running in the background with supervisord (http://supervisord.org).

supervisord restarts a program that dies, rotates its log, and stops it with all its children. If supervisord itself is
killed, the processes it leaves behind are found by a mark in their environment, which children inherit.
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from tasks.connectors.private_files import (
    is_private,
    private_folder,
    temporary_folder,
    write_private,
)
from tasks.connectors.servers.processes import this_process
from tasks.core.errors import ServiceError
from tasks.core.records import Record

_MARK = "STACK_OF_NIGHTSHIFT"  # not a setting; settings begin with NIGHTSHIFT_
_FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # workers set it in the processes of flow runs


class Program(Record):
    """A program to keep running. An empty `directory` means the working folder of this process."""

    name: str
    command: list[str]
    environment: dict[str, str]
    directory: str = ""
    stop_signal: str = "TERM"
    stop_seconds: int = 20


class ProgramState(Record):
    """The state of a program, as supervisord reports it."""

    name: str
    state: str
    pid: int
    seconds: int
    description: str


class Supervisor:
    """Starts, asks and stops the supervisord of one folder.

    Commands and environments, which contain keys, are passed in files that only their owner can read: the syntax of
    supervisord's configuration cannot represent every value. `shutdown` removes the files.

    Args:
        folder: folder of the configuration and of all logs.
        mark: value of the mark in the environment of the programs.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self._mark = folder, mark
        self.logs = folder / "logs"
        # The path of a socket is limited to about a hundred characters, and `folder` may be longer.
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self._socket_folder = temporary_folder(name)
        self._socket = self._socket_folder / "supervisor.sock"

    def start(self, programs: Sequence[Program], timeout_seconds: float = 20.0) -> str:
        """Start supervisord but none of the programs. Returns its identity, for `processes.is_gone`.

        Raises:
            ServiceError: it does not start in time.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        private_folder(
            self._socket_folder
        )  # on a shared machine another user could have created it first
        path = self.folder / "supervisord.conf"
        write_private(path, self._configuration(programs))
        for program in programs:
            environment = program.environment | {_MARK: self._mark}
            launch = program.model_dump(include={"command", "directory"})
            content = json.dumps(launch | {"environment": environment})
            write_private(self._launch_file(program.name), content)
        inherited = {
            k: os.environ[k] for k in ("PATH", "HOME", "LANG", "TMPDIR") if k in os.environ
        }
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)],
            env=inherited | {_MARK: self._mark},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        deadline = time.monotonic() + timeout_seconds
        while not (process := self._process()):
            if started.returncode or time.monotonic() > deadline:
                last_lines = (started.stderr or started.stdout).strip().splitlines()[-2:]
                raise ServiceError(
                    f"supervisord does not start: {' / '.join(last_lines)}",
                    str(path),
                    "read its log",
                )
            time.sleep(0.05)
        return this_process(process)

    def _launch_file(self, name: str) -> Path:
        return self.folder / "programs" / f"{name}.json"

    def start_program(self, name: str) -> None:
        """Start one program; its health is checked separately."""
        self._call("startProcess", name, False)

    def stop_program(self, name: str) -> None:
        """Stop one program with all its children, and wait until it is gone."""
        self._call("stopProcess", name, True)

    def states(self) -> list[ProgramState]:
        """Return the states of all programs; none if supervisord is not running."""
        infos: list[dict[str, Any]] = self._call("getAllProcessInfo") or []
        return [
            ProgramState(
                name=p["name"],
                state=p["statename"],
                pid=p["pid"],
                seconds=p["now"] - p["start"] if p["statename"] == "RUNNING" else 0,
                description=p["spawnerr"] or p["description"],
            )
            for p in infos
        ]

    def state(self, name: str) -> ProgramState:
        """Return the state of one program. Raises ServiceError if supervisord is not running."""
        for state in self.states():
            if state.name == name:
                return state
        raise ServiceError("supervisord has stopped", name, f"see its log in {self.logs.parent}")

    def pid_of(self, name: str) -> Callable[[], int]:
        """Return a function that returns a program's process ID, which changes with every restart."""
        return lambda: self.state(name).pid

    def require_alive(self, name: str) -> None:
        """Raise ServiceError, with the end of the log, if a program does not run and is not starting."""
        state = self.state(name)
        if state.state in ("FATAL", "BACKOFF", "EXITED"):
            log = self.log(name)
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ServiceError(
                f"{name} does not stay up: {' / '.join(tail) or state.description}",
                str(log),
                "read the log",
            )

    def log(self, name: str) -> Path:
        """Return the path of a program's log."""
        return self.logs / f"{name}.log"

    def end_flow_runs(self, timeout_seconds: float = 20.0) -> None:
        """Ask the processes of flow runs to end, and wait for them.

        Do this before stopping a worker, which kills its flow runs at once. A killed run looks as if the object it was
        scoring had crashed it (tasks/scoring/store/in_work.py).
        """
        runs = [p for p in psutil.process_iter() if self._is_marked(p, _FLOW_RUN)]
        for process in runs:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                process.terminate()
        psutil.wait_procs(runs, timeout_seconds)

    def shutdown(self, timeout_seconds: float = 180.0) -> None:
        """Stop all programs and supervisord itself, and kill what remains of them."""
        process = self._process()
        self._call("shutdown")
        if process:
            psutil.wait_procs([process], timeout_seconds)
        self.sweep()
        shutil.rmtree(self.folder / "programs", ignore_errors=True)
        for leftover in (self._socket, self._socket_folder / "supervisord.pid"):
            leftover.unlink(missing_ok=True)

    def sweep(self) -> list[str]:
        """Kill processes that outlived their supervisord or program. Returns their names."""
        leftovers = [p for p in psutil.process_iter() if self._is_marked(p)]
        names: list[str] = []
        for process in leftovers:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                names.append(process.name())
                process.kill()
        psutil.wait_procs(leftovers, 10)
        return names

    def _is_marked(self, process: psutil.Process, variable: str = "") -> bool:
        """True if a process belongs to these programs and, if given, has `variable` in its environment."""
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            return False  # another user's process
        ours = process.pid != os.getpid() and environment.get(_MARK, "") == self._mark
        return ours and (not variable or variable in environment)

    def _process(self) -> psutil.Process | None:
        pid = self._call("getPID")
        return psutil.Process(pid) if pid else None

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call a method of supervisord. Returns None if it is not running."""
        if not is_private(self._socket_folder):
            return None  # another user's program listens there
        transport: Any = SupervisorTransport(None, None, f"unix://{self._socket}")
        proxy: Any = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultString.startswith(("NOT_RUNNING", "ALREADY_STARTED", "SHUTDOWN_STATE")):
                return None
            raise ServiceError(f"supervisord: {fault.faultString}", str(self.folder)) from fault
        except OSError:
            return None
        finally:
            transport.close()

    def _configuration(self, programs: Sequence[Program]) -> str:
        lines = [
            "[unix_http_server]",
            f"file={_escaped(str(self._socket))}",
            "chmod=0700",
            "[supervisord]",
            "umask=077",  # also applies to the programs' files
            f"logfile={_escaped(str(self.folder / 'supervisord.log'))}",
            f"pidfile={_escaped(str(self._socket_folder / 'supervisord.pid'))}",
            "identifier=nightshift",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for number, program in enumerate(programs):
            launch = [
                sys.executable,
                "-m",
                "deployments.stack.launch",
                str(self._launch_file(program.name)),
            ]
            lines += [
                f"[program:{program.name}]",
                f"command={_escaped(shlex.join(launch))}",
                f"directory={_escaped(str(Path.cwd()))}",
                f"priority={number}",  # `shutdown` stops one after another, the highest first
                "autostart=false",
                "autorestart=true",
                "startsecs=3",
                "startretries=3",
                f"stopsignal={program.stop_signal}",
                f"stopwaitsecs={program.stop_seconds}",
                "stopasgroup=true",
                "killasgroup=true",
                "redirect_stderr=true",
                # supervisor expands this value twice
                f"stdout_logfile={_escaped(_escaped(str(self.log(program.name))))}",
                "stdout_logfile_maxbytes=10MB",
                "stdout_logfile_backups=3",
            ]
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
