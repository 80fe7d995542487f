"""The experiment tracker: MLflow, local or a server. Runs whose status is true, whatever became of their process.

What a person deletes in MLflow's pages is still there, and still answers, but takes nothing any more. A deleted run is
replaced by a new one; a deleted experiment keeps its name, so that a person has to restore it.
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
from tasks.core.errors import NightshiftError, RegistryAwayError, RegistryError
from tasks.core.readable import without_passwords
from tasks.core.tags import PROCESS_TAG, REPLACES_TAG

logger = logging.getLogger(__name__)

_AWAY_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # a refused connection is the first
_LONGEST_PARAM = 6000
# What ending a run may raise, which prints: MLflow's errors, what cannot be printed, a closed stdout.
_CANNOT_END = (MlflowException, OSError, ValueError)


class TrackedRuns:
    """An MLflow, and the runs of one experiment in it.

    Args:
        tracking_uri: sqlite:///... or http(s)://...
        experiment: name; created when it is not there.
    Raises:
        RegistryError: from every method, when MLflow refuses or is not there.
    """

    def __init__(self, tracking_uri: str, experiment: str) -> None:
        self._uri = tracking_uri
        self._experiment = experiment
        with self._saying("connecting"), self._one_at_a_time():
            self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
            self._found_id, self._is_deleted = self._find_or_make(experiment)

    def _find_or_make(self, experiment: str) -> tuple[str, bool]:
        """The id of an experiment, and true where it is deleted; of two who make it at once, one is told so."""
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            try:
                return str(
                    self._client.create_experiment(experiment, self._artifact_folder())
                ), False
            except MlflowException as error:
                found = self._client.get_experiment_by_name(experiment)
                if found is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        return str(found.experiment_id), not _is_active(found)

    @property
    def _experiment_id(self) -> str:
        """Of the experiment, to make something in it. Raises RegistryError where a person has deleted it."""
        self.require_experiment()
        return self._found_id

    def require_experiment(self) -> None:
        """Raises RegistryError where a person has deleted the experiment: MLflow takes no run for it then."""
        if self._is_deleted:
            raise RegistryError(
                f"The experiment {self._experiment!r} was deleted in MLflow",
                self._uri,
                f"restore it: mlflow experiments restore --experiment-id {self._found_id} (with "
                "MLFLOW_TRACKING_URI set as here), or name another: NIGHTSHIFT_EXPERIMENT",
            )

    def artifact_url(self, run_id: str, path: str) -> str:
        """Where people open a file of a run: MLflow's page of it, or the file itself where there is no server."""
        with self._saying("looking up a run"):
            info = self._client.get_run(run_id).info
        if self._uri.startswith("http"):
            place = f"experiments/{info.experiment_id}/runs/{run_id}/artifacts/{path}"
            return f"{without_passwords(self._uri).rstrip('/')}/#/{place}"
        return f"{without_passwords(info.artifact_uri).rstrip('/')}/{path}"

    def _local_folder(self) -> Path | None:
        return (
            Path(self._uri.removeprefix("sqlite:///")).absolute().parent
            if self._uri.startswith("sqlite:///")
            else None
        )

    def _artifact_folder(self) -> str | None:
        folder = self._local_folder()
        return (folder / "artifacts").as_uri() if folder else None  # a server knows its own place

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Generator[None]:
        """Two processes that migrate an empty SQLite file at once spoil it."""
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
        """A run that ends FINISHED, FAILED (an error) or KILLED (interrupted), as was the case.

        Args:
            name: what people see.
            params: the settings.
            tags: name to text.
            go_on_with: id of a run whose process died, to be taken up again.
        """
        owned = cut(tags) | {PROCESS_TAG: this_process()}
        with self._saying("starting a run"):
            run = self._reopened(go_on_with, owned) if go_on_with else None
            if run is None:
                made = self._client.create_run(self._experiment_id, run_name=name, tags=owned)
                run = Run(self._client, made.info.run_id)
        status = "KILLED"  # by Ctrl+C, a cancellation, a worker that was told to end
        try:
            with self._saying("logging a run"):
                if run.id != go_on_with:  # which has them, and refuses another way to say the same
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
        """End a run that went well. Where MLflow refuses, as somebody has deleted it, what was made beside it stays.

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
            found = self._client.get_run(run_id).info
            if found.status == "FINISHED" or not _is_active(found):
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
        """Mark RUNNING runs as KILLED whose process is gone (it had no time to say so); returns their ids.

        One that cannot be closed is no reason to leave the others, or to keep a run from beginning.

        Args:
            is_over: asked with a run's tags where its process was another machine's.
        """
        closed: list[str] = []
        with self._saying("looking for dead runs"):
            for run in self._client.search_runs([self._found_id], "attributes.status = 'RUNNING'"):
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
        """Add to a finished run (a new one where it is deleted, or the registry has lost it); returns its id.

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
        """The id of a run that can be written to: the one of that id, the one that replaces it, or a new one."""
        try:
            if _is_active(self._client.get_run(run_id).info):
                return run_id
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        asked = f"tags.`{REPLACES_TAG}` = '{run_id}'"
        listed = run_id.isalnum() and self._client.search_runs([self._experiment_id], asked)
        if listed:
            return str(listed[0].info.run_id)
        tags = {REPLACES_TAG: run_id}
        made = self._client.create_run(self._experiment_id, run_name="reused model", tags=tags)
        self._client.set_terminated(made.info.run_id, "FINISHED")
        logger.warning(
            "The run %s is not in MLflow any more; %s takes its place", run_id, made.info.run_id
        )
        return str(made.info.run_id)

    @contextlib.contextmanager
    def _saying(self, doing: str) -> Generator[None]:
        """Turn MLflow's errors into ours."""
        try:
            yield
        except NightshiftError:
            raise
        except MlflowException as error:
            away = error.error_code in _AWAY_CODES
            raise (RegistryAwayError if away else RegistryError)(
                f"{doing.capitalize()} failed: {first_line(error)}",
                self._uri,
                "check that the MLflow server is reachable (MLFLOW_TRACKING_URI)"
                if away
                else "see that you may do this there, and that nobody has deleted what it is about",
            ) from error


def _is_active(found: Any) -> bool:
    """True of a run or an experiment that nobody has deleted; MLflow finds the others, too."""
    return found.lifecycle_stage == LifecycleStage.ACTIVE
