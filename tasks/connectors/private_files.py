"""Files and folders that their owner alone can enter: this machine may have other users."""

import contextlib
import os
import stat
from collections.abc import Generator
from pathlib import Path

from tasks.core.errors import ServiceError

PRIVATE_UMASK = 0o077


@contextlib.contextmanager
def private_files() -> Generator[None]:
    """Everything that this process and its children make in the block is their owner's alone.

    The mask is of the whole process, other threads included; children that are started in the block keep it.
    """
    before = os.umask(PRIVATE_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def make_private(folder: Path, passable: bool = False) -> None:
    """Make a folder that its owner alone can enter; tighten one that is there.

    Args:
        folder: of this process's user.
        passable: other accounts may pass through it to folders of their own below, and see nothing of it: what lies
            directly in it is closed to them. It is passable in any case where a folder directly in it is.
    Raises:
        ServiceError: the folder is somebody else's, or cannot be made.
    """
    try:
        with private_files():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(
            f"Cannot make the folder: {error.strerror}", str(folder), "set NIGHTSHIFT_HOME"
        ) from error
    if folder.stat().st_uid != os.geteuid():
        raise ServiceError(
            "The folder is somebody else's, who could read and change what is kept in it",
            str(folder),
            "set NIGHTSHIFT_HOME to a folder of your own, or make it yours (chown)",
        )
    inner = list(folder.iterdir())
    if not passable and not any(map(_is_passable, inner)):
        folder.chmod(0o700)
        return
    for path in inner:
        found = path.lstat()
        if found.st_uid == os.geteuid() and not path.is_symlink() and not _is_passable(path):
            path.chmod(found.st_mode & 0o700)
    folder.chmod(0o711)


def _is_passable(path: Path) -> bool:
    """True for a folder that others may pass through and not look into."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_mode & 0o077 == 0o011


def write_privately(path: Path, text: str) -> None:
    """Write a file that its owner alone can read; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    part.replace(path)
