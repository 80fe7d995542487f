"""What `make up` and `make up-ha` do alike: commands, programs started in turn, steps shown, waits that end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from rich.text import Text

from deployments.stack.supervision import Program, Supervisor
from tasks.connectors.private_files import private_files
from tasks.connectors.servers.local_servers import require_free_port
from tasks.connectors.servers.local_stack import Stack, record_of
from tasks.connectors.servers.seaweedfs import free_ports
from tasks.core.errors import NightshiftError, ServiceError
from tasks.runtime.local_services import ownership
from tasks.runtime.reporting.terminal import Terminal, print_whatever_comes
from tasks.runtime.settings import go_past_proxies_to_loopback

_STARTING_SECONDS = 180.0


class Services(Protocol):
    """The programs of one stack."""

    programs: list[Program]

    def stack(self, owner: str) -> Stack:
        """What others need to know."""
        ...


S = TypeVar("S", bound=Services)


def run_command(
    description: str,
    commands: Mapping[str, Callable[[Terminal, list[str]], int]],
    arguments: list[str] | None,
) -> int:
    """Do what the first argument says, or say what can be said; returns the exit status. Errors are one sentence."""
    print_whatever_comes()
    go_past_proxies_to_loopback()
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["help"]
    console, errors = Terminal(), Terminal(stderr=True)
    if command not in commands:
        console.print(description.strip())
        return 0 if command == "help" else 2
    signal.signal(signal.SIGTERM, _interrupted)  # what was begun is undone, as after Ctrl+C
    try:
        return commands[command](console, rest)
    except NightshiftError as error:
        errors.print_error(error)
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted")
        return 130


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


@contextlib.contextmanager
def starting(
    console: Terminal, home: Path, make_services: Callable[[], S], passable: bool = False
) -> Generator[tuple[Supervisor, S]]:
    """A supervisor, and the programs it is to run, of which others then know; undone where the block fails.

    Args:
        console: to say what is done.
        home: the folder of the stack, made private.
        make_services: called when the folder is this process's.
        passable: programs under other accounts keep data below the folder.
    Raises:
        ServiceError: another run uses the folder, or supervisord does not start.
    """
    started = time.perf_counter()
    with private_files(), ownership(home, passable), contextlib.ExitStack() as undo:
        supervisor = Supervisor(home / "stack", str(home))
        if left := supervisor.sweep():
            console.print(f"Removed what an earlier stack left running: {', '.join(left)}")
        services = make_services()
        undo.callback(supervisor.shutdown)
        owner = supervisor.start(services.programs)
        record_of(home).write_text(services.stack(owner).model_dump_json())
        undo.callback(record_of(home).unlink, missing_ok=True)
        yield supervisor, services
        undo.pop_all()
    seconds = time.perf_counter() - started
    console.print(Text.assemble(("Ready", "bold green"), f" after {seconds:.0f} s.\n"))


@contextlib.contextmanager
def step(console: Terminal, name: str) -> Generator[None]:
    """Show that something is under way, and afterwards how long it took."""
    started = time.perf_counter()
    with console.status(f"{name} ..."):
        yield
    console.print(f"  {name:<16} ready   {time.perf_counter() - started:5.1f} s")


def wait_until(
    problem: Callable[[], str],
    supervisor: Supervisor,
    name: str,
    timeout_seconds: float = _STARTING_SECONDS,
) -> None:
    """Return once a program has no problem and has stayed up for some seconds.

    Raises:
        ServiceError: it does not stay up, or still has one when the time is over.
    """
    deadline = time.monotonic() + timeout_seconds
    while last := problem() or _not_running(supervisor, name):
        supervisor.require_alive(name)
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{name} is not ready after {timeout_seconds:.0f} s; at last: {last}",
                str(supervisor.log(name)),
                "read the log",
            )
        time.sleep(0.2)


def _not_running(supervisor: Supervisor, name: str) -> str:
    state = supervisor.state(name).state
    return "" if state == "RUNNING" else f"it is {state.lower()}"


def start_the_rest(console: Terminal, supervisor: Supervisor) -> None:
    """Start what of a running stack does not run: it gave up, or its `up` was killed half-way.

    Raises:
        ServiceError: it does not stay up.
    """
    left = [state.name for state in supervisor.states() if state.state != "RUNNING"]
    for name in left:
        supervisor.start_program(name)
    for name in left:
        with step(console, name):
            wait_until(lambda: "", supervisor, name)


def run_to_end(
    what: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None
) -> str:
    """Run a command that ends by itself; returns what it said.

    Raises:
        ServiceError: it ends with an error; with what it said last.
    """
    done = subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise ServiceError(f"{what} failed: {said}", command[0])
    return done.stdout


def register_deployments(console: Terminal, environment: Mapping[str, str]) -> None:
    """Deployments, pools, limits and automations, as the files say. In a process of its own: Prefect reads its settings
    when it is first imported.

    Raises:
        ServiceError: the server refuses.
    """
    command = [sys.executable, "-m", "deployments.apply"]
    said = run_to_end("Registering the deployments", command, environment)
    for line in said.splitlines():
        if line.startswith("WARNING"):
            console.print(f"  {line}", style="yellow", soft_wrap=True)


@contextlib.contextmanager
def environment_of(given: Mapping[str, str]) -> Generator[None]:
    """Variables of this process for a while: what asks a server finds it, and its password, there."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def kept_port(folder: Path, service: str, wanted: int | None, usual: int) -> int:
    """The port that is asked for, or that of last time (people keep bookmarks), or the usual one, or any free one.

    Raises:
        ServiceError: the port that is asked for is taken.
    """
    if wanted is not None:
        require_free_port(wanted, f"NIGHTSHIFT_{service.upper()}_PORT")
        return wanted
    kept = folder / f"{service}.port"
    folder.mkdir(parents=True, exist_ok=True)
    last = int(kept.read_text(encoding="utf-8")) if kept.is_file() else usual
    try:
        require_free_port(last, "")
    except ServiceError:
        last = free_ports(1)[0]
    kept.write_text(str(last))
    return last
