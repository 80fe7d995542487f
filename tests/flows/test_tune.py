"""A sweep on real servers with a tiny model: what it finds, what is reused, what dies, what is stopped early."""

import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW, temporary_settings
from prefect.states import Completed, Running

from flows.fine_tune import Outcome, train_trial
from flows.forms.pipelines import FineTuneParams, TuneParams
from flows.stages.preparation import Prepared, prepare
from flows.tune import tune
from tasks.connectors.servers.processes import this_process
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import NightshiftError, SettingsError, StoreUnavailableError
from tasks.core.records import Reference
from tasks.core.training.params import TrainingParams
from tasks.core.training.records import TrainingSummary
from tasks.core.training.tuning import trials as trial_facts
from tasks.core.training.tuning.params import TrialParams
from tasks.core.training.tuning.sweep import PrunedTraining
from tasks.runtime.clients import model_registry, object_store, prepared_store
from tasks.runtime.provenance import flow_run_id
from tasks.runtime.runs.remote_runs import _result_uri
from tasks.runtime.steps import fetched
from tasks.training import fine_tuning as training_step
from tasks.training.fine_tuning import training_inputs
from tasks.training.progress import Listener
from tasks.training.tuning import trials as running
from tasks.training.tuning.pruning import judge_of, study_store
from tasks.training.tuning.sweep import Swept, run_sweep
from tests.core.training.tiny_trainings import Killed
from tests.flows.test_dispatch import Worker, deployment
from tests.reviews import jsonl, reviews

__all__ = ["deployment"]  # a fixture

pytestmark = pytest.mark.prefect


def form(base: Path, location: str, name: str, **changed: Any) -> TuneParams:
    """Three trials of a tiny BERT; learning rates from hopeless to good."""
    given: dict[str, Any] = {
        "data": {"source": {"location": location}},
        "tokenization": {"max_length_tokens": 48},
        "training": {
            "base_model": str(base), "epochs": 2, "learning_rate": 5e-3, "device": "cpu", "precision": "fp32",
        },
        "evaluation": {"resamples": 100},
        "registration": {"model_name": name},
        "engines": {"measure": False},
        "sweep": {
            "trials": 3,
            "pruning": {"enabled": False},
            "space": {
                "learning_rate": {"low": 1e-6, "high": 5e-3},
                "batch_size": [16, 24], "warmup_ratio": None, "weight_decay": None,
            },
        },
    }  # fmt: skip
    for path, value in changed.items():
        room, _, key = path.partition("__")
        given[room][key] = value
    return TuneParams.model_validate(given)


@pytest.fixture
def _studies(services: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of this test's own."""
    monkeypatch.setenv("NIGHTSHIFT_STUDY_DATABASE", f"sqlite:///{tmp_path}/studies.db")
    monkeypatch.setattr(running, "_POLL_SECONDS", 0.1)


def trials_of(study: str) -> list[FrozenTrial]:
    with study_store() as store:
        found = store.find(study)
        assert found
        return found.trials()


@pytest.mark.usefixtures("_studies")
def test_a_sweep_finds_the_best_and_the_same_form_again_trains_nothing(
    services: ObjectStore, prefix: str, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    services.write_bytes(jsonl(reviews(200)), f"{prefix}/labelled/train.jsonl")
    services.write_bytes(jsonl(reviews(60, 50)), f"{prefix}/labelled/test.jsonl")
    params = form(bert, f"{prefix}/labelled", "tuned", training__epochs=4)
    first = tune(params)
    trials = trials_of(first.sweep.study)
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 3 and first.sweep.trained_now == 3
    assert first.sweep.best_value == max(map(trial_facts.value_of, trials)) > 0.8
    assert trials[0].params["learning_rate"] == 5e-3, "the form's own settings come first"
    assert len({t.params["learning_rate"] for t in trials}) == 3
    best = trials[first.sweep.best_trial]
    assert first.retrained.model_uri == best.user_attrs[trial_facts.MODEL]
    version = first.retrained.version
    assert first.retrained.evaluation.metrics["accuracy"].value > 0.8
    assert model_registry().resolve(
        "tuned", "challenger" if not first.retrained.promoted else "champion"
    )
    assert "Trial 0 begins: learning_rate 0.005" in caplog.text and "(3 of 3; best " in caplog.text
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["trials", "sweep-history"]))
        shown = {artifact.key for artifact in client.read_artifacts(artifact_filter=wanted)}
        wanted = ArtifactFilter(key=ArtifactFilterKey(like_="sweep-"))
        shown |= {artifact.key for artifact in client.read_artifacts(artifact_filter=wanted)}
    assert {"trials", "sweep-progress", "sweep-history", "sweep-settings"} <= shown

    second = tune(params)
    assert second.sweep.trained_now == 0 and second.retrained.version.version == version.version
    assert "model" in second.retrained.steps_reused
    assert len(trials_of(second.sweep.study)) == 3


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """What is prepared and trained once for all tests below."""
    return {}


@pytest.fixture
def _outside_of_a_run() -> Iterator[None]:
    """Steps may be called there, and say nothing to Prefect."""
    with temporary_settings({PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}):
        yield


@pytest.fixture
def given(
    _outside_of_a_run: None,
    _studies: None,
    services: ObjectStore,
    bert: Path,
    made: dict[str, Any],
    request: pytest.FixtureRequest,
) -> TuneParams:
    """A sweep of this test's own, by its seed, on a few reviews."""
    location = "s3://nightshift/tests/sweeps"
    seed = sum(map(ord, request.node.name))
    params = form(bert, location, "sweeps", sweep__seed=seed)
    if not made:
        services.write_bytes(jsonl(reviews(60, 3)), f"{location}/train.jsonl")
        services.write_bytes(jsonl(reviews(40, 53)), f"{location}/test.jsonl")
        made["prepared"] = prepare(params)
        made["model"] = Trainer(made)(params.training, None)
    return params


class Trainer:
    """Trains for real, or does first what a test asks for; keeps what it was asked to train."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.prepared: Prepared = made["prepared"]
        self.begun: list[TrainingParams] = []
        self.errors: dict[int, BaseException] = {}

    def __call__(
        self, training: TrainingParams, trial: TrialParams | None
    ) -> Reference[TrainingSummary] | PrunedTraining:
        self.begun.append(training)
        if error := self.errors.pop(len(self.begun) - 1, None):
            raise error
        return self.trained(training, trial)

    def trained(
        self, training: TrainingParams, trial: TrialParams | None
    ) -> Reference[TrainingSummary] | PrunedTraining:
        prepared = self.prepared
        tokens = form(Path(training.base_model), "s3://any/where", "any").tokenization
        return training_step.train_model.fn(prepared.tokens, prepared.base, tokens, training, trial)

    def sweep(self, params: TuneParams, **changed: Any) -> Swept:
        asked = params.sweep.model_copy(update=changed)
        return run_sweep(self.prepared.tokens, self.prepared.base, params.training, asked, self)


def as_if_trained(made: dict[str, Any], training: TrainingParams) -> Reference[TrainingSummary]:
    """The one model that there is, committed as that of other settings: what comes back is compared with them."""
    prepared, store = made["prepared"], prepared_store()
    manifest = store.manifest_of(made["model"])
    inputs = training_inputs(prepared.tokens, prepared.base, training)
    summary = made["model"].summary
    with fetched(made["model"]) as folder:
        copy = store.commit("model", manifest.inputs | inputs, folder, summary)
    return store.refer(copy, TrainingSummary, reused=False)


class Played(Trainer):
    """Trains nothing: trials report three epochs, and are the better the later they are."""

    def __init__(self, made: dict[str, Any]) -> None:
        super().__init__(made)
        self.made = made
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def trained(
        self, training: TrainingParams, trial: TrialParams | None
    ) -> Reference[TrainingSummary] | PrunedTraining:
        validation = {"accuracy": 0.9 + (trial.number if trial else 0) / 1000, "loss": 0.5}
        self._count(1)
        with judge_of(trial) as judge:
            for epoch in range(1, 4):
                assert not judge or not judge.stops([validation] * epoch)
                time.sleep(0.02)
        self._count(-1)
        model = as_if_trained(self.made, training)
        summary = model.summary.model_copy(update={"validation": validation})
        return model.model_copy(update={"summary": summary})

    def _count(self, change: int) -> None:
        with self._lock:
            self.at_once += change
            self.most_at_once = max(self.at_once, self.most_at_once)


@pytest.fixture
def ended() -> str:
    """A process of this machine that is over."""
    with subprocess.Popen(["sleep", "60"]) as process:
        name = this_process(psutil.Process(process.pid))
        process.kill()
    return name


def test_a_sweep_that_died_goes_on_as_if_it_had_not(
    given: TuneParams,
    made: dict[str, Any],
    ended: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Killed in the second epoch of a real training, by a process that says nothing more."""
    caplog.set_level(logging.INFO)
    trainer = Trainer(made)
    with monkeypatch.context() as killing:
        _kill(killing, trainer, in_trial=1, at_step=6)
        killing.setattr(running, "this_process", lambda: ended)
        with pytest.raises(Killed):
            trainer.sweep(given)
    swept = trainer.sweep(given)
    states = [trial_facts.state_of(t) for t in trials_of(swept.summary.study)]
    assert states == ["done", "died", "done", "done"]
    assert "Trial 1 died with its run; starting it again" in caplog.text
    assert trainer.begun[2] == trainer.begun[1]
    assert "Resuming training from the checkpoint of step" in caplog.text
    assert swept.summary.done == 3 and swept.summary.failed == 0

    monkeypatch.setenv("NIGHTSHIFT_STUDY_DATABASE", f"sqlite:///{tmp_path}/another.db")
    whole = Trainer(made)
    assert whole.sweep(given).summary.trained_now == 0
    assert whole.begun == [trainer.begun[0], *trainer.begun[2:]], "what was tried is the same"


def _kill(killing: pytest.MonkeyPatch, trainer: Trainer, in_trial: int, at_step: int) -> None:
    on_step = Listener.on_step

    def killed(self: Any, step: int, total_steps: int) -> None:
        if len(trainer.begun) == in_trial + 1 and step == at_step:
            raise Killed
        on_step(self, step, total_steps)

    killing.setattr(Listener, "on_step", killed)
    killing.setattr(running.Trials, "_give_up", lambda *_: None)
    killing.setenv("NIGHTSHIFT_CHECKPOINT_SECONDS", "0")


def test_a_trial_of_a_living_run_is_left_to_it(given: TuneParams, made: dict[str, Any]) -> None:
    """Two runs of one form share the trials, and wait for one another's."""
    first, second = Played(made), Played(made)
    with ThreadPoolExecutor(2) as threads:
        runs = [
            threads.submit(copy_context().run, trainer.sweep, given, trials=8)
            for trainer in (first, second)
        ]
        bests = {run.result().summary.best_trial for run in runs}
    assert bests == {max(bests)}, "both wait for the last trial"
    swept = Played(made).sweep(given, trials=8)
    assert len(first.begun) + len(second.begun) == swept.summary.done >= 8
    assert {trial_facts.state_of(t) for t in trials_of(swept.summary.study)} == {"done"}


@pytest.mark.usefixtures("_studies")
def test_whether_the_run_of_another_machine_is_over() -> None:
    before: list[bool] = []

    @flow(name="begins-a-trial")
    def begins() -> str:
        before.append(running._is_dead(_of_another_machine(flow_run_id())))
        return flow_run_id()

    over = begins()
    assert running._is_dead(_of_another_machine(over))
    assert not running._is_dead(_of_another_machine(""))
    with get_client(sync_client=True) as client:
        under_way = client.create_flow_run(begins, state=Running())
    assert not running._is_dead(_of_another_machine(str(under_way.id)))
    assert before == [True], "this very run, tried again elsewhere"
    young, old = _of_another_machine(""), _of_another_machine("")
    young.user_attrs, old.user_attrs = {}, {}
    old.datetime_start = datetime.now() - timedelta(minutes=5)
    assert running._is_dead(old) and not running._is_dead(young)


def _of_another_machine(run: str) -> FrozenTrial:
    trial = create_trial(
        state=TrialState.RUNNING,
        user_attrs={trial_facts.PROCESS: "another-machine:1:1", trial_facts.FLOW_RUN: run},
    )
    trial.datetime_start = datetime.now()
    return trial


def test_what_the_surroundings_did_is_no_fault_of_the_trial(
    given: TuneParams, made: dict[str, Any]
) -> None:
    trainer = Played(made)
    trainer.errors[1] = StoreUnavailableError("Nobody there")
    with pytest.raises(StoreUnavailableError):
        trainer.sweep(given)
    swept = trainer.sweep(given)
    assert trainer.begun[2] == trainer.begun[1] and swept.summary.done == 3
    states = [trial_facts.state_of(t) for t in trials_of(swept.summary.study)]
    assert states == ["done", "died", "done", "done"]


def test_a_failing_trial_is_recorded_and_the_sweep_goes_on(
    given: TuneParams, made: dict[str, Any]
) -> None:
    trainer = Played(made)
    trainer.errors[1] = SettingsError("The GPU has too little memory", "training.batch_size")
    swept = trainer.sweep(given)
    assert (swept.summary.done, swept.summary.failed) == (2, 1)
    failed = trials_of(swept.summary.study)[1]
    assert failed.state == TrialState.FAIL
    assert "too little memory" in failed.user_attrs[trial_facts.REASON]
    trainer.sweep(given)
    assert len(trainer.begun) == 3, "it is over, and is not tried again"
    assert trainer.sweep(given, trials=5).summary.done == 4, "a longer one goes on"


def test_failures_one_after_the_other_end_a_sweep(given: TuneParams, made: dict[str, Any]) -> None:
    trainer = Played(made)
    trainer.errors |= {n: NightshiftError("The loss is not a number") for n in range(3)}
    with pytest.raises(NightshiftError, match=r"3 trials failed in a row.*not a number"):
        trainer.sweep(given, trials=9)
    swept = trainer.sweep(given)
    assert swept.summary.done == 3, "where nothing came to a result, failures are forgotten"


def test_a_sweep_without_a_result_says_so(given: TuneParams, made: dict[str, Any]) -> None:
    trainer = Played(made)
    trainer.errors |= {n: NightshiftError("The loss is not a number") for n in range(2)}
    with pytest.raises(NightshiftError, match=r"No trial produced a result; 2 failed.*not a num"):
        trainer.sweep(given, trials=2)


def test_no_trial_begins_after_the_time(given: TuneParams, made: dict[str, Any]) -> None:
    trainer = Played(made)
    swept = trainer.sweep(given, trials=1000, timeout_hours=0.5 / 3600)
    assert 1 <= swept.summary.done < 1000


def test_a_training_that_does_worse_is_stopped_and_leaves_no_model(
    given: TuneParams, made: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Two played trials that are very good from the start, and a real one that learns nothing."""
    caplog.set_level(logging.INFO)
    pruning = {"after_trials": 2, "warm_up_epochs": 0}
    params = form(
        Path(given.training.base_model), "s3://any/where", "any",
        sweep__pruning=pruning, sweep__seed=given.sweep.seed, training__epochs=3,
    )  # fmt: skip
    study = Played(made).sweep(params, trials=2).summary.study
    with study_store() as store:
        found = store.find(study)
        assert found
        found.queue({"learning_rate": 1e-6, "batch_size": 16})
    trainer = Trainer(made)
    swept = trainer.sweep(params, trials=3)
    assert (swept.summary.done, swept.summary.pruned) == (2, 1)
    last = trials_of(study)[2]
    assert last.state == TrialState.PRUNED and len(last.intermediate_values) == 1
    assert "stopped after epoch 1" in caplog.text
    assert [t.learning_rate for t in trainer.begun] == [1e-6]
    models = [m.inputs["training"] for m in prepared_store().all("model")]
    stored = [training.get("learning_rate") for training in models]
    assert 1e-6 not in stored, "a training that was stopped left a model"
    again = trainer.trained(trainer.begun[0], None)
    assert isinstance(again, Reference), "by itself it is a training as any other"
    assert not again.reused and again.summary.epochs_run == 3


@pytest.mark.usefixtures("_studies")
def test_a_training_whose_study_is_nowhere_is_not_stopped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = TrialParams(study="tune-" + "0" * 32, number=0)
    with judge_of(nowhere) as judge:
        assert judge is None
    assert "the same for every worker" in caplog.text
    monkeypatch.setenv("NIGHTSHIFT_STUDY_DATABASE", "sqlite:////dev/null/studies.db")
    with judge_of(nowhere) as judge:
        assert judge is None
    assert "cannot be stopped early: The sweep database failed" in caplog.text


def test_a_model_that_is_gone_is_trained_again(given: TuneParams, made: dict[str, Any]) -> None:
    trainer = Trainer(made)
    first = trainer.sweep(given, trials=1)
    store = prepared_store()
    manifest = store.read(first.model.uri)
    assert manifest
    store.remove(manifest)
    second = trainer.sweep(given, trials=1)
    assert second.model.digest == first.model.digest and not second.model.reused
    assert trainer.begun == [given.training] * 2


def test_several_at_once_share_the_study(
    given: TuneParams, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a pool; they report to the study as other machines would."""
    monkeypatch.setenv("NIGHTSHIFT_TRAINING_DEPLOYMENT", "fine-tune/fine-tune")
    trainer = Played(made)
    swept = trainer.sweep(given, trials=6, at_once=2)
    assert trainer.most_at_once == 2 and swept.summary.done == 6
    trials = trials_of(swept.summary.study)
    assert swept.summary.best_trial == 5 and all(len(t.intermediate_values) == 3 for t in trials)
    assert len({str(t.params) for t in trials}) == 6


def test_in_one_process_trainings_come_one_after_the_other(
    given: TuneParams, made: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Played(made)
    trainer.sweep(given, at_once=2)
    assert trainer.most_at_once == 1 and "One training at a time" in caplog.text


def test_trials_on_a_pool_run_at_once_and_say_which_they_are(
    given: TuneParams,
    made: dict[str, Any],
    deployment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pool is played: it hands back a model, and for the last trial what is left of one that was stopped."""
    monkeypatch.setenv("NIGHTSHIFT_TRAINING_DEPLOYMENT", deployment)
    prepared = made["prepared"]
    stopped = PrunedTraining(
        epochs=1, steps=4, validation={"loss": 0.7, "accuracy": 0.5}, mlflow_run_id="x"
    )
    asked: list[dict[str, Any]] = []
    running_now: list[UUID] = []

    def trains(client: SyncPrefectClient, run: UUID, number: int) -> None:
        asked.append(client.read_flow_run(run).parameters["params"])
        client.set_flow_run_state(run, Running(), force=True)
        running_now.append(run)
        if len(running_now) == 2:  # both are under way before either is over
            for one, params in zip(running_now, asked[-2:], strict=True):
                settings = TrainingParams.model_validate(params["training"])
                model = as_if_trained(made, settings)
                result = stopped if params["trial"]["number"] == 3 else model
                object_store().write_bytes(result.model_dump_json().encode(), _result_uri(str(one)))
                client.set_flow_run_state(one, Completed(), force=True)
            running_now.clear()

    @flow(name="sweeps-on-a-pool")
    def sweeps() -> Swept:
        def train(training: TrainingParams, trial: TrialParams | None) -> Outcome:
            return train_trial(prepared.tokens, prepared.base, given.tokenization, training, trial)

        sweep = given.sweep.model_copy(update={"trials": 4, "at_once": 2})
        return run_sweep(prepared.tokens, prepared.base, given.training, sweep, train)

    with Worker(trains):
        swept = sweeps()
    assert (swept.summary.done, swept.summary.pruned) == (3, 1)
    named = {(params["trial"]["study"], params["trial"]["number"]) for params in asked}
    assert named == {(swept.summary.study, number) for number in range(4)}
    assert all(FineTuneParams.model_validate(params).trial for params in asked)
    assert len({params["training"]["learning_rate"] for params in asked}) == 4
