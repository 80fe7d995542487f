"""A run that waits for a person, on a real server: approved, rejected, and nobody there."""

import dataclasses
import threading
import time
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flow_runs import resume_flow_run

from tasks.core.errors import SettingsError
from tasks.core.release.gate.approval import ApprovalParams
from tasks.registry.decisions import NOBODY
from tasks.release.approval import ask_for_approval

pytestmark = pytest.mark.prefect


@flow(name="waits-for-a-person")
def waits(hours: float) -> dict[str, Any]:
    return dataclasses.asdict(ask_for_approval("# Evidence", ApprovalParams(timeout_hours=hours)))


def paused_run() -> FlowRun:
    """The run that waits."""
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    )
    with get_client(sync_client=True) as client:
        for _ in range(300):
            if runs := client.read_flow_runs(flow_run_filter=wanted):
                return runs[0]
            time.sleep(0.1)
    raise AssertionError("no run waits")


def answer(said: dict[str, str], refused: list[str]) -> None:
    run = paused_run()
    for nonsense in ({"decision": "Perhaps", "name": "Ann", "comment": "Hm."}, {}):
        try:
            resume_flow_run(run.id, run_input=nonsense)
        except Exception as error:
            refused.append(type(error).__name__)
    resume_flow_run(run.id, run_input=said)


@pytest.mark.parametrize("decision", ["Approve", "Reject"])
def test_who_decided_what_and_why(services: object, decision: str) -> None:
    refused: list[str] = []
    said = {"decision": decision, "name": " Ann Example ", "comment": "Looked at the report."}
    person = threading.Thread(target=answer, args=(said, refused))
    person.start()
    made = waits(1.0)
    person.join()
    assert made.pop("when").startswith("20")
    kind = {"Approve": "approved", "Reject": "rejected"}[decision]
    assert made == {"kind": kind, "who": "Ann Example", "why": "Looked at the report."}
    assert len(refused) == 2  # what does not fit the form does not resume the run


def test_silence_is_a_no(services: object) -> None:
    started = time.monotonic()
    state: Any = waits(2 / 3600, return_state=True)
    assert state.is_completed() and time.monotonic() - started < 60
    made = state.result()
    assert (made["kind"], made["who"]) == ("rejected", NOBODY)


def test_outside_of_a_run_nobody_can_be_asked() -> None:
    with pytest.raises(SettingsError, match=r"Only a flow run can wait .*approval.required"):
        ask_for_approval("# Evidence", ApprovalParams())
