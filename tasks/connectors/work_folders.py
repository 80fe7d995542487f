"""Temporary folders named after their owning process, so that those of a killed process can be found and removed."""

import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tasks.connectors.private_files import is_private
from tasks.connectors.servers.processes import is_gone, this_process

_PREFIX = "nightshift~"
# Earlier versions built engines in folders without an owner. No build takes longer than half an hour.
_UNNAMED = "nightshift-engine-*"
_UNNAMED_SECONDS = 86_400.0


@contextmanager
def owned_folder(name: str) -> Generator[Path]:
    """Make a temporary folder of this process that is always removed afterwards."""
    owner = this_process().replace(":", "~")
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{owner}~{name}~") as folder:
        yield Path(folder)


def remove_left_folders() -> list[str]:
    """Remove this user's folders whose process was killed before it could remove them. Returns their names."""
    temporary = Path(tempfile.gettempdir())
    leftovers = [folder for folder in temporary.glob(f"{_PREFIX}*") if is_gone(_owner(folder.name))]
    leftovers += [folder for folder in temporary.glob(_UNNAMED) if _is_old(folder)]
    removed: list[str] = []
    for folder in filter(is_private, leftovers):
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder.name)
    return removed


def _owner(name: str) -> str:
    return ":".join(name.removeprefix(_PREFIX).split("~")[:3])


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.lstat().st_mtime > _UNNAMED_SECONDS
    except FileNotFoundError:  # removed by another process
        return False
