"""Identifiers of processes, to record the owner of a resource and to check whether that process is still alive."""

import socket
from pathlib import Path

import psutil

_PROC = Path("/proc")


def this_process(process: psutil.Process | None = None) -> str:
    """Return this process (or another) as host:pid:start. The start tells it from a later process of the same id."""
    process = process or psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{_started(process)}"


def _started(process: psutil.Process) -> str:
    """Return the start time: ticks since boot plus boot id, immune to clock changes. Without /proc, by the clock."""
    try:
        # A program's name may contain any bytes.
        stat = (_PROC / str(process.pid) / "stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        return f"{fields[19]}.{boot}"
    except FileNotFoundError:
        return f"{process.create_time():.0f}"


def is_gone(owner: str) -> bool:
    """True if `owner` names a process of this machine that has ended; False for other machines (unknown)."""
    host, pid, started = _parts(owner)
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        return _started(process) != started or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def has_died_here(owner: str) -> bool:
    """True if a process of this machine has ended since the last boot, so that the machine itself kept running."""
    return is_gone(owner) and not _is_of_another_boot(_parts(owner)[2])


def _is_of_another_boot(started: str) -> bool:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        return started.rpartition(".")[2] != boot
    except FileNotFoundError:
        return not started.isdigit() or int(started) < psutil.boot_time()


def _parts(owner: str) -> tuple[str, str, str]:
    host, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    return host, pid, started
