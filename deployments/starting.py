"""Starting programs in turn, whichever stack they belong to: steps that are shown, ports that stay, waits that end."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from deployments.supervision import Supervisor
from tasks.connectors.local_servers import require_free_port
from tasks.connectors.seaweedfs import free_ports
from tasks.core.errors import ServiceError

_STARTING_SECONDS = 180.0


@contextlib.contextmanager
def step(console: Console, name: str) -> Generator[None]:
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
    """Return once a program has no problem.

    Raises:
        ServiceError: it does not stay up, or still has one when the time is over.
    """
    deadline = time.monotonic() + timeout_seconds
    while last := problem():
        supervisor.require_alive(name)
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{name} is not ready after {timeout_seconds:.0f} s; at last: {last}",
                str(supervisor.log(name)),
                "read the log",
            )
        time.sleep(0.2)


def run_to_end(
    what: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Run a command that ends by itself.

    Raises:
        ServiceError: it ends with an error; with what it said last.
    """
    done = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise ServiceError(f"{what} failed: {said}", command[0])


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
    last = int(kept.read_text()) if kept.is_file() else usual
    try:
        require_free_port(last, "")
    except ServiceError:
        last = free_ports(1)[0]
    kept.write_text(str(last))
    return last
