"""Pruning: after each epoch, a trial of a sweep reports its metrics and learns whether to go on.

It may run on another machine than the sweep; they share the database of the studies. If that database is unavailable,
or is not the sweep's, there is a warning and no pruning; the training itself does not fail.
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from tasks.connectors.storage.studies import Study, StudyStore
from tasks.core.errors import NightshiftError
from tasks.core.training.protocols import TrialPruner
from tasks.core.training.tuning import sweep
from tasks.core.training.tuning.params import SweepParams, TrialParams
from tasks.runtime.settings import read_settings

logger = logging.getLogger(__name__)


def study_store() -> StudyStore:
    """Open the store of the studies. Raises ServiceError if it does not answer."""
    return StudyStore(read_settings().study_database_url)


@contextmanager
def judge_of(trial: TrialParams | None) -> Generator[TrialPruner | None]:
    """Yield the judge that may stop a training: the sweep of its trial; None without a trial, or if it is not found."""
    if trial is None:
        yield None
        return
    try:
        store = study_store()
    except NightshiftError as error:
        logger.warning("This training cannot be stopped early: %s", error)
        yield None
        return
    with store:
        yield _judge(store, trial)


def _judge(store: StudyStore, trial: TrialParams) -> TrialPruner | None:
    try:
        study = store.find(trial.study)
        if study is not None:
            return _StudyPruner(
                study, trial.number, SweepParams.model_validate(study.facts["sweep"])
            )
    except NightshiftError as error:
        logger.warning("This training cannot be stopped early: %s", error)
        return None
    logger.warning(
        "This training cannot be stopped early: %s is not in the database of NIGHTSHIFT_STUDY_DATABASE, which must be "
        "the same for every worker",
        trial.study,
    )
    return None


class _StudyPruner:
    """Reports to the study, and asks its pruner."""

    def __init__(self, study: Study, number: int, params: SweepParams) -> None:
        self._study, self._number, self._metric = study, number, params.metric
        self._pruner = sweep.pruner(params.pruning)

    def stops(self, epochs: Sequence[dict[str, float]]) -> bool:
        """See `TrialPruner`."""
        values = [epoch[self._metric] for epoch in epochs]
        try:
            return self._study.report(self._number, values, self._pruner)
        except NightshiftError as error:
            logger.warning("Epoch %s was not reported to the sweep: %s", len(epochs), error)
            return False
