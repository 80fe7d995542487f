"""Safe conversion of names from the store or the registry to local paths inside a folder.

A manifest, a record or a listing may have been written by another worker, or by anyone who has its keys. No name in it
may lead out of the folder that the caller gives.
"""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from tasks.core.errors import StoreError

_LONGEST_PART_BYTES = 255  # of most file systems
_LONGEST_NAME_BYTES = 1_024  # of S3
_DO = "do not use it, and find out who wrote it: Nightshift never writes such names"


def local_path(name: str) -> Path:
    """Return the path that a user typed. A ~ without a known home folder is kept, so the path does not exist then."""
    return Path(os.path.expanduser(name))  # Path.expanduser would raise


def require_names(names: Iterable[str], where: str) -> None:
    """Check that all names of a folder's files stay inside it and do not hide each other.

    Args:
        names: relative, with `/` between folders.
        where: the record that lists them, for the message.
    Raises:
        StoreError: a name is absolute, empty, too long, or has `.`, `..`, a backslash or a control character; or two
            names are the same file on some file system; or one is a folder of another.
    """
    files: set[str] = set()
    folders: set[str] = set()
    for name in names:
        if problem := _problem(name):
            raise StoreError(f"The file name {name!r} {problem}", where, _DO)
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in files:
            raise StoreError(f"The file name {name!r} occurs twice", where, _DO)
        files.add(folded)
        parts = folded.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if both := sorted(files & folders):
        raise StoreError(f"{both[0]!r} is both a file and a folder", where, _DO)


def path_below(folder: Path, name: str, where: str) -> Path:
    """Return the local path of a name below a folder. Creates the path's parent folders.

    Args:
        folder: exists or can be made.
        name: see `require_names`.
        where: the record that names it, for the message.
    Raises:
        StoreError: it would lead out of the folder, possibly by an existing link.
    """
    require_names([name], where)
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    inside = folder.resolve()
    for parent in reversed(path.relative_to(folder).parents):
        step = folder / parent
        if not step.resolve().is_relative_to(inside):
            raise StoreError(f"A link in {folder} leads out of it: {step}", where, _DO)
        if step.exists() and not step.is_dir():
            raise StoreError(f"A file is in the way of a folder: {step}", where, _DO)
        step.mkdir(exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise StoreError(f"Not a regular file: {path}", where, _DO)
    return path


def _problem(name: str) -> str:
    """Return the reason why a name must not become a path, or '' if it may."""
    parts = name.split("/")
    if not name or "" in parts:
        return "is empty or absolute, or has an empty part"
    if "." in parts or ".." in parts:
        return "leads out of its folder"
    if "\\" in name:
        return "has a backslash"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in name):
        return "has a control character"
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        return "is too long"
    if any(len(part.encode()) > _LONGEST_PART_BYTES for part in parts):
        return "is too long"
    return ""
