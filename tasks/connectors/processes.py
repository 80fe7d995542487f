"""Who owns something that a killed process leaves behind, and whether that process still lives."""

import socket

import psutil


def this_process(process: psutil.Process | None = None) -> str:
    """This process (or another) as host:pid:start time; the start time tells it from a later one of that number."""
    process = process or psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.0f}"


def is_gone(owner: str) -> bool:
    """True when `owner` names a process of this machine that has ended; of other machines nothing is known."""
    host, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" != started
    except psutil.NoSuchProcess:
        return True
