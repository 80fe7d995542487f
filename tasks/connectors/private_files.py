"""Files and folders that their owner alone can open, and the check that one in a shared place is really ours.

This machine may have other users, and anybody may make a folder in /tmp first, under a name that can be guessed: what
is put into it would be theirs.
"""

import contextlib
import os
import stat
import tempfile
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


def require_ours(path: Path) -> None:
    """Do nothing where a path is this user's, or where nothing is.

    Raises:
        ServiceError: it is somebody else's, or cannot be looked at.
    """
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise ServiceError(
            f"Cannot look at it: {error.strerror}", str(path), "set NIGHTSHIFT_HOME"
        ) from error
    if owner != os.geteuid():
        raise ServiceError(
            "It is somebody else's, who could read and change what is kept in it",
            str(path),
            "set NIGHTSHIFT_HOME to a folder of your own, or make it yours (chown)",
        )


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
    require_ours(folder)
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


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file with mode 0600, and its folder where it is missing; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    data = content.encode() if isinstance(content, str) else content
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(data)
    part.replace(path)


def temporary_folder(name: str) -> Path:
    """Path of a folder of this user in the folder for temporary files, the same in every process. It is not made."""
    return Path(tempfile.gettempdir()) / f"nightshift-{os.geteuid()}-{name}"


def private_folder(path: Path) -> Path:
    """Make a folder with mode 0700, or take the one that is there; returns its path.

    Raises:
        ServiceError: what is there is a link or a file, belongs to somebody else, or is open to others; or it cannot be
            made.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if fault := _fault(path):
            # In /tmp nobody can remove what is somebody else's.
            removal = "remove it, or " if is_ours(path) else ""
            raise ServiceError(
                f"It {fault}, so sockets and locks in it are not safe",
                str(path),
                f"{removal}set TMPDIR to a folder of yours",
            ) from None
    except OSError as error:
        raise ServiceError(
            f"Cannot make the folder: {error.strerror}",
            str(path),
            "set TMPDIR to a folder that is there and that you can write to",
        ) from error
    return path


def is_private(path: Path) -> bool:
    """True for a folder of this user that nobody else can enter; false for a link to one, or where nothing is."""
    try:
        return not _fault(path)
    except FileNotFoundError:
        return False


def _fault(path: Path) -> str:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return "is no folder"
    if found.st_uid != os.geteuid():
        return "belongs to somebody else"
    return "is open to others" if found.st_mode & 0o077 else ""


def is_ours(path: Path) -> bool:
    """True for something that is there and belongs to this user; of a link, the link itself counts."""
    try:
        return path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False
