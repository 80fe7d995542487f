"""Temporary folders that name the process that owns them, so that those of a killed process can be told and removed."""

import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tasks.connectors.private_files import is_private
from tasks.connectors.servers.processes import is_gone, this_process

_PREFIX = "nightshift~"
# Made by earlier versions for the building of engines, without an owner; none is built for longer than half an hour.
_UNNAMED = "nightshift-engine-*"
_UNNAMED_SECONDS = 86_400.0


@contextmanager
def owned_folder(name: str) -> Generator[Path]:
    """A temporary folder of this process that is gone afterwards, whatever happens."""
    owner = this_process().replace(":", "~")
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{owner}~{name}~") as folder:
        yield Path(folder)


def remove_left_folders() -> list[str]:
    """Remove this user's folders whose process was killed before it could; returns their names."""
    place = Path(tempfile.gettempdir())
    left = [folder for folder in place.glob(f"{_PREFIX}*") if is_gone(_owner(folder.name))]
    left += [folder for folder in place.glob(_UNNAMED) if _is_old(folder)]
    removed: list[str] = []
    for folder in filter(is_private, left):
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder.name)
    return removed


def _owner(name: str) -> str:
    return ":".join(name.removeprefix(_PREFIX).split("~")[:3])


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.lstat().st_mtime > _UNNAMED_SECONDS
    except FileNotFoundError:  # another process tidies
        return False
