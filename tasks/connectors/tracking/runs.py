"""The experiment tracker: MLflow, local or a server. The status of a run stays correct even if its process dies.

A run or experiment that is deleted in MLflow's UI can still be read, but no longer written. A deleted run is replaced
by a new one; a deleted experiment keeps its name, so a person has to restore it.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from tasks.connectors.servers.processes import is_gone, this_process
from tasks.connectors.tracking.run import Run, cut, first_line
from tasks.core.errors import NightshiftError, RegistryError, RegistryUnavailableError
from tasks.core.readable import without_passwords
from tasks.core.tags import PROCESS_TAG, REPLACES_TAG

logger = logging.getLogger(__name__)

_AWAY_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # a refused connection is the first
_LONGEST_PARAM = 6000
# Ending a run prints a line, so it may raise MLflow's errors, encoding errors, or those of a closed stdout.
_CANNOT_END = (MlflowException, OSError, ValueError)


class TrackedRuns:
    """An MLflow server or database, and the runs of one experiment in it.

    Args:
        tracking_uri: sqlite:///... or http(s)://...
        experiment: name; created if it does not exist.
    Raises:
        RegistryError: from every method, if MLflow refuses or is not there.
    """

    def __init__(self, tracking_uri: str, experiment: str) -> None:
        self._uri = tracking_uri
        self._experiment = experiment
        with self._saying("connecting"), self._one_at_a_time():
            self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
            self._unchecked_id, self._is_deleted = self._find_or_make(experiment)

    def _find_or_make(self, experiment: str) -> tuple[str, bool]:
        """Return an experiment's id, and True if it is deleted. Handles another process creating it at once."""
        present = self._client.get_experiment_by_name(experiment)
        if present is None:
            try:
                return str(
                    self._client.create_experiment(experiment, self._artifact_folder())
                ), False
            except MlflowException as error:
                present = self._client.get_experiment_by_name(experiment)
                if present is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        return str(present.experiment_id), not _is_active(present)

    @property
    def _experiment_id(self) -> str:
        """The experiment's id, for creating something in it. Raises RegistryError if a person has deleted it."""
        self.require_experiment()
        return self._unchecked_id

    def require_experiment(self) -> None:
        """Raise RegistryError if a person has deleted the experiment: MLflow then accepts no runs in it."""
        if self._is_deleted:
            raise RegistryError(
                f"The experiment {self._experiment!r} was deleted in MLflow",
                self._uri,
                f"restore it: mlflow experiments restore --experiment-id {self._unchecked_id} (with "
                "MLFLOW_TRACKING_URI set as here), or choose another with NIGHTSHIFT_EXPERIMENT",
            )

    def artifact_url(self, run_id: str, path: str) -> str:
        """Return the URL for opening a file of a run: MLflow's page, or the file itself if there is no server."""
        with self._saying("looking up a run"):
            info = self._client.get_run(run_id).info
        if self._uri.startswith("http"):
            page = f"experiments/{info.experiment_id}/runs/{run_id}/artifacts/{path}"
            return f"{without_passwords(self._uri).rstrip('/')}/#/{page}"
        return f"{without_passwords(info.artifact_uri).rstrip('/')}/{path}"

    def _local_folder(self) -> Path | None:
        return (
            Path(self._uri.removeprefix("sqlite:///")).absolute().parent
            if self._uri.startswith("sqlite:///")
            else None
        )

    def _artifact_folder(self) -> str | None:
        folder = self._local_folder()
        return (folder / "artifacts").as_uri() if folder else None  # a server has its own location

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Generator[None]:
        """Serialize migrations: two processes that migrate an empty SQLite file at once corrupt it."""
        folder = self._local_folder()
        with FileLock(folder / "migration.lock") if folder else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def run(
        self,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        go_on_with: str | None = None,
    ) -> Generator[Run]:
        """Open a run that ends FINISHED, FAILED (an error) or KILLED (interrupted).

        Args:
            name: shown in MLflow's UI.
            params: the settings.
            tags: name to text.
            go_on_with: id of a run whose process died, to be resumed.
        """
        owned = cut(tags) | {PROCESS_TAG: this_process()}
        with self._saying("starting a run"):
            run = self._reopened(go_on_with, owned) if go_on_with else None
            if run is None:
                created = self._client.create_run(self._experiment_id, run_name=name, tags=owned)
                run = Run(self._client, created.info.run_id)
        status = "KILLED"  # by Ctrl+C, a cancellation, or a worker that shuts down
        try:
            with self._saying("logging a run"):
                # A resumed run has its params, and MLflow refuses to change them, even their spelling.
                if run.id != go_on_with:
                    listed = cut(params, _LONGEST_PARAM).items()
                    self._client.log_batch(run.id, params=[Param(*pair) for pair in listed])
                yield run
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            if status != "FINISHED":
                with contextlib.suppress(*_CANNOT_END):  # the error itself matters more
                    self._client.set_terminated(run.id, status)
        with self._saying("ending a run"):
            self._end(run)

    def _end(self, run: Run) -> None:
        """End a successful run. If MLflow refuses (the run was deleted), only warn: the results of the run stay.

        Raises:
            MlflowException: it does not answer; trying later may help.
        """
        try:
            run.flush()
            self._client.set_terminated(run.id, "FINISHED")
        except _CANNOT_END as error:
            if isinstance(error, MlflowException) and error.error_code in _AWAY_CODES:
                raise
            logger.warning("The run %s in MLflow could not be ended: %s", run.id, first_line(error))

    def _reopened(self, run_id: str, tags: Mapping[str, str]) -> Run | None:
        try:
            info = self._client.get_run(run_id).info
            if info.status == "FINISHED" or not _is_active(info):
                return None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        self._client.update_run(run_id, "RUNNING")
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        return Run(self._client, run_id)

    def close_dead_runs(
        self, is_over: Callable[[Mapping[str, str]], bool] = lambda _: False
    ) -> list[str]:
        """Mark RUNNING runs whose process is gone as KILLED. Returns their ids.

        A run that cannot be closed is only logged: the others are still closed, and new runs may begin.

        Args:
            is_over: called with a run's tags to judge runs of processes on other machines.
        """
        closed: list[str] = []
        with self._saying("looking for dead runs"):
            for run in self._client.search_runs(
                [self._unchecked_id], "attributes.status = 'RUNNING'"
            ):
                tags = dict(run.data.tags)
                if is_gone(tags.get(PROCESS_TAG, "")) or is_over(tags):
                    try:
                        self._client.set_terminated(run.info.run_id, "KILLED")
                    except _CANNOT_END as error:
                        name, why = run.info.run_id, first_line(error)
                        logger.warning("The run %s in MLflow could not be closed: %s", name, why)
                        continue
                    closed.append(run.info.run_id)
        return closed

    def add_to_run(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Mapping[str, Sequence[Path]],
    ) -> str:
        """Add to a finished run, or to a new one if it is deleted or unknown to MLflow. Returns the run's id.

        Args:
            run_id: the run.
            metrics: name to value.
            tags: name to text.
            files: artifact folder to files.
        """
        with self._saying("adding to a run"):
            run_id = self._usable(run_id)
            now = int(time.time() * 1000)
            self._client.log_batch(
                run_id,
                metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
                tags=[RunTag(key, value) for key, value in cut(tags).items()],
            )
            for folder, paths in files.items():
                for path in paths:
                    self._client.log_artifact(run_id, str(path), folder)
        return run_id

    def _usable(self, run_id: str) -> str:
        """Return the id of a run that can be written to: this one, the one that replaces it, or a new one."""
        try:
            if _is_active(self._client.get_run(run_id).info):
                return run_id
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        query = f"tags.`{REPLACES_TAG}` = '{run_id}'"
        listed = run_id.isalnum() and self._client.search_runs([self._experiment_id], query)
        if listed:
            return str(listed[0].info.run_id)
        tags = {REPLACES_TAG: run_id}
        created = self._client.create_run(self._experiment_id, run_name="reused model", tags=tags)
        self._client.set_terminated(created.info.run_id, "FINISHED")
        logger.warning(
            "The run %s is no longer in MLflow; %s takes its place", run_id, created.info.run_id
        )
        return str(created.info.run_id)

    @contextlib.contextmanager
    def _saying(self, doing: str) -> Generator[None]:
        """Translate MLflow's errors into ours."""
        try:
            yield
        except NightshiftError:
            raise
        except MlflowException as error:
            away = error.error_code in _AWAY_CODES
            raise (RegistryUnavailableError if away else RegistryError)(
                f"{doing.capitalize()} failed: {first_line(error)}",
                self._uri,
                "check that the MLflow server is reachable (MLFLOW_TRACKING_URI)"
                if away
                else "check your permissions there, and that nobody has deleted the run, version or experiment",
            ) from error


def _is_active(entity: Any) -> bool:
    """True for a run or experiment that is not deleted; MLflow's lookups return deleted ones, too."""
    return entity.lifecycle_stage == LifecycleStage.ACTIVE
