"""A command in processes of its own, with limits of time and memory; how much memory each takes at most is watched."""

import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    text: str
    seconds: float
    peak_mib: int  # of the process that took most, in the course of its life (VmHWM)
    timed_out: bool


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    most_seconds: float,
    most_gib: float,
) -> Ended:
    """Run a command to its end, or to the limit of time.

    Args:
        command: program and arguments.
        environment: all of its environment.
        folder: it runs in.
        most_seconds: all of its processes are killed then.
        most_gib: of address space, for each of its processes.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        limit = int(most_gib * (1 << 30))
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
        peak, seen = 0, {process.pid}
        while process.poll() is None and time.perf_counter() - started < most_seconds:
            alive = _tree(process.pid)
            seen |= alive
            peak = max(peak, *map(_most_resident, alive))
            time.sleep(_POLL_SECONDS)
        timed_out = process.poll() is None
        _end(process, seen)
        seconds = time.perf_counter() - started
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    return Ended(process.returncode, text, seconds, peak >> 20, timed_out)


def _end(process: "subprocess.Popen[bytes]", seen: set[int]) -> None:
    """Kill what is left of it: its process group, and children that began a session of their own."""
    if process.poll() is None:
        for pid in _tree(process.pid) & seen - {process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tree(root: int) -> set[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, more = {root}, {root}
    while more:
        more = {pid for pid, parent in parents.items() if parent in more} - found
        found |= more
    return found


def _most_resident(pid: int) -> int:
    """The most bytes of memory that it has had so far, as the kernel remembers them (VmHWM); 0 where it has ended.

    What it takes between two looks is not missed, but for the last moment of its life.
    """
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0
