"""Reviews that were scored: which are read again, how often, and which are left out."""

from collections.abc import Sequence

import pytest

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectInfo, ObjectStore
from tasks.core.data.texts import matching_form
from tasks.core.digests import canonical_json
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.results import ObjectResult, ShardResult
from tasks.core.scoring.sharding import Entry, Shard
from tasks.engines import scored_texts
from tasks.engines.scored_texts import texts_scored_before
from tasks.registry.usage_records import mark_scoring
from tasks.scoring.store.run_store import result_uri, shard_uri
from tests.core.scoring.scoring_runs import scoring_run

OLD, NEW = "019ac000-0000-7000-8000-000000000000", "019ad000-0000-7000-8000-000000000000"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Objects that were opened."""
    found: list[str] = []
    original = ExactObjects.open

    def noted(self: ExactObjects, info: ObjectInfo, *span: int | None) -> object:
        found.append(info.uri)
        return original(self, info, *span)  # type: ignore[arg-type]

    monkeypatch.setattr(ExactObjects, "open", noted)
    return found


def delivered(
    store: ObjectStore, prefix: str, texts: Sequence[str], encoding: str = "utf-8"
) -> None:
    for number, text in enumerate(texts):
        store.write_bytes(f"text\n{text}\n".encode(encoding), f"{prefix}/in/{number:03}.csv")


def scored(store: ObjectStore, prefix: str, model: str, run: str, **given: object) -> ScoringRun:
    """A run that has scored all that lies there."""
    fields: dict[str, object] = {"input": f"{prefix}/in/", "output": f"{prefix}/out"}
    version = {"name": model, "version": "3", "model_digest": "d", "run_id": "r"}
    made = scoring_run(**fields | {"model": version, "run": run, "plan": "p"} | given)
    items = list(store.scan(made.input))
    entries = [Entry(i.uri.removeprefix(made.input), i.size, i.etag) for i in items]
    done = [ObjectResult(key=e.key, etag=e.etag, state="scored") for e in entries]
    result = ShardResult(number=0, objects=done, seconds=1)
    store.write_bytes(Shard(0, [entries]).to_json(), shard_uri(made, 0))
    store.write_bytes(canonical_json(result.model_dump()).encode(), result_uri(made, 0))
    store.write_bytes(made.model_dump_json().encode(), f"{made.place}/manifest.json")
    mark_scoring(made)
    return made


def test_an_object_that_many_runs_have_scored_is_opened_once(
    configured: ObjectStore, prefix: str, opened: list[str]
) -> None:
    delivered(configured, prefix, ["one", "two", "three"])
    for run in (OLD, NEW, "0" * 16):
        scored(configured, prefix, "again", run)
    assert texts_scored_before("again", 4) == []  # below 500
    assert len(opened) == len(set(opened)) == 3


def test_no_more_objects_are_opened_than_a_night_has_time_for(
    configured: ObjectStore, prefix: str, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored_texts, "_MOST_OBJECTS", 2)
    monkeypatch.setattr(scored_texts, "_ROUNDED_TO", 1)
    delivered(configured, prefix, ["one", "two", "three"])
    for run in (OLD, NEW):
        scored(configured, prefix, "many", run)
    assert texts_scored_before("many", 9) == ["one", "two"] and len(opened) == 2


def test_the_latest_runs_are_asked_first(
    configured: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time in their ID, wherever a random one sorts."""
    monkeypatch.setattr(scored_texts, "_MOST_RUNS", 1)
    monkeypatch.setattr(scored_texts, "_ROUNDED_TO", 1)
    for run in ("0" * 16, OLD, "f" * 16, NEW):
        delivered(configured, f"{prefix}/{run}", [f"of {run}"])
        scored(configured, prefix, "latest", run, input=f"{prefix}/{run}/in/")
    assert texts_scored_before("latest", 9) == [f"of {NEW}"]


def test_a_bucket_that_is_gone_leaves_the_other_places(
    configured: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored_texts, "_ROUNDED_TO", 1)
    delivered(configured, prefix, ["still there"])
    scored(configured, prefix, "gone", OLD)
    mark_scoring(
        scored(configured, prefix, "gone", NEW).model_copy(
            update={"output": "s3://no-such-bucket/out"}
        )
    )
    spoilt = scored(configured, prefix, "gone", "f" * 16)
    configured.write_bytes(b"{}", result_uri(spoilt, 0))
    assert texts_scored_before("gone", 9) == ["still there"]


def test_texts_are_read_in_the_encoding_of_their_run(configured: ObjectStore, prefix: str) -> None:
    delivered(configured, prefix, ["Très bon café"], "cp1252")
    scored(configured, prefix, "encoded", NEW, encoding="cp1252")
    assert texts_scored_before("encoded", 1) == ["Très bon café"]


def test_what_is_in_the_test_set_is_left_out(
    configured: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored_texts, "_ROUNDED_TO", 1)
    delivered(configured, prefix, ["A GOOD  film<br/>", "another"])
    scored(configured, prefix, "tested", NEW)
    assert texts_scored_before("tested", 9) == ["A GOOD  film<br/>", "another"]
    assert texts_scored_before("tested", 9, {matching_form("a good film")}) == ["another"]
