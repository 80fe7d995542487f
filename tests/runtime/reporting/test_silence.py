"""Long work that has nothing to report says so every half minute, and stops with its end."""

import contextvars
import logging
import threading
import time

import pytest

from tasks.runtime import steps
from tasks.runtime.reporting import silence
from tasks.runtime.reporting.logs import ReadableRecord
from tasks.runtime.reporting.silence import still_doing


@pytest.fixture(autouse=True)
def half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_SILENT_SECONDS", 0.2)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "still-doing"]


def test_silent_work_says_that_it_goes_on() -> None:
    told: list[str] = []
    with still_doing("starting mlflow", told.append):
        time.sleep(0.7)
    assert 2 <= len(told) <= 3 and set(told) <= {
        "Still starting mlflow: 0 s",
        "Still starting mlflow: 1 s",
    }
    assert not watchers()
    time.sleep(0.3)
    assert len(told) <= 3


def test_work_that_logs_is_not_interrupted() -> None:
    told: list[str] = []
    with still_doing("training", told.append):
        for _ in range(12):
            ReadableRecord("tasks.x", logging.INFO, "x.py", 1, "Step 1", (), None)
            time.sleep(0.05)
    assert told == []


def test_short_work_and_errors_leave_nothing_behind() -> None:
    told: list[str] = []
    with pytest.raises(RuntimeError), still_doing("failing", told.append):
        raise RuntimeError
    assert told == [] and not watchers()


def test_of_several_at_once_the_last_begun_speaks() -> None:
    told: list[str] = []
    with still_doing("running the trials", told.append):
        with still_doing("waiting for a trial", told.append):
            time.sleep(0.7)
        assert told and set(told) <= {f"Still waiting for a trial: {n} s" for n in range(3)}
        told.clear()
        time.sleep(0.7)
    assert told and set(told) <= {f"Still running the trials: {n} s" for n in range(4)}


def test_a_line_belongs_to_the_run_it_is_of() -> None:
    run = contextvars.ContextVar("run", default="none")
    runs: list[str] = []
    run.set("retrain")
    with still_doing("judging", lambda _: runs.append(run.get())):
        time.sleep(0.3)
    assert runs and set(runs) == {"retrain"}


def test_every_step_says_that_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, silence.__name__)

    @steps.step
    def judge() -> int:
        time.sleep(0.3)
        return 7

    assert judge.fn() == 7 and judge.name == "judge"
    assert caplog.messages[0] == "Still running judge: 0 s"
