"""Trials of a sweep: started, ended, and taken over from dead runs, until the requested number is reached.

The study in the database is the only state. So a sweep that died goes on when its form is run again: finished trials
count, and unfinished ones begin again with the same settings, from their checkpoints. Two runs of one form share it.
"""

import contextlib
import contextvars
import logging
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import TypeAlias

from optuna.trial import FrozenTrial, TrialState

from tasks.connectors.servers.processes import is_gone, this_process
from tasks.connectors.storage.studies import Study
from tasks.core.errors import (
    DiskFullError,
    NightshiftError,
    RegistryError,
    ServiceError,
    StoreError,
)
from tasks.core.records import Reference
from tasks.core.training.params import TrainingParams
from tasks.core.training.records import TrainingSummary
from tasks.core.training.tuning import sweep
from tasks.core.training.tuning import trials as trial_facts
from tasks.core.training.tuning.params import SweepParams, TrialParams
from tasks.core.training.tuning.sweep import PrunedTraining
from tasks.runtime.provenance import flow_run_id
from tasks.runtime.reporting import artifacts
from tasks.runtime.runs import cleanup
from tasks.runtime.settings import read_settings

logger = logging.getLogger(__name__)

Outcome: TypeAlias = Reference[TrainingSummary] | PrunedTraining
Train: TypeAlias = Callable[[TrainingParams, TrialParams | None], Outcome]

# Infrastructure errors, which are not the fault of a trial: the sweep ends, and the next run begins the trial again.
_INFRASTRUCTURE_ERRORS = (StoreError, RegistryError, ServiceError, DiskFullError)
_POLL_SECONDS = 5.0
_OWNERLESS_SECONDS = 60.0  # after this, a trial without an owner belongs to a dead process
_LONGEST_REASON = 500


class Trials:
    """One run's share of a sweep.

    Args:
        study: the study with all trials.
        training: the settings, some of which the sweep changes.
        params: the sweep.
        train: trains. Called from several threads if several trainings run at once.
    """

    def __init__(
        self, study: Study, training: TrainingParams, params: SweepParams, train: Train
    ) -> None:
        self.models: dict[int, Reference[TrainingSummary]] = {}
        self._study, self._training, self._params, self._train = study, training, params, train
        self._space = sweep.distributions(params.space)
        self._at_once = params.at_once if read_settings().training_deployment else 1
        hours = params.timeout_hours
        self._deadline = time.monotonic() + hours * 3600 if hours else None
        self._under_way: dict[Future[Outcome], FrozenTrial] = {}
        self._forgotten: set[int] = set()
        self._failures = 0
        self._fatal: BaseException | None = None
        self._progress = artifacts.Progress("sweep-progress", "Trials")

    def run(self) -> FrozenTrial:
        """Run until all trials are over, and return the best.

        Raises:
            NightshiftError: too many consecutive trials failed, or none produced a result.
            ServiceError: the database does not answer.
        """
        trials = self._study.trials()
        if not trials:
            self._study.queue(sweep.first_values(self._training, self._params.space))
        self._forgotten = trial_facts.failures_to_forget(trials)
        self._log_progress(trials)
        threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="trial")
        try:
            while self._work(threads):
                pass
        except BaseException:  # cancelled: the next run takes over the unfinished trials
            for trial in self._under_way.values():
                with contextlib.suppress(ServiceError):
                    self._give_up(trial, "The run that started it was interrupted")
            raise
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
        if self._fatal:
            raise self._fatal
        return self._best()

    def _work(self, threads: ThreadPoolExecutor) -> bool:
        """Run one round; return False if nothing is left to do."""
        trials = self._take_over(self._study.trials())
        if self._may_begin(trials):
            self._begin(trials, threads)
            return True
        if self._under_way:
            over, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
            for future in over:
                self._end(self._under_way.pop(future), future)
            return True
        if self._fatal or not _running(trials):
            return False
        time.sleep(_POLL_SECONDS)  # another run of this form still has unfinished trials
        return True

    def _may_begin(self, trials: list[FrozenTrial]) -> bool:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        remaining = self._params.trials - len(self._settled(trials)) - len(_running(trials))
        busy = len(self._under_way) >= self._at_once
        return remaining > 0 and not (late or busy or self._fatal)

    def _settled(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        return [t for t in trial_facts.settled(trials) if t.number not in self._forgotten]

    def _begin(self, trials: list[FrozenTrial], threads: ThreadPoolExecutor) -> None:
        chosen = sweep.sampler(self._params.seed, trial_facts.drawn(trials))
        owner = {trial_facts.PROCESS: this_process(), trial_facts.FLOW_RUN: flow_run_id()}
        trial = self._study.ask(self._space, chosen, owner)
        settings = sweep.training_of(self._training, self._params.space, trial.params)
        tried = {name: getattr(settings, name) for name in self._space}
        logger.info("Trial %s begins: %s", trial.number, trial_facts.settings_text(tried))
        identity = TrialParams(study=self._study.name, number=trial.number)
        if self._at_once > 1:
            context = contextvars.copy_context()
            self._under_way[threads.submit(context.run, self._train, settings, identity)] = trial
            return
        future: Future[Outcome] = Future()
        self._under_way[future] = trial
        try:
            future.set_result(self._train(settings, identity))
        except Exception as error:  # handled in `_end`, as in a thread
            future.set_exception(error)

    def _end(self, trial: FrozenTrial, future: Future[Outcome]) -> None:
        error = future.exception()
        if error is None:
            self._failures = 0
            self._tell(trial, future.result())
        elif isinstance(error, NightshiftError) and not isinstance(error, _INFRASTRUCTURE_ERRORS):
            self._fail(trial, str(error))
        else:
            self._fatal = self._fatal or error
            self._give_up(trial, f"The run that started it failed: {type(error).__name__}")

    def _tell(self, trial: FrozenTrial, outcome: Outcome) -> None:
        if isinstance(outcome, PrunedTraining):
            self._study.tell(trial.number, TrialState.PRUNED)
            value = outcome.validation[self._params.metric]
            self._log(trial, f"stopped after epoch {outcome.epochs} at {value:.4f}")
            return
        value = outcome.summary.validation[self._params.metric]
        self.models[trial.number] = outcome
        self._study.tell(trial.number, TrialState.COMPLETE, value, {trial_facts.MODEL: outcome.uri})
        self._log(trial, f"validation {self._params.metric} {value:.4f}")

    def _fail(self, trial: FrozenTrial, reason: str) -> None:
        attributes = {trial_facts.REASON: reason[:_LONGEST_REASON]}
        self._study.tell(trial.number, TrialState.FAIL, attributes=attributes)
        self._log(trial, f"FAILED: {reason}")
        self._failures += 1
        if self._failures >= self._params.stop_after_failures:
            self._fatal = self._fatal or NightshiftError(
                f"{self._failures} trials failed in a row; the last: {reason}",
                self._study.name,
                "fix their common cause and run the form again; finished trials are kept",
            )

    def _give_up(self, trial: FrozenTrial, why: str) -> None:
        """End a trial as failed; queue its settings again unless it is hopeless."""
        hopeless = why == trial_facts.RUN_IS_OVER and trial_facts.is_hopeless(
            trial, self._study.trials()
        )
        key = trial_facts.REASON if hopeless else trial_facts.DIED
        ended = self._study.tell(trial.number, TrialState.FAIL, attributes={key: why})
        if ended and not hopeless:
            # Only the run that ends the trial first queues it again, so that two runs do not both do so.
            self._study.queue(trial_facts.asked_for(trial))

    def _take_over(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """End the trials of dead runs and queue their settings again; return the updated list of all trials."""
        mine = {trial.number for trial in self._under_way.values()}
        dead = [t for t in _running(trials) if t.number not in mine and _is_dead(t)]
        for trial in dead:
            logger.warning("Trial %s died with its run; starting it again", trial.number)
            self._give_up(trial, trial_facts.RUN_IS_OVER)
        return self._study.trials() if dead else trials

    def _best(self) -> FrozenTrial:
        trials = self._study.trials()
        best = trial_facts.best(trials, self._params.metric)
        if best is None:
            failed = [t for t in trials if trial_facts.REASON in t.user_attrs]
            last = f"; the last: {failed[-1].user_attrs[trial_facts.REASON]}" if failed else ""
            raise NightshiftError(
                f"No trial produced a result; {len(failed)} failed{last}",
                self._study.name,
                "correct the form, or give it more time (sweep.timeout_hours)",
            )
        return best

    def _log_progress(self, trials: list[FrozenTrial]) -> None:
        over = len(self._settled(trials))
        self._progress.at(over, self._params.trials)
        if over:
            logger.info(
                "Resuming the sweep %s: %s of %s trials are finished",
                self._study.name,
                over,
                self._params.trials,
            )
        if self._at_once < self._params.at_once:
            logger.warning(
                "One training at a time, because trainings in one process would share torch's random numbers; set "
                "NIGHTSHIFT_TRAINING_DEPLOYMENT to run %s at once",
                self._params.at_once,
            )

    def _log(self, trial: FrozenTrial, how: str) -> None:
        trials = self._study.trials()
        over = len(self._settled(trials))
        best = trial_facts.best(trials, self._params.metric)
        so_far = f"; best {trial_facts.value_of(best):.4f}, trial {best.number}" if best else ""
        logger.info(
            "Trial %s %s (%s of %s%s)", trial.number, how, over, self._params.trials, so_far
        )
        self._progress.at(over, self._params.trials)


def _running(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [t for t in trials if t.state == TrialState.RUNNING]


def _is_dead(trial: FrozenTrial) -> bool:
    """Return True for an unfinished trial whose run is over or whose process is gone."""
    process = str(trial.user_attrs.get(trial_facts.PROCESS, ""))
    run = str(trial.user_attrs.get(trial_facts.FLOW_RUN, ""))
    if not process:  # it died between starting the trial and recording its process
        begun = trial.datetime_start or datetime.now()
        return datetime.now() - begun > timedelta(seconds=_OWNERLESS_SECONDS)
    if is_gone(process) or (run and run == flow_run_id() and process != this_process()):
        return True  # the second case: this very run, retried on another machine
    return bool(run) and run != flow_run_id() and cleanup.flow_run_is_over(run)
