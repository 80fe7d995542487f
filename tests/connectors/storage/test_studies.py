"""Studies in a database: what several processes do at once, what is refused, and what never shows a password."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from optuna.pruners import NopPruner, ThresholdPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from tasks.connectors.storage.studies import Study, StudyStore
from tasks.core.errors import ServiceError, SettingsError
from tasks.core.training.tuning.params import SpaceParams
from tasks.core.training.tuning.sweep import distributions

SPACE = distributions(SpaceParams())


def ask(study: Study, seed: int = 0) -> int:
    return study.ask(SPACE, RandomSampler(seed=seed), {"whose": "mine"}).number


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/studies.db"


def test_what_is_told_is_there_for_another(url: str) -> None:
    with StudyStore(url) as store:
        study = store.open("a", "maximize", {"metric": "accuracy"})
        done, stopped, failed = (ask(study, seed) for seed in range(3))
        assert study.tell(done, TrialState.COMPLETE, 0.9, {"model": "s3://b/m"})
        study.report(stopped, [0.5, 0.4], NopPruner())
        assert study.tell(stopped, TrialState.PRUNED)
        assert study.tell(failed, TrialState.FAIL, attributes={"reason": "diverged"})
    with StudyStore(url) as store:
        study = store.open("a", "maximize", {"metric": "another, which comes too late"})
        assert study.facts == {"metric": "accuracy"}
        first, second, third = study.trials()
        assert first.values == [0.9] and first.user_attrs == {"whose": "mine", "model": "s3://b/m"}
        assert set(first.params) == set(SPACE)
        assert second.state == TrialState.PRUNED and second.intermediate_values == {1: 0.5, 2: 0.4}
        assert third.state == TrialState.FAIL and third.user_attrs["reason"] == "diverged"
        assert store.find("b") is None


def test_a_trial_ends_once(url: str) -> None:
    with StudyStore(url) as store, StudyStore(url) as other:
        study = store.open("a", "maximize", {})
        number = ask(study)
        theirs = other.find("a")
        assert theirs and theirs.tell(number, TrialState.COMPLETE, 0.7)
        assert not study.tell(number, TrialState.FAIL, attributes={"reason": "late"})
        (trial,) = study.trials()
        assert trial.values == [0.7] and "reason" not in trial.user_attrs
        assert not study.report(number, [0.1], ThresholdPruner(lower=0.5)), "nobody waits for it"


def test_what_was_queued_comes_next_and_keeps_its_parameters(url: str) -> None:
    with StudyStore(url) as store:
        study = store.open("a", "minimize", {})
        study.queue({"learning_rate": 1e-4})
        trial = study.ask(SPACE, RandomSampler(seed=1), {})
        assert trial.params["learning_rate"] == 1e-4 and set(trial.params) == set(SPACE)


def test_epochs_are_reported_once_and_the_pruner_is_asked(url: str) -> None:
    with StudyStore(url) as store:
        study = store.open("a", "maximize", {})
        number = ask(study)
        pruner = ThresholdPruner(lower=0.3)
        assert not study.report(number, [0.6], pruner)
        assert study.report(number, [0.6, 0.2], pruner)
        assert study.report(number, [0.6, 0.2], pruner), "a training that died says it again"
        assert study.trials()[0].intermediate_values == {1: 0.6, 2: 0.2}
        with pytest.raises(ServiceError, match="no trial 9"):
            study.report(9, [0.5], pruner)


_PROCESS = """
import sys
from optuna.distributions import FloatDistribution
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from tasks.connectors.storage.studies import StudyStore
with StudyStore(sys.argv[1]) as store:
    study = store.open("shared", "maximize", {})
    for index in range(5):
        trial = study.ask({"x": FloatDistribution(0, 1)}, RandomSampler(seed=index), {})
        study.report(trial.number, [0.1, 0.2], NopPruner())
        study.tell(trial.number, TrialState.COMPLETE, 0.5)
"""


def test_processes_that_make_one_sqlite_file_at_once_and_write_to_it(url: str) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", _PROCESS, url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with StudyStore(url) as store:
        trials = store.open("shared", "maximize", {}).trials()
    assert [t.number for t in trials] == list(range(15))
    assert all(t.values == [0.5] and len(t.intermediate_values) == 2 for t in trials)


def test_threads_report_at_once(url: str) -> None:
    with StudyStore(url) as store:
        study = store.open("a", "maximize", {})
        numbers = [ask(study, seed) for seed in range(4)]

        def report(number: int) -> None:
            with StudyStore(url) as own:
                found = own.find("a")
                assert found
                for epochs in range(1, 6):
                    found.report(number, [0.1] * epochs, NopPruner())

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(report, numbers))
        assert all(len(t.intermediate_values) == 5 for t in study.trials())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("studies.db", "Not the URL of a database"),
        ("oracle7://u:s3cret@h/x", "driver of this database is not installed"),
        ("mysql+nodriver://u:s3cret@h/x", "driver of this database is not installed"),
    ],
)
def test_a_wrong_url_is_a_sentence_without_the_password(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=rf"{message}.*NIGHTSHIFT_STUDY_DATABASE") as caught:
        StudyStore(url)
    assert "s3cret" not in str(caught.value)


def test_a_database_that_cannot_be_written_to_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "studies.db").mkdir()
    with pytest.raises(
        ServiceError, match=r"failed while connecting: .*unable to open database file"
    ):
        StudyStore(f"sqlite:///{tmp_path}/studies.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match=r"Not a directory|File exists"):
        StudyStore(f"sqlite:///{tmp_path}/file/studies.db")


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "studies.db").write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(ServiceError, match="file is not a database"):
        StudyStore(f"sqlite:///{tmp_path}/studies.db")
