"""Leftovers of killed processes: an object store that still holds its folder, and dead sockets in /tmp."""

import contextlib
import logging
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tasks.connectors.private_files import is_ours, is_private
from tasks.core.errors import ServiceError

logger = logging.getLogger(__name__)

GUARDIAN = "tasks.connectors.servers.child_process"
# SeaweedFS always puts its gRPC sockets there and ignores TMPDIR.
SEAWEEDFS_SOCKETS = Path("/tmp")
_SUPERVISOR = "supervisor.supervisord"
_SETTLED_SECONDS = 600.0
_EMPTY_SECONDS = 864_000.0


def end_left_server(data: Path) -> None:
    """Kill the SeaweedFS that a killed process of this user left running on a data folder.

    Raises:
        ServiceError: the process that started it is still alive, or it does not end.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # gone, or not ours
            if _serves(process, data):
                if keeper := _keeper(process):
                    raise ServiceError(
                        f"SeaweedFS, process {process.pid}, serves this folder for process {keeper.pid}"
                        f" ({keeper.name()})",
                        str(data),
                        f"end process {keeper.pid} (`make down` if it is supervisord), or set NIGHTSHIFT_HOME to"
                        " another folder",
                    )
                process.kill()
                _wait_for_end(process, data)
                logger.warning(
                    "Killed SeaweedFS (process %d), which a killed process had left running on %s",
                    process.pid,
                    data,
                )


def _wait_for_end(process: psutil.Process, data: Path) -> None:
    try:
        process.wait(10)
    except psutil.TimeoutExpired as error:
        raise ServiceError(
            f"SeaweedFS, process {process.pid}, was killed and has not ended after 10 s",
            str(data),
            "it may be waiting for its disk: try again later, or set NIGHTSHIFT_HOME to another folder",
        ) from error


def _serves(process: psutil.Process, data: Path) -> bool:
    if process.uids().effective != os.geteuid():
        return False
    words = process.cmdline()
    folders = [word.removeprefix("-dir=") for word in words if word.startswith("-dir=")]
    if not folders or Path(words[0]).name != "weed":
        return False
    return (Path(process.cwd()) / folders[-1]).resolve() == data.resolve()


def _keeper(process: psutil.Process) -> psutil.Process | None:
    """Return the process that still needs the server; None if it is gone and another, such as init, is the parent."""
    parent = process.parent()
    if parent is None:
        return None
    words = parent.cmdline()
    if GUARDIAN in words:
        noted = words[words.index(GUARDIAN) + 2]
        return psutil.Process(parent.ppid()) if str(parent.ppid()) == noted else None
    started_here = any(word.startswith("-filer.localSocket=") for word in process.cmdline())
    return None if started_here and _SUPERVISOR not in words else parent


def remove_dead_sockets() -> list[str]:
    """Remove this user's sockets that nobody listens on. Returns their paths.

    Only sockets at least ten minutes old are removed: a server may be starting. Their folders stay for ten days, as a
    server that is restarted by its supervisor needs its own.
    """
    removed = [path for path in SEAWEEDFS_SOCKETS.glob("seaweedfs-*-grpc-*.sock") if _is_dead(path)]
    for folder in _socket_folders():
        with contextlib.suppress(OSError):  # removed, or just taken into use, by another process
            content = list(folder.iterdir())
            dead = [path for path in content if _is_dead(path)]
            removed += dead
            if len(dead) + 1 == len(content) and (pid := folder / "supervisord.pid").is_file():
                removed.append(pid)
            if not content and _is_older(folder, _EMPTY_SECONDS):
                folder.rmdir()
    for path in removed:
        path.unlink(missing_ok=True)
    return [str(path) for path in removed]


def _socket_folders() -> Iterator[Path]:
    temporary, user = Path(tempfile.gettempdir()), os.geteuid()
    for pattern in (f"nightshift-{user}-*", f"weed-{user}-*"):  # weed-: from earlier versions
        yield from filter(is_private, temporary.glob(pattern))


def _is_older(path: Path, seconds: float) -> bool:
    return time.time() - path.lstat().st_mtime > seconds


def _is_dead(path: Path) -> bool:
    """True for a socket of this user that nobody listens on."""
    try:
        is_socket = is_ours(path) and stat.S_ISSOCK(path.lstat().st_mode)
        if not is_socket or not _is_older(path, _SETTLED_SECONDS):
            return False
    except FileNotFoundError:  # removed by another process
        return False
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1)
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # busy, or its path is too long to ask
    return False
