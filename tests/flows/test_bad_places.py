"""Odd keys and refusing stores end as the table says: scored, failing alone, or stopped by one sentence of advice."""

import re
from collections.abc import Iterator

import pytest

from tasks.connectors.servers.seaweedfs import SeaweedFS
from tests.flows.bad_places import CASES, Case, a_server, outcome


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[SeaweedFS, tuple[str, str]]]:
    """A server with an identity of few rights."""
    with a_server(tmp_path_factory.mktemp("places")) as made:
        yield made


# botocore asks eight times, with pauses
_PATIENT = ("overloaded", "nobody at")


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(
            n, id=case.title, marks=[pytest.mark.slow] * any(w in case.title for w in _PATIENT)
        )
        for n, case in enumerate(CASES)
    ],
)
def test_odd_places(number: int, server: tuple[SeaweedFS, tuple[str, str]]) -> None:
    case: Case = CASES[number]
    found = outcome(case, number, *server)
    assert found.outcome == case.outcome, found
    assert bool(found.message) == bool(case.message) and re.search(case.message, found.message)
    assert "lovely" not in found.message and "\n" not in found.message
    assert server[0].secret_key not in found.message and server[1][1] not in found.message
