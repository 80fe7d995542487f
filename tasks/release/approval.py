"""Approval by a person: the run pauses, its page shows the evidence and a form, and the decision is recorded.

No answer means no: at the timeout the run answers "Reject" itself, so that it ends in a state that says what happened
(a pause that expires would end as a failure).
"""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import httpx
from prefect.exceptions import PrefectException
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from tasks.core.errors import SettingsError
from tasks.core.markdown import Markdown
from tasks.core.parsing.patterns import SAID_BY_PEOPLE
from tasks.core.release.gate.approval import ApprovalParams
from tasks.core.release.report.parts import Decision
from tasks.registry.decisions import NOBODY

logger = logging.getLogger(__name__)

_POLL_SECONDS = 2
_SPARE_SECONDS = 3600  # so that the server does not expire the pause first


class ApprovalForm(RunInput):
    """The form on the page of the paused run."""

    decision: Literal["Approve", "Reject"] = Field(
        description="Approve: the model becomes champion, and the next scoring run uses it. Reject: it stays "
        "challenger.",
        json_schema_extra={"position": 0},
    )
    name: Annotated[str, SAID_BY_PEOPLE] = Field(
        min_length=2,
        max_length=100,
        description="Your name, recorded with the decision. It is not verified.",
        json_schema_extra={"position": 1},
    )
    comment: Annotated[str, SAID_BY_PEOPLE] = Field(
        min_length=3,
        max_length=500,
        description="Your reason, recorded with the decision.",
        json_schema_extra={"position": 2},
    )


def ask_for_approval(evidence: Markdown, params: ApprovalParams, about: str = "") -> Decision:
    """Pause the flow run until somebody decides or the time is over. The name of the person is taken as given.

    Args:
        evidence: shown above the form.
        params: how long to wait.
        about: distinguishes the questions of a run, so that a run that is retried, or judges again, asks again.
    Raises:
        SettingsError: not inside a flow run that a server knows.
    """
    if not flow_run.id:
        raise SettingsError(
            "Only a flow run can wait for a person", "approval.required", "start it as a flow"
        )
    seconds = round(params.timeout_hours * 3600)
    logger.warning(
        "Waiting for a person to approve or reject, at most %s: press Resume on this run's page",
        f"{params.timeout_hours:g} hours" if seconds >= 3600 else f"{seconds} s",
    )
    form = ApprovalForm.with_initial_data(description=str(evidence))
    with _rejected_after(max(1, seconds), UUID(flow_run.id)):
        answer = pause_flow_run(
            wait_for_input=form,
            timeout=seconds + _SPARE_SECONDS,
            poll_interval=_POLL_SECONDS,
            key=f"approval-{flow_run.run_count}-{about}",
        )
    decision = Decision(
        kind="approved" if answer.decision == "Approve" else "rejected",
        who=answer.name.strip(),
        why=answer.comment.strip(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    logger.info("%s by %s: %s", decision.kind.capitalize(), decision.who, decision.why)
    return decision


@contextmanager
def _rejected_after(seconds: float, run_id: UUID) -> Generator[None]:
    """Reject on nobody's behalf at the timeout."""

    def reject() -> None:
        answer = {
            "decision": "Reject",
            "name": NOBODY,
            "comment": f"Nobody decided within {seconds / 3600:g} hours.",
        }
        try:
            resume_flow_run(run_id, run_input=answer)
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning(
                "The rejection at the time-out was not accepted (somebody may have answered first): %s",
                type(error).__name__,
            )

    timer = threading.Timer(seconds, reject)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
