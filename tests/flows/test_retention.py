"""What retention deletes, and above all what it leaves, on a real object store and MLflow."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import list_artifacts

from benchmarks.faults.worker import draft
from flows.forms.registry import RetentionParams
from flows.retention import retention
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking import champion
from tasks.connectors.tracking.champion import Champions, Mover
from tasks.connectors.tracking.model_registry import ModelRegistry
from tasks.connectors.tracking.promotion_log import PromotionLog
from tasks.core.errors import MissingDataError, ModelError, RegistryUnavailableError, StoreError
from tasks.core.records import ModelVersion, Promotion
from tasks.core.tags import DELETING_TAG, MODEL_DIGEST_TAG
from tasks.registry import retention as module
from tasks.registry import usage_records
from tasks.registry.champion import find_champion, move_champion, pin_version
from tasks.registry.retention import Retained, Rule, delete_versions, plan_retention, rows_of
from tasks.registry.usage_records import mark_scoring
from tasks.runtime.clients import champions

pytestmark = pytest.mark.prefect


class Model:
    """A model whose versions have files, registered as retraining does it."""

    def __init__(
        self, store: ObjectStore, registry: ModelRegistry, name: str, folder: Path
    ) -> None:
        self.store, self.registry, self.name = store, registry, name
        self.client: MlflowClient = registry._client
        self.folder = folder
        (folder / "model.safetensors").write_bytes(b"weights")
        with registry.run("r", {}, {}) as run:
            self.run_id = run.id

    def add(self, count: int) -> list[ModelVersion]:
        return [self.register() for _ in range(count)]

    def register(self) -> ModelVersion:
        digest = f"{self.name} {time.time_ns()}"
        return self.registry.register(
            self.name, self.folder, self.run_id, {MODEL_DIGEST_TAG: digest}, "words"
        )

    def promote(self, version: ModelVersion) -> Promotion:
        found = find_champion.fn(self.name)
        return move_champion.fn(version, "promote", "Ada", "a test", found)

    def retain(self, **given: Any) -> Retained:
        said = {"model_name": self.name, "who": "Ada", "keep_last": 1, "min_age_days": 0}
        return retention(RetentionParams.model_validate(said | {"dry_run": False} | given))

    def rule(self, **changed: Any) -> Rule:
        given = {"model": self.name, "keep_last": 1, "min_age_days": 0, "predictions": []}
        return Rule.model_validate(given | changed)

    def there(self) -> list[str]:
        return [r.version.version for r in self.registry.versions(self.name)]

    def score(self, version: ModelVersion, output: str) -> str:
        """A mark, and a prediction; returns where."""
        run = draft("night", "s3://nightshift/in", output, model=version)
        mark_scoring(run)
        self.store.write_bytes(b"{}", f"{run.root}/x.jsonl")
        return f"{run.root}/x.jsonl"


@pytest.fixture
def model(
    services: ObjectStore,
    registry: ModelRegistry,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Model:
    monkeypatch.setattr(champion, "_LATE_SECONDS", 0.05)
    return Model(services, registry, request.node.name, tmp_path)


def reasons(done: Retained) -> dict[str, str]:
    return {fate.version: fate.kept_because for fate in done.decisions}


def test_what_nothing_needs_is_deleted_with_its_files(
    model: Model, tracking_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    versions = model.add(4)
    before = {r.version.version: r for r in model.registry.versions(model.name)}
    place = before["1"].source
    assert [f.path for f in list_artifacts(place, tracking_uri=tracking_uri)]

    dry = model.retain(dry_run=True, keep_last=2)
    assert model.there() == ["1", "2", "3", "4"] and dry.dry_run
    assert [row["outcome"] for row in rows_of(dry)] == [
        "kept: among the newest 2",
        "kept: among the newest 2",
        "would be deleted",
        "would be deleted",
    ]
    done = model.retain(keep_last=2)
    assert model.there() == ["3", "4"] and [f.deleted for f in done.decisions] == [
        True,
        True,
        False,
        False,
    ]
    assert not list_artifacts(place, tracking_uri=tracking_uri), "and its files are gone"
    assert list_artifacts(before["4"].source, tracking_uri=tracking_uri)
    assert model.client.get_run(model.run_id).info.status == "FINISHED", "the training stays"
    kept = model.store.read_bytes(f"s3://nightshift/registry/{model.name}/deleted/1.json")
    record = json.loads(kept or b"")
    assert (record["who"], record["model_digest"]) == ("Ada", versions[0].model_digest)
    assert f"deleted {versions[0]}, requested by Ada" in caplog.text
    assert model.register().version == "5", "a number is not given twice"
    assert model.retain(keep_last=9).decisions[0].version == "3"


def test_young_versions_are_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model.add(2)
    assert reasons(model.retain(min_age_days=30)) == {
        "1": "younger than 30 days",
        "2": "among the newest 1",
    }
    later = time.time() + 31 * 86_400
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert model.retain(min_age_days=30).decisions[0].deleted and model.there() == ["2"]


def test_aliases_and_the_last_moves_keep_a_version(model: Model) -> None:
    versions = model.add(11)
    for version in versions[:8]:
        model.promote(version)
    model.registry.set_alias(versions[8], "somebodys-own")
    done = reasons(model.retain())
    assert done["8"] == "has the alias champion" and done["7"] == "has the alias previous"
    assert done["9"] == "has the alias somebodys-own" and done["11"] == "among the newest 1"
    assert [done[n] for n in ("3", "4", "6")] == [
        f"move {move} names it, one of the last 5" for move in (4, 5, 7)
    ]
    assert model.there() == ["3", "4", "5", "6", "7", "8", "9", "11"]
    assert [
        m.to_version
        for m in PromotionLog(champions()._log._objects, "nightshift").moves(model.name)
    ] == [str(n) for n in range(1, 9)], "the history has the deleted ones too"


def test_what_a_stored_prediction_names_is_kept(model: Model, prefix: str) -> None:
    versions = model.add(5)
    scored = model.score(versions[0], f"{prefix}/out")
    unmarked = f"{prefix}/old/model={model.name}/version=2/x.jsonl"
    model.store.write_bytes(b"{}", unmarked)
    model.store.write_bytes(b"{}", f"{prefix}/old/model={model.name}/version=30/x.jsonl")
    model.store.write_bytes(b"{}", f"{prefix}/old/model={model.name}-2/version=3/x.jsonl")
    mark_scoring(draft("n", "s3://nightshift/in", "s3://no-such-bucket/out", model=versions[3]))
    given = {"predictions": [f"{prefix}/old/"]}
    done = reasons(model.retain(**given))
    assert done["1"] == f"predictions name it: {scored.removesuffix('/x.jsonl')}"
    assert done["2"] == f"predictions name it: {unmarked.removesuffix('/x.jsonl')}"
    assert "s3://no-such-bucket/out" in done["4"] and "cannot be listed" in done["4"]
    assert model.there() == ["1", "2", "4", "5"]

    model.store.delete(scored)
    assert model.retain().decisions[0].deleted, "nothing lies there any more"
    assert model.there() == ["4", "5"], "version 2 is marked nowhere, and its prefix was not named"
    model.add(2)
    with pytest.raises(MissingDataError, match="No such bucket"):
        model.retain(predictions=["s3://no-such-bucket/typo"])


def test_a_mark_is_written_once_and_one_that_cannot_be_read_keeps(
    model: Model, prefix: str
) -> None:
    (version, _) = model.add(2)
    run = draft("first", "s3://nightshift/in", f"{prefix}/out", model=version)
    mark_scoring(run)
    mark_scoring(run.model_copy(update={"run": "second"}))
    mark_scoring(run.model_copy(update={"output": f"{prefix}/elsewhere"}))
    marks = f"s3://nightshift/registry/{model.name}/scored/1"
    found = [json.loads(model.store.read_bytes(i.uri) or b"") for i in model.store.list(marks)]
    assert sorted(m["place"].partition("/model=")[0] for m in found) == [
        f"{prefix}/elsewhere",
        f"{prefix}/out",
    ]
    assert all(m["place"].endswith("/first") for m in found) and len(found) == 2
    assert plan_retention.fn(model.rule())[0].kept_because == "", "nothing was scored in the end"
    model.store.write_bytes(b"{", f"{marks}/broken.json")
    assert "broken.json, which cannot be read" in plan_retention.fn(model.rule())[0].kept_because


def test_the_mark_is_there_before_anything_is_scored(
    model: Model, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose mark cannot be written does not begin."""
    from tasks.scoring.planning import plan_scoring

    (version,) = model.add(1)
    model.store.write_bytes(b'{"id": 1, "text": "x"}\n', f"{prefix}/in/a.jsonl")
    run = draft("n", f"{prefix}/in", f"{prefix}/out", model=version)

    def refused(*_: Any) -> None:
        raise StoreError("Writing is refused", "s3://nightshift/registry")

    monkeypatch.setattr("tasks.scoring.planning.mark_scoring", refused)
    with pytest.raises(StoreError):
        plan_scoring.fn(run)
    assert list(model.store.scan(f"{prefix}/out")) == []
    monkeypatch.setattr("tasks.scoring.planning.mark_scoring", usage_records.mark_scoring)
    plan_scoring.fn(run)
    assert usage_records.marked_predictions(model.name, "1") == run.root, (
        "its own records lie there"
    )


def test_a_version_promoted_after_it_was_weighed_is_kept(model: Model) -> None:
    versions = model.add(3)
    decisions = plan_retention.fn(model.rule())
    assert [f.kept_because for f in decisions[:2]] == ["", ""]
    model.promote(versions[0])
    done = delete_versions.fn(model.rule(), decisions, "Ada")
    assert [f.deleted for f in done] == [False, True, False]
    assert done[0].kept_because == "has the alias champion" and model.there() == ["1", "3"]
    assert DELETING_TAG not in model.registry.tags_of(versions[0])


def test_a_promotion_at_the_same_moment_does_not_lose_its_version(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked, and writes its record, when the version is tagged: one of the two sees the other."""
    versions = model.add(3)
    model.promote(versions[2])
    decisions = plan_retention.fn(model.rule(keep_last=1))
    original, done = PromotionLog.append, list[Any]()

    def append(self: PromotionLog, move: Promotion) -> bool:
        written = original(self, move)
        if not done and move.to_version == "1":
            done.append(None)
            done.append(delete_versions.fn(model.rule(), decisions, "Ada"))
        return written

    monkeypatch.setattr(PromotionLog, "append", append)
    model.promote(versions[0])
    assert done[1][0].kept_because.startswith("move 2 names it") and done[1][1].deleted
    assert find_champion.fn(model.name) == versions[0] and model.there() == ["1", "3"]


def test_a_retention_that_died_is_ended_and_nobody_uses_what_it_began(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = model.add(3)
    original, asked = MlflowClient.delete_model_version, list[str]()

    def dying(self: MlflowClient, name: str, version: str) -> None:
        asked.append(version)
        if len(asked) == 1:
            raise RegistryUnavailableError(
                "Deleting failed: connection refused", "http://mlflow", "wait"
            )
        original(self, name, version)

    monkeypatch.setattr(MlflowClient, "delete_model_version", dying)
    decisions = plan_retention.fn(model.rule())
    with pytest.raises(RegistryUnavailableError):
        delete_versions.fn(model.rule(), decisions, "Ada")
    assert model.there() == ["1", "2", "3"]
    with pytest.raises(ModelError, match="Retention has begun to delete"):
        pin_version.fn(model.name, "1")
    with pytest.raises(ModelError, match="retention has begun to delete it"):
        model.promote(versions[0])
    assert model.registry.find_version(model.name, versions[0].model_digest) is None
    done = model.retain(keep_last=3)  # its files are gone: it is ended, whatever the rule says now
    assert done.decisions[0].deleted and model.there() == ["2", "3"]
    assert delete_versions.fn(model.rule(), decisions, "Ada")[0].deleted, "tried again: it is gone"


def test_files_that_two_versions_share_stay_with_the_last_of_them(
    model: Model, tracking_uri: str
) -> None:
    model.add(1)
    (first,) = model.registry.versions(model.name)
    for _ in range(2):
        model.client.create_model_version(model.name, first.source, run_id=model.run_id)
    model.add(1)
    third = model.registry.versions(model.name)[2].version
    model.registry.set_alias(third, "mine")
    model.retain()
    assert model.there() == ["3", "4"] and list_artifacts(first.source, tracking_uri=tracking_uri)
    model.registry.remove_alias(model.name, "mine")
    model.retain()
    assert model.there() == ["4"] and not list_artifacts(first.source, tracking_uri=tracking_uri)


def test_a_model_that_is_not_there(model: Model) -> None:
    with pytest.raises(ModelError, match="The registry has no model 'nobody-has-made-it'"):
        model.retain(model_name="nobody-has-made-it")


def test_a_champion_by_hand_is_kept_by_its_alias(model: Model, registry: ModelRegistry) -> None:
    versions = model.add(3)
    Champions(registry, champions()._log).move(versions[1], None, Mover("gate", "r", "passed"))
    model.client.set_registered_model_alias(model.name, "champion", "1")
    done = reasons(model.retain())
    assert (done["1"], done["2"]) == ("has the alias champion", "has the alias previous")
