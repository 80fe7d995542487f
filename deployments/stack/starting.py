"""Shared by `make up` and `make up-ha`: commands, starting programs in order, showing steps, waiting with a timeout."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from deployments.stack.supervision import Program, ProgramState, Supervisor
from tasks.core.errors import NightshiftError, ServiceError
from tasks.runtime.reporting.silence import still_doing
from tasks.runtime.reporting.terminal import Terminal, print_whatever_comes
from tasks.runtime.settings import go_past_proxies_to_loopback

_STARTING_SECONDS = 180.0


def run_command(
    description: str,
    commands: Mapping[str, Callable[[Terminal, list[str]], int]],
    arguments: list[str] | None,
) -> int:
    """Run the command that the first argument names, or print the help; return the exit status.

    Errors are printed as one sentence.
    """
    print_whatever_comes()
    go_past_proxies_to_loopback()
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["help"]
    console, errors = Terminal(), Terminal(stderr=True)
    if command not in commands:
        console.print(description.strip())
        return 0 if command == "help" else 2
    signal.signal(signal.SIGTERM, _interrupted)  # undo what was started, as after Ctrl+C
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
def step(console: Terminal, name: str) -> Generator[None]:
    """Show that a step is running, and afterwards how long it took."""
    started = time.perf_counter()
    with waiting(console, f"waiting for {name}"):
        yield
    console.print(f"  {name:<16} ready   {time.perf_counter() - started:5.1f} s")


def waiting(console: Terminal, doing: str) -> contextlib.AbstractContextManager[Any]:
    """Show a spinner on a terminal, and elsewhere, such as in a log, a line every 30 seconds."""
    if console.is_terminal:
        return console.status(f"{doing} ...")
    return still_doing(doing, console.print)


def start_and_wait(
    console: Terminal,
    supervisor: Supervisor,
    programs: Sequence[Program | ProgramState],
    health: Mapping[str, Callable[[], str]],
) -> None:
    """Start the programs that do not run; return once all are healthy and have stayed up for some seconds.

    Raises:
        ServiceError: one does not stay up, or is still unhealthy at the timeout.
    """
    for program in programs:
        supervisor.start_program(program.name)
    for program in programs:
        with step(console, program.name):
            _wait_until(health.get(program.name, lambda: ""), supervisor, program.name)


def _wait_until(problem: Callable[[], str], supervisor: Supervisor, name: str) -> None:
    deadline = time.monotonic() + _STARTING_SECONDS
    while last := problem() or _not_running(supervisor, name):
        supervisor.require_alive(name)
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{name} is not ready after {_STARTING_SECONDS:.0f} s; last problem: {last}",
                str(supervisor.log(name)),
                "read the log",
            )
        time.sleep(0.2)


def _not_running(supervisor: Supervisor, name: str) -> str:
    state = supervisor.state(name).state
    return "" if state == "RUNNING" else f"it is {state.lower()}"


def run_to_end(
    what: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None
) -> str:
    """Run a command that ends by itself; return its output.

    Raises:
        ServiceError: it ends with an error; contains the end of its output.
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
        output = (done.stderr or done.stdout).strip()[-1500:]
        raise ServiceError(f"{what} failed: {output}", command[0])
    return done.stdout


def register_deployments(console: Terminal, environment: Mapping[str, str]) -> None:
    """Register deployments, pools, limits and automations from the files.

    Runs in a process of its own, because Prefect reads its settings when it is first imported.

    Raises:
        ServiceError: the server refuses.
    """
    command = [sys.executable, "-m", "deployments.apply"]
    output = run_to_end("Registering the deployments", command, environment)
    for line in output.splitlines():
        if line.startswith("WARNING"):
            console.print(f"  {line}", style="yellow", soft_wrap=True)


@contextlib.contextmanager
def environment_of(variables: Mapping[str, str]) -> Generator[None]:
    """Set variables of this process within the block, so that clients find the servers and their passwords."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
