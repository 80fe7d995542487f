"""A scoring run shared among workers: on Ray and Dask by Prefect's task runners, the same outputs as alone."""

import importlib.util
from pathlib import Path

import pytest

from flows.forms.scoring import ScoreParams
from flows.retrain import retrain
from flows.score import score
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import SettingsError
from tasks.core.scoring import sharding
from tests.retraining import deliver, params
from tests.reviews import jsonl, reviews

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


@pytest.fixture
def inbox(services: ObjectStore, prefix: str, bert: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Reviews in four shards, and a champion."""
    monkeypatch.setattr(sharding, "SHARD_OBJECTS", 3)
    retrain(params(bert, deliver(services, prefix), "shared"))
    for number in range(12):
        services.write_bytes(jsonl(reviews(20, seed=number)), f"{prefix}/inbox/{number:02}.jsonl")
    return f"{prefix}/inbox/"


@pytest.mark.parametrize("runner", ["ray", "dask"])
def test_the_same_outputs_as_alone(
    services: ObjectStore,
    prefix: str,
    inbox: str,
    runner: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"needs the extra {runner}")
    given = ScoreParams(input=inbox, output=f"{prefix}/alone", model_name="shared")
    alone = score(given)
    results = [o for o in services.scan(f"{alone.place}/plans/") if "/results/" in o.uri]
    assert len(results) == 4
    monkeypatch.setenv("NIGHTSHIFT_TASK_RUNNER", runner)
    changed = {"output": f"{prefix}/shared", "workers": 2}
    shared = score(given.model_copy(update=changed))
    assert shared.counts == alone.counts and shared.scored == 12
    for number in range(12):
        one, other = (services.read_bytes(f"{s.root}/{number:02}.jsonl") for s in (alone, shared))
        assert one and one == other


def test_workers_nobody_has_named(services: ObjectStore, prefix: str, inbox: str) -> None:
    given = ScoreParams(input=inbox, output=f"{prefix}/out", model_name="shared", workers=3)
    with pytest.raises(SettingsError, match=r"3 workers were requested.*NIGHTSHIFT_TASK_RUNNER"):
        score(given)


def test_one_shard_needs_no_workers(services: ObjectStore, prefix: str, inbox: str) -> None:
    """However many are asked for."""
    given = ScoreParams(
        input=f"{inbox}00.jsonl", output=f"{prefix}/out", model_name="shared", workers=3
    )
    assert score(given).scored == 1
