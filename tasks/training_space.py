"""Where a training keeps its checkpoints, and whether the disk has room for them."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from tasks.connect import prepared_store
from tasks.connectors.checkpoints import CheckpointStore
from tasks.connectors.prepared import free_bytes
from tasks.core.errors import DiskFullError
from tasks.settings import read_settings
from tasks.steps import work_folder


@contextlib.contextmanager
def kept_checkpoints(digest: str) -> Generator[CheckpointStore]:
    """The checkpoints of the training of a digest; leaving it waits for what is being uploaded.

    Args:
        digest: of everything the training depends on.
    """
    every_seconds = read_settings().checkpoint_seconds
    with (
        work_folder("checkpoints") as copies,
        CheckpointStore(prepared_store(), digest, copies, every_seconds) as keeper,
    ):
        yield keeper


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises DiskFullError when a folder's disk has less room than that."""
    free = free_bytes(folder)
    if free < needed_bytes:
        raise DiskFullError(
            f"{free / 1e9:.1f} GB are free, and training needs {needed_bytes / 1e9:.1f} GB for checkpoints",
            str(folder),
            "free some space, or set TMPDIR to a larger disk",
        )
