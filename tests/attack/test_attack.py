"""Nobody comes in: the servers of a flow, `make up` and `make up-ha`, attacked as another user and as a web page."""

import os
import shutil

import pytest

from deployments.stack.high_availability.debian import require_installed
from tasks.core.errors import ServiceError
from tests.attack import web_page
from tests.attack.answers import Verdict
from tests.attack.attack import attacked
from tests.attack.subjects import KINDS, Subject
from tests.paths import ROOT

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"),
    reason="only root can become another user of the machine",
)


def misses(verdicts: list[Verdict]) -> str:
    return "\n".join(f"{v.target}: {v.tried}: {v.answer}" for v in verdicts if v.had)


@pytest.mark.slow
def test_nobody_comes_into_the_servers_of_a_flow() -> None:
    with Subject(*KINDS["embedded"], root=ROOT) as subject:
        verdicts = attacked(subject, browser=False, patience_seconds=3)
    assert not misses(verdicts), misses(verdicts)
    assert {v.why for v in verdicts} >= {"refused", "UI files", "unharmed", "this machine only"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(bool(web_page.why_not()), reason=web_page.why_not() or "there is a browser")
def test_nobody_comes_into_make_up() -> None:
    with Subject(*KINDS["up"], root=ROOT) as subject:
        verdicts = attacked(subject, browser=True)
    assert not misses(verdicts), misses(verdicts)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nobody_comes_into_make_up_ha() -> None:
    try:
        require_installed()
    except ServiceError as error:
        pytest.skip(str(error))
    with Subject(*KINDS["ha"], root=ROOT) as subject:
        verdicts = attacked(subject, browser=not web_page.why_not())
    assert not misses(verdicts), misses(verdicts)
    servers = {"Prefect", "Prefect, server 1", "Prefect, server 2", "MLflow", "PostgreSQL", "Redis"}
    assert servers <= {v.target for v in verdicts}
