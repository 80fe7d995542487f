"""Checkpoints of one training in the object store, so that it can resume after any crash, on any machine.

Each is a prepared folder (`prepared`): its manifest is written last, so an incomplete one does not exist, and its
files are checked against it. Checkpoints are stored under the digest of the training's data and parameters, and are
removed when the training is done.
"""

import contextvars
import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from tasks.connectors.storage.artifacts import PreparedStore
from tasks.core.errors import StoreError
from tasks.core.records import Manifest, Record

logger = logging.getLogger(__name__)

_KEPT = 2  # the newest, and the one before it in case the newest is damaged
_WEIGHTS = ("config.json", "model.safetensors")


class CheckpointSummary(Record):
    """The step a checkpoint was written at, the best step at that time, and the MLflow run it belongs to."""

    step: int
    best_step: int | None
    mlflow_run_id: str


class CheckpointStore:
    """Saves and restores the checkpoints of one training. A context manager: leaving it waits for a running upload.

    Uploads run in the background. An unavailable store costs a checkpoint and a warning, never the training.

    Args:
        prepared: the store that keeps them.
        digest: of everything the training depends on.
        folder: for copies that wait to be uploaded, on the disk that Trainer writes to.
        every_seconds: interval between checkpoints; 0 means after every step.
    """

    def __init__(
        self, prepared: PreparedStore, digest: str, folder: Path, every_seconds: float
    ) -> None:
        self.mlflow_run_id = ""
        self._prepared = prepared
        self._kind = f"checkpoint-{digest}"
        self._folder = folder
        self._every_seconds = every_seconds
        self._last = time.monotonic()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._uploading: Future[None] | None = None

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.shutdown(wait=True)

    def newest(self) -> CheckpointSummary | None:
        """Return the summary of the newest complete checkpoint; None if there is none."""
        complete = self._complete()
        return _summary(complete[-1]) if complete else None

    def restore(self, folder: Path) -> Path | None:
        """See `CheckpointKeeper.restore`. If a checkpoint is damaged, the one before it is used."""
        complete = self._complete()
        for manifest in reversed(complete):
            summary = _summary(manifest)
            into = folder / f"checkpoint-{summary.step}"
            try:
                self._prepared.fetch(self._prepared.uri(self._kind, manifest.digest), into)
                self._restore_best(complete, summary, folder)
            except StoreError as error:
                logger.warning(
                    "The checkpoint of step %s cannot be used: %s", summary.step, error.what
                )
                continue
            logger.info("Resuming training from the checkpoint of step %s", summary.step)
            return into
        return None

    def _restore_best(
        self, complete: list[Manifest], newest: CheckpointSummary, folder: Path
    ) -> None:
        if newest.best_step in (None, newest.step):
            return
        best = next((m for m in complete if _summary(m).step == newest.best_step), None)
        if best is None:
            raise StoreError(f"the best checkpoint, of step {newest.best_step}, is gone")
        into = folder / f"checkpoint-{newest.best_step}"
        self._prepared.fetch(self._prepared.uri(self._kind, best.digest), into, *_WEIGHTS)

    def due(self) -> bool:
        """True if the last checkpoint is old enough and no upload is running."""
        waiting = self._uploading is not None and not self._uploading.done()
        return not waiting and time.monotonic() - self._last >= self._every_seconds

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        """See `CheckpointKeeper.keep`."""
        self._last = time.monotonic()
        if self._uploading:
            self._uploading.result()
        copy = self._folder / checkpoint.name
        copy.mkdir(parents=True, exist_ok=True)
        for path in checkpoint.iterdir():
            os.link(path, copy / path.name)  # Trainer may delete its own while this one is uploaded
        summary = CheckpointSummary(
            step=_step(checkpoint),
            best_step=_step(best) if best else None,
            mlflow_run_id=self.mlflow_run_id,
        )
        # With this thread's context; without it, the log lines would belong to no run.
        context = contextvars.copy_context()
        self._uploading = self._worker.submit(context.run, self._upload, copy, summary)

    def remove_all(self) -> None:
        """Delete every checkpoint of this training, because it is done."""
        self._worker.shutdown(wait=True)
        for manifest in self._complete():
            self._prepared.remove(manifest)
        store = self._prepared.store
        for leftover in list(store.scan(f"{self._prepared.uri(self._kind, '')}")):
            store.delete(leftover.uri)  # left by an upload whose process was killed

    def _upload(self, copy: Path, summary: CheckpointSummary) -> None:
        started = time.monotonic()
        try:
            step = {"step": summary.step}
            # A damaged one of the same step may exist: training resumed from the one before it.
            self._prepared.commit(self._kind, step, copy, summary, replace=True)
            seconds = time.monotonic() - started
            logger.info("Checkpoint of step %s saved (%.1f s)", summary.step, seconds)
            self._prune(summary)
        except StoreError as error:
            logger.warning("The checkpoint of step %s was not saved: %s", summary.step, error)
        finally:
            for path in copy.iterdir():
                path.unlink()
            copy.rmdir()

    def _prune(self, newest: CheckpointSummary) -> None:
        complete = self._complete()
        newest_two = complete[-_KEPT:]
        needed = {newest.step, newest.best_step}
        needed |= {step for m in newest_two for step in (_summary(m).step, _summary(m).best_step)}
        for manifest in complete:
            if _summary(manifest).step not in needed:
                self._prepared.remove(manifest)

    def _complete(self) -> list[Manifest]:
        """Return the manifests, the oldest first."""
        return sorted(self._prepared.all(self._kind), key=lambda m: _summary(m).step)


def _summary(manifest: Manifest) -> CheckpointSummary:
    return CheckpointSummary.model_validate(manifest.summary)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
