"""The sweep: find or create its study, run its trials, and show the results."""

import contextlib
import logging
from collections.abc import Generator
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from tasks.connectors.storage.studies import Study
from tasks.core.digests import digest_of
from tasks.core.errors import MissingDataError, NightshiftError, StoreError, StoreUnavailableError
from tasks.core.records import Record, Reference
from tasks.core.training.params import TrainingParams
from tasks.core.training.records import BaseModelSummary, TokensSummary, TrainingSummary
from tasks.core.training.tuning import sweep
from tasks.core.training.tuning import trials as trial_facts
from tasks.core.training.tuning.params import SweepParams
from tasks.core.training.tuning.plots import draw_sweep
from tasks.core.training.tuning.sweep import PrunedTraining
from tasks.runtime.clients import prepared_store
from tasks.runtime.reporting import artifacts
from tasks.runtime.reporting.silence import still_doing
from tasks.runtime.steps import step, work_folder
from tasks.training.fine_tuning import TRAINING_VERSION
from tasks.training.pool_results import accept_model
from tasks.training.tuning.pruning import study_store
from tasks.training.tuning.trials import Train, Trials

logger = logging.getLogger(__name__)


class SweepSummary(Record):
    """The result of a sweep."""

    study: str
    metric: str
    done: int
    pruned: int
    failed: int
    trained_now: int
    best_trial: int
    best_value: float
    settings: dict[str, float | int]


@dataclass(frozen=True)
class Swept:
    """A finished sweep: its best settings, and their model."""

    summary: SweepSummary
    training: TrainingParams
    model: Reference[TrainingSummary]


@step
def check_study_database() -> None:
    """Check that the database of the sweeps answers before any work begins. Raises ServiceError, SettingsError."""
    with study_store():
        logger.info("The database of the sweeps answers")


@step
def find_model(uri: str) -> Reference[TrainingSummary] | None:
    """Return the model of a trial, or None if it is gone or was made by another version."""
    try:
        return prepared_store().reference(uri, TrainingSummary)
    except StoreUnavailableError:
        raise
    except (MissingDataError, StoreError):
        return None


def run_sweep(
    tokens: Reference[TokensSummary],
    base: Reference[BaseModelSummary],
    training: TrainingParams,
    params: SweepParams,
    train: Train,
) -> Swept:
    """Run the remaining trials of a sweep, show it on the run's page, and return the best result.

    Args:
        tokens, base: the tokens and the base model of every trial.
        training: the settings, some of which the sweep changes.
        params: the sweep.
        train: trains, and returns a model or the record of a pruned training. Called from several threads if several
            trainings run at once.
    Raises:
        NightshiftError: too many consecutive trials failed, or none produced a result.
        ServiceError: the database does not answer. This, like any other infrastructure error, leaves the study as it
            is; the next run goes on.
    """
    identity = {
        "version": TRAINING_VERSION,
        "tokens": tokens.digest,
        "base_model": base.digest,
        "training": training.identity(),
        "sweep": params.identity(),
    }
    name = f"tune-{digest_of(identity)}"
    facts = identity | {"sweep": params.model_dump()}
    with study_store() as store:
        study = store.open(name, sweep.direction(params.metric), facts)
        trials = Trials(study, training, params, train)
        with still_doing("running the trials"), _shown(study, training, params):
            best = trials.run()
        chosen = sweep.training_of(training, params.space, best.params)
        summary = _summary(study, params, best, chosen, trials.models)
    model = trials.models.get(best.number)
    if model is None and (stored := find_model(str(best.user_attrs[trial_facts.MODEL]))):
        model = accept_model(stored, tokens, base, chosen)
    return Swept(summary, chosen, model or _trained_again(best.number, chosen, train))


def _trained_again(number: int, chosen: TrainingParams, train: Train) -> Reference[TrainingSummary]:
    logger.warning("The model of trial %s is gone; training it again", number)
    outcome = train(chosen, None)
    if isinstance(outcome, PrunedTraining):
        raise NightshiftError("A training that is not a trial was pruned", f"trial {number}")
    return outcome


def _summary(
    study: Study,
    params: SweepParams,
    best: FrozenTrial,
    chosen: TrainingParams,
    models: dict[int, Reference[TrainingSummary]],
) -> SweepSummary:
    states = [t.state for t in trial_facts.settled(study.trials())]
    return SweepSummary(
        study=study.name,
        metric=params.metric,
        done=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        trained_now=sum(not model.reused for model in models.values()),
        best_trial=best.number,
        best_value=trial_facts.value_of(best),
        settings={name: getattr(chosen, name) for name in sweep.searched_settings(params.space)},
    )


@contextlib.contextmanager
def _shown(study: Study, training: TrainingParams, params: SweepParams) -> Generator[None]:
    """Publish the table of trials and the plots on the run's page, even if the sweep ends with an error."""
    try:
        yield
    finally:
        if artifacts.in_a_run():
            _publish(study, training, params)


def _publish(study: Study, training: TrainingParams, params: SweepParams) -> None:
    trials = study.trials()
    rows = trial_facts.rows(trials, params.metric, training, params.space)
    where = f"Trials of {study.name}, the best first. Validation {params.metric}."
    artifacts.publish_table("trials", rows, where)
    if trial_facts.best(trials, params.metric) is None:
        return
    with work_folder("pictures") as folder:
        for path in draw_sweep(folder, trials, params.metric, study.name):
            artifacts.publish_picture(path, path.stem.replace("-", " ").capitalize())
