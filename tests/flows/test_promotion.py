"""promote, rollback and history on real servers, and a scoring run that keeps its version while the champion moves."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import worker
from flows.forms.registry import HistoryParams, PromoteParams, RollbackParams
from flows.forms.scoring import ScoreParams
from flows.history import history
from flows.promote import promote
from flows.rollback import rollback
from flows.score import score
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking import champion
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.core.errors import ConflictError, ModelError, RegistryUnavailableError
from tasks.core.records import ModelVersion, Promotion
from tasks.core.tags import (
    DECISION_TAG,
    ENGINE_IDENTITY_TAG,
    GATE_TAG,
    MODEL_DIGEST_TAG,
    VERDICT_TAG,
)
from tasks.registry import champion as promotion
from tasks.registry.champion import (
    find_champion,
    move_champion,
    pin_version,
    reconcile_all,
    rows_of,
)
from tasks.registry.decisions import human_veto
from tasks.scoring.shards import ShardWork
from tests.connectors.tracking.test_promotion_log import Parts, away_once

pytestmark = pytest.mark.prefect


@pytest.fixture
def parts(
    services: ObjectStore,
    registry: ModelRegistry,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Parts:
    """A model of three versions, without a champion."""
    monkeypatch.setattr(champion, "_LATE_SECONDS", 0.05)
    made = Parts(services, registry, request.node.name.replace("[", "-").rstrip("]"))
    made.add(3)
    return made


def promoted(parts: Parts, version: str, who: str = "Ada", **given: Any) -> Promotion:
    said = {"model_name": parts.name, "version": version, "who": who, "reason": "a test"}
    return promote(PromoteParams.model_validate(said | given))


def rolled_back(parts: Parts, who: str = "Grace", **given: Any) -> Promotion:
    said = {"model_name": parts.name, "who": who, "reason": "it was worse"}
    return rollback(RollbackParams.model_validate(said | given))


def same_weights(parts: Parts, folder: Path, engine: str) -> ModelVersion:
    """One more version of one training, scored by an engine."""
    (folder / "config.json").write_text("{}")
    with parts.registry.run("r", {}, {}) as run:
        pass
    tags = {MODEL_DIGEST_TAG: "weights", ENGINE_IDENTITY_TAG: engine}
    return parts.registry.register(parts.name, folder, run.id, tags, "")


def test_what_people_said_of_weights_holds_for_every_engine(parts: Parts, tmp_path: Path) -> None:
    """Version 1 is another model than those that are registered here, which have the same weights."""
    said = human_veto.fn
    two, three = (same_weights(parts, tmp_path, engine) for engine in ("torch", "openvino"))
    promoted(parts, "1")
    promoted(parts, two.version)
    promoted(parts, three.version)
    rolled_back(parts, "Grace", to_version=two.version)  # she prefers the engine
    assert "took it back" in said(three) and said(two) == ""
    assert said(same_weights(parts, tmp_path, "onnx")) == ""
    rolled_back(parts, "Ann", to_version="1")  # she does not want the model
    four = same_weights(parts, tmp_path, "cascade")
    assert all("rollback by Ann" in said(one) for one in (two, three, four))
    with pytest.raises(ModelError, match="People have decided against"):
        promoted(parts, four.version)
    promoted(parts, four.version, overrule=True)
    assert said(two) == said(four) == ""


def test_a_rejection_is_of_the_weights(parts: Parts, tmp_path: Path) -> None:
    first, second = (same_weights(parts, tmp_path, engine) for engine in ("torch", "openvino"))
    rejected = {DECISION_TAG: "stays challenger: rejected by Ann: rude"}
    parts.registry.describe_version(first, rejected)
    assert "rejected by Ann" in human_veto.fn(second)
    decided = {DECISION_TAG: "champion, approval by Ann: mended"}
    parts.registry.describe_version(second, decided)
    assert human_veto.fn(second) == ""


def test_forward_back_and_forward_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published: list[list[dict[str, str]]] = []
    monkeypatch.setattr(
        promotion.artifacts, "publish_table", lambda _, rows, __: published.append(rows)
    )
    parts.registry.set_alias(parts.version[1], "challenger")
    first = promoted(parts, "challenger")
    assert (first.kind, first.from_version, first.to_version) == ("promote", "", "1")
    assert (first.who, first.why) == ("Ada", "a test") and first.flow_run
    promoted(parts, "3")
    promoted(parts, "2")
    assert rolled_back(parts).to_version == "3" and parts.aliases() == ("3", "2")
    with pytest.raises(
        ModelError, match=r"Grace rolled back from version 2 to version 3 .*name the version: 2"
    ):
        rolled_back(parts)  # pressed twice, or by two people at once
    assert rolled_back(parts, to_version="2").to_version == "2"
    assert rolled_back(parts, to_version="1").kind == "rollback"
    assert parts.aliases() == ("1", "2")

    parts.client.delete_model_version(parts.name, "3")
    told = history(HistoryParams(model_name=parts.name, last=4))
    assert [m.number for m in told.moves] == [3, 4, 5, 6]
    assert [(row["from"], row["to"], row["who"]) for row in rows_of(told)] == [
        ("2", "1", "Grace"),
        ("3 (deleted)", "2", "Grace"),
        ("2", "3 (deleted)", "Grace"),
        ("3 (deleted)", "2", "Ada"),
    ]
    assert published == [rows_of(told)] and "not by Nightshift" not in caplog.text


def test_what_the_gate_has_refused_must_be_overruled(parts: Parts) -> None:
    verdict = (
        "do not promote (passed beats the baseline: 0.9 against 0.8 (paired); FAILED slices: long reviews "
        "0.51, margin 0.02; FAILED calibration: 0.2 (limit 0.1))"
    )
    parts.registry.describe_version(parts.version[1], {GATE_TAG: "passed", VERDICT_TAG: "promote"})
    parts.registry.describe_version(parts.version[2], {GATE_TAG: "refused", VERDICT_TAG: verdict})
    assert promoted(parts, "1").kind == "promote"
    with pytest.raises(ModelError) as caught:
        promoted(parts, "2")
    said = str(caught.value)
    assert f"The gate has refused {parts.version[2]}" in said and "set overrule" in said
    assert "FAILED slices: long reviews 0.51, margin 0.02; FAILED calibration: 0.2" in said
    assert "beats the baseline" not in said and parts.aliases() == ("1", "")
    overruled = promoted(parts, "2", overrule=True)
    assert (overruled.kind, overruled.who) == ("overrule", "Ada") and parts.aliases() == ("2", "1")
    assert promoted(parts, "3").kind == "promote", "a version that never met a gate"


def test_a_run_that_is_tried_again_moves_once(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retry in the UI, after a rollback whose run died at its very end, must not undo it."""
    promoted(parts, "1")
    promoted(parts, "2")
    monkeypatch.setattr(promotion, "flow_run_id", lambda: "the same run")
    first = rolled_back(parts)
    assert rolled_back(parts) == first and promoted(parts, "3") == first
    assert parts.aliases() == ("1", "2") and len(parts.moves()) == 3


def test_a_step_that_met_an_outage_ends_its_move(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "flows.promote.move_champion", move_champion.with_options(retry_delay_seconds=0)
    )
    promoted(parts, "1")
    away_once(monkeypatch, "set_alias")
    assert promoted(parts, "2").number == 2
    assert parts.moves()[1:] == [(2, "promote", "1", "2")] and parts.aliases() == ("2", "1")


def test_two_retrainings_that_end_at_once(parts: Parts) -> None:
    """Both have compared their model with version 1; the second one must compare again."""
    promoted(parts, "1")
    seen = find_champion.fn(parts.name)
    move_champion.fn(parts.version[2], "gate", "retrain", "passed", seen, "s3://evidence")
    with pytest.raises(ConflictError, match="is now 2, no longer 1"):
        move_champion.fn(parts.version[3], "gate", "retrain", "passed", seen, "s3://evidence")
    again = find_champion.fn(parts.name)
    move = move_champion.fn(parts.version[3], "gate", "retrain", "passed", again, "s3://evidence")
    assert (move.from_version, move.evidence) == ("2", "s3://evidence")


def test_a_deleted_champion_stops_scoring_with_a_way_out(parts: Parts) -> None:
    with pytest.raises(ModelError, match=r"no 'champion' of model .*run retrain first"):
        pin_version.fn(parts.name, "champion")
    promoted(parts, "1")
    with pytest.raises(ModelError, match="has no predecessor that still exists"):
        rolled_back(parts)
    promoted(parts, "2")
    parts.client.delete_model_version(parts.name, "2")
    said = r"no longer has a champion: version 2 was deleted in MLflow.*run rollback to go back to version 1"
    with pytest.raises(ModelError, match=said):
        pin_version.fn(parts.name, "champion")
    assert find_champion.fn(parts.name) is None, "and a retraining goes on"
    with pytest.raises(ModelError, match="no '2' of model"):
        promoted(parts, "2")
    assert rolled_back(parts).to_version == "1" and parts.aliases() == ("1", "")
    assert pin_version.fn(parts.name, "champion") == parts.version[1]


def test_tidying_ends_what_the_dead_left(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    promoted(parts, "1")
    reconcile_all.fn()
    assert reconcile_all.fn() == 0
    away_once(monkeypatch, "set_alias")
    with pytest.raises(RegistryUnavailableError):
        parts.move(2, 1)
    assert reconcile_all.fn() == 1 and parts.aliases() == ("2", "1")
    parts.client.set_registered_model_alias(parts.name, "champion", "3")
    assert reconcile_all.fn() == 1 and parts.moves()[-1] == (3, "by hand", "2", "3")
    assert reconcile_all.fn() == 0


def test_the_history_is_there_while_mlflow_is_away(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    promoted(parts, "1")

    def away(*_: Any) -> Any:
        raise RegistryUnavailableError("Looking up failed: refused", "http://mlflow", "wait")

    monkeypatch.setattr(ModelRegistry, "aliases", away)
    told = history(HistoryParams(model_name=parts.name))
    assert told.versions is None and rows_of(told)[0]["to"] == "1"
    assert "Moves by hand since the last recorded one are unknown" in caplog.text


@pytest.fixture
def inbox(services: ObjectStore, prefix: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Reviews, and a model that costs nothing, whichever version is asked for."""
    monkeypatch.setattr(worker.shards, "_loaded", None)
    worker.use_text_model()
    for name in ("a", "b", "c"):
        lines = [json.dumps({"id": f"{name}{n}", "text": f"review {n}"}) for n in range(20)]
        services.write_bytes("\n".join(lines).encode(), f"{prefix}/in/{name}.jsonl")
    return f"{prefix}/in/"


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> list[Any]:
    """Something happens once, in another run, right before the first object is committed."""
    original, done = ShardWork._commit, list[Any]()

    def commit(self: ShardWork, *given: Any) -> Any:
        if not done:
            done.append(None)
            other = threading.Thread(target=lambda: done.append(happens()))
            other.start()
            other.join()
        return original(self, *given)

    monkeypatch.setattr(ShardWork, "_commit", commit)
    return done


def test_a_rollback_while_a_scoring_run_is_under_way(
    parts: Parts, inbox: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stays on the version that it has pinned; the next one is on the new champion."""
    promoted(parts, "1")
    promoted(parts, "2")
    done = meanwhile(monkeypatch, lambda: rolled_back(parts))
    given = ScoreParams(input=inbox, output=f"{prefix}/out", model_name=parts.name)
    night = score(given)
    assert done[1].to_version == "1" and parts.aliases() == ("1", "2")
    assert night.version == "2" and versions_below(parts.store, night.root) == {"2"}
    next_night = score(given)
    assert next_night.version == "1" and next_night.counts.rows_out == 60
    assert versions_below(parts.store, next_night.root) == {"1"}
    assert versions_below(parts.store, night.root) == {"2"}, "and what was scored stays"


def versions_below(store: ObjectStore, root: str) -> set[str]:
    """Which versions the predictions name, row by row."""
    names = [
        i.uri for i in store.scan(root) if Path(i.key).suffix == ".jsonl" and "/_" not in i.key
    ]
    assert len(names) == 3
    lines = [line for name in names for line in (store.read_bytes(name) or b"").splitlines()]
    assert len(lines) == 60
    return {json.loads(line)["model_version"] for line in lines}


def test_the_history_of_a_model_that_never_was_is_an_error(parts: Parts) -> None:
    with pytest.raises(ModelError, match=rf"no model '{parts.name}-'.*did you mean {parts.name}"):
        history(HistoryParams(model_name=f"{parts.name}-"))
    assert history(HistoryParams(model_name=parts.name)).moves == [], "this one has none yet"
