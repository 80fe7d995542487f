"""Files and folders that only their owner can open, and checks that a path in a shared place belongs to this user.

The machine may have other users. Any of them can create a folder in /tmp first, under a name that is easy to guess,
and would then own whatever is put into it.
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
    """Set the umask so that files made in the block, by this process or its children, are readable by the owner only.

    The mask applies to the whole process, including other threads. Children that are started in the block keep it.
    """
    before = os.umask(PRIVATE_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def require_ours(path: Path) -> None:
    """Check that a path belongs to this user or does not exist.

    Raises:
        ServiceError: it belongs to another user, or cannot be examined.
    """
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise ServiceError(
            f"Cannot examine the path: {error.strerror}", str(path), "set NIGHTSHIFT_HOME"
        ) from error
    if owner != os.geteuid():
        raise ServiceError(
            "It belongs to another user, who could read and change its contents",
            str(path),
            "set NIGHTSHIFT_HOME to a folder of your own, or take ownership of this one (chown)",
        )


def make_private(folder: Path, passable: bool = False) -> None:
    """Make a folder that only its owner can enter. An existing folder has its permissions tightened.

    Args:
        folder: belongs to this process's user.
        passable: let other accounts pass through to folders of their own below it, without listing it or opening
            what lies directly in it. A folder that directly contains a passable one, or one of another account, is
            passable in any case.
    Raises:
        ServiceError: the folder belongs to another user, or cannot be made.
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
    if not passable and not any(map(_others_pass_to, inner)):
        folder.chmod(0o700)
        return
    for path in inner:
        status = path.lstat()
        if status.st_uid == os.geteuid() and not path.is_symlink() and not _is_passable(path):
            path.chmod(status.st_mode & 0o700)
    folder.chmod(0o711)


def _others_pass_to(path: Path) -> bool:
    """True for a folder that other accounts keep data in or below."""
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and (status.st_uid != os.geteuid() or _is_passable(path))


def _is_passable(path: Path) -> bool:
    """True for a folder that others may pass through but not list."""
    status = path.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_mode & 0o077 == 0o011


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file atomically with mode 0600. Creates its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    data = content.encode() if isinstance(content, str) else content
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(data)
    part.replace(path)


def temporary_folder(name: str) -> Path:
    """Return the path of a per-user temporary folder, the same in every process. Does not create it."""
    return Path(tempfile.gettempdir()) / f"nightshift-{os.geteuid()}-{name}"


def private_folder(path: Path) -> Path:
    """Make a folder with mode 0700, or use the existing one. Returns its path.

    Raises:
        ServiceError: the path is a link or a file, belongs to another user, or is open to others; or the folder cannot
            be made.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if fault := _fault(path):
            # In /tmp, users cannot remove what belongs to others.
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
            "set TMPDIR to an existing folder that you can write to",
        ) from error
    return path


def is_private(path: Path) -> bool:
    """True for a folder of this user that nobody else can enter; False for a link to one, or if nothing is there."""
    try:
        return not _fault(path)
    except FileNotFoundError:
        return False


def _fault(path: Path) -> str:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return "is not a folder"
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    return "is open to others" if status.st_mode & 0o077 else ""


def is_ours(path: Path) -> bool:
    """True if the path exists and belongs to this user. For a link, the owner of the link itself counts."""
    try:
        return path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False
