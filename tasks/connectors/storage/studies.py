"""Studies: the trials and results of sweeps, in a database that the trainings of a sweep report to from any machine.

It is Optuna's storage over SQLAlchemy: SQLite on one machine, PostgreSQL or MySQL for several. Two processes that
create the tables of an empty SQLite file at once corrupt it, so a lock serializes them. The URL may hold a password
and is never shown.
"""

import contextlib
import logging
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, OptunaError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)

from tasks.core.errors import ServiceError, SettingsError
from tasks.core.readable import without_passwords

logger = logging.getLogger(__name__)

_VARIABLE = "NIGHTSHIFT_STUDY_DATABASE"
_FACTS = "nightshift.sweep"
_BUSY_SECONDS = 60  # a writer of SQLite waits this long for another
# Retries and pause while another process creates the tables of a server.
_TIMES, _SOON_SECONDS = 5, 0.5


class Study:
    """One sweep in the database. All methods raise ServiceError if the database does not answer."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    @property
    def name(self) -> str:
        """The name of the study."""
        return self._study.study_name

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON that was stored with the study when it was created."""
        with _saying("reading a study"):
            return dict(self._study.user_attrs[_FACTS])

    def trials(self) -> list[FrozenTrial]:
        """Return the current state of all trials, ordered by number."""
        with _saying("reading trials"):
            return self._study.get_trials(deepcopy=True)

    def queue(self, params: Mapping[str, Any]) -> None:
        """Queue a trial with these parameters. Parameters that are missing are sampled."""
        with _saying("queueing a trial"):
            self._study.enqueue_trial(dict(params))

    def ask(
        self,
        space: Mapping[str, BaseDistribution],
        sampler: BaseSampler,
        attributes: Mapping[str, str],
    ) -> FrozenTrial:
        """Begin a trial: a queued one, or one that the sampler chooses. It is RUNNING until `tell` ends it.

        Args:
            space: the search space of the parameters.
            sampler: chooses their values.
            attributes: stored with the trial, such as its owner.
        """
        with _saying("beginning a trial"):
            self._study.sampler = sampler
            trial = self._study.ask(dict(space))
            for key, value in attributes.items():
                trial.set_user_attr(key, value)
            return self._frozen(trial.number)

    def tell(
        self,
        number: int,
        state: TrialState,
        value: float | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> bool:
        """End a RUNNING trial: COMPLETE with its value, PRUNED, or FAIL. Returns False if it had already ended."""
        with _saying("ending a trial"):
            try:
                trial = self._trial(number)
                for key, text in (attributes or {}).items():
                    trial.set_user_attr(key, text)
                self._study.tell(number, value, state)
            except (UpdateFinishedTrialError, ValueError) as error:
                if self._frozen(number).state.is_finished():
                    return False
                raise error
            return True

    def report(self, number: int, values: Sequence[float], pruner: BasePruner) -> bool:
        """Report the progress of a RUNNING trial. Returns True if it should be stopped.

        Args:
            number: of the trial.
            values: of the metric after each epoch so far; those already reported are skipped.
            pruner: decides.
        """
        with _saying("reporting on a trial"):
            self._study.pruner = pruner
            trial = self._trial(number)
            frozen = self._frozen(number)
            reported = frozen.intermediate_values
            if frozen.state.is_finished():  # abandoned together with the run that began it
                return False
            for epoch, value in enumerate(values, start=1):
                if epoch not in reported:
                    trial.report(value, epoch)
            return trial.should_prune()

    def _trial(self, number: int) -> Trial:
        return Trial(self._study, self._frozen(number)._trial_id)  # pyright: ignore[reportPrivateUsage]

    def _frozen(self, number: int) -> FrozenTrial:
        trials = self._study.get_trials(deepcopy=False)
        if number >= len(trials):
            raise ServiceError(f"The sweep has no trial {number}", self._study.study_name)
        return trials[number]


class StudyStore:
    """Creates and finds studies. A context manager: leaving it closes the connections.

    Args:
        url: for SQLAlchemy, such as sqlite:////data/studies.db or postgresql://user:password@host/studies.
    Raises:
        SettingsError: the URL is invalid, or its driver is not installed.
        ServiceError: the database does not answer.
    """

    def __init__(self, url: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file = _file_of(url)
        options: dict[str, Any] = {"pool_pre_ping": True}
        if file:
            options["connect_args"] = {"timeout": _BUSY_SECONDS}
        with _saying("connecting"), _turn(file):
            # Optuna treats the URL as a template, so the braces of a password are doubled
            escaped = url.replace("{", "{{").replace("}", "}}")
            self._storage = _connected(escaped, options)

    def __enter__(self) -> "StudyStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def open(
        self, name: str, direction: Literal["maximize", "minimize"], facts: Mapping[str, Any]
    ) -> Study:
        """Return the study of a name; create it if there is none yet.

        Args:
            name: of the study; the same name always means the same study.
            direction: in which its metric is better.
            facts: stored with it, as JSON, for the trainings that report to it.
        """
        with _saying("opening a study"):
            with contextlib.suppress(DuplicatedStudyError):
                optuna.create_study(storage=self._storage, study_name=name, direction=direction)
            study = optuna.load_study(study_name=name, storage=self._storage)
            if _FACTS not in study.user_attrs:
                study.set_user_attr(_FACTS, dict(facts))
            return Study(study)

    def find(self, name: str) -> Study | None:
        """Return the study of a name, or None."""
        with _saying("looking for a study"):
            try:
                return Study(optuna.load_study(study_name=name, storage=self._storage))
            except KeyError:
                return None


def _file_of(url: str) -> Path | None:
    """Return the file of an SQLite database; None for any other database."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingsError(
            "Not the URL of a database",
            _VARIABLE,
            "write sqlite:////folder/studies.db, or postgresql://user:password@host/name",
        ) from None  # the error itself holds the URL
    if parts.get_backend_name() != "sqlite" or not parts.database:
        return None
    return Path(parts.database)


def _connected(url: str, options: dict[str, Any]) -> RDBStorage:
    """Open Optuna's storage and create its tables. Retries, as another process may be creating them on a server."""
    for _ in range(_TIMES):
        try:
            return RDBStorage(url, engine_kwargs=dict(options))
        except (IntegrityError, ProgrammingError):
            time.sleep(_SOON_SECONDS)
    return RDBStorage(url, engine_kwargs=dict(options))


@contextlib.contextmanager
def _turn(file: Path | None) -> Generator[None]:
    """Hold a lock on the file of an SQLite database. Creates its folder."""
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield


@contextlib.contextmanager
def _saying(doing: str) -> Generator[None]:
    """Translate the errors of Optuna and SQLAlchemy into ours."""
    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        raise SettingsError(
            f"The driver of this database is not installed: {_first_line(error.__cause__ or error)}",
            _VARIABLE,
            "install it (psycopg2-binary for postgresql://)",
        ) from error
    except UpdateFinishedTrialError:
        raise
    # Optuna raises RuntimeError if the tables are of another version.
    except (SQLAlchemyError, OptunaError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        raise ServiceError(
            f"The sweep database failed while {doing}: {_first_line(cause)}",
            _VARIABLE,
            "check that it is reachable and writable, then run again: the sweep resumes",
        ) from error


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return without_passwords(line)[:300]
