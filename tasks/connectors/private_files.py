"""Files and folders that their owner alone can open, and the check that one in a shared place is really ours.

Anybody may make a folder in /tmp first, under a name that can be guessed: what is put into it would be theirs.
"""

import os
import stat
import tempfile
from pathlib import Path

from tasks.core.errors import ServiceError


def write_private(path: Path, content: bytes) -> None:
    """Write a file with mode 0600; whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
    part.replace(path)


def temporary_folder(name: str) -> Path:
    """Path of a folder of this user in the folder for temporary files, the same in every process. It is not made."""
    return Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}-{name}"


def private_folder(path: Path) -> Path:
    """Make a folder with mode 0700, or take the one that is there; returns its path.

    Raises:
        ServiceError: what is there is a link or a file, belongs to somebody else, or is open to others.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not is_private(path):
            raise ServiceError(
                f"It {_fault(path)}, so sockets and locks in it are not safe",
                str(path),
                "remove it, or set TMPDIR to a folder of yours",
            ) from None
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
    if found.st_uid != os.getuid():
        return "belongs to somebody else"
    return "is open to others" if found.st_mode & 0o077 else ""


def is_ours(path: Path) -> bool:
    """True for something that is there and belongs to this user; of a link, the link itself counts."""
    try:
        return path.lstat().st_uid == os.getuid()
    except FileNotFoundError:
        return False
