"""Resume a training after a crash: its checkpoints, the disk space for them, and its MLflow run."""

import contextlib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from tasks.connectors.storage.artifacts import free_bytes
from tasks.connectors.storage.checkpoints import CheckpointStore
from tasks.connectors.tracking.run import Run
from tasks.core.errors import DiskFullError
from tasks.runtime.clients import model_registry, prepared_store
from tasks.runtime.settings import read_settings
from tasks.runtime.steps import work_folder


@contextlib.contextmanager
def kept_checkpoints(digest: str) -> Generator[CheckpointStore]:
    """Yield the checkpoints of the training with a digest; on exit, wait for pending uploads.

    Args:
        digest: the digest of everything the training depends on.
    """
    every_seconds = read_settings().checkpoint_seconds
    with (
        work_folder("checkpoints") as copies,
        CheckpointStore(prepared_store(), digest, copies, every_seconds) as keeper,
    ):
        yield keeper


@contextlib.contextmanager
def run_beside(
    keeper: CheckpointStore, name: str, settings: Mapping[str, Any], tags: Mapping[str, str]
) -> Generator[Run]:
    """Yield the MLflow run of a training: the one its checkpoint names if the training died, else a new one.

    Args:
        keeper: the training's checkpoints, which name the run from now on.
        name, settings, tags: those of a new run.
    """
    before = keeper.newest()
    died = before.mlflow_run_id if before else None
    with model_registry().run(name, settings, tags, go_on_with=died) as run:
        keeper.mlflow_run_id = run.id
        yield run


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise DiskFullError if a folder's disk has less free space than needed."""
    free = free_bytes(folder)
    if free < needed_bytes:
        raise DiskFullError(
            f"{free / 1e9:.1f} GB are free, but training needs {needed_bytes / 1e9:.1f} GB for checkpoints",
            str(folder),
            "free some space, or set TMPDIR to a larger disk",
        )
