"""trace on real parts: from a row of predictions to the labelled reviews, and from those to the same predictions."""

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.forms.scoring import ScoreParams, TraceParams
from flows.retrain import retrain
from flows.score import score
from flows.trace_prediction import trace
from tasks.connectors.storage.object_store import ObjectStore
from tasks.connectors.tracking.promotion_log import PromotionLog
from tasks.core.data import tables
from tasks.core.digests import digest_of
from tasks.core.errors import MissingDataError
from tasks.core.lineage.parts import RegisteredVersion, tagged
from tasks.core.records import ModelVersion, Promotion, ScoringMark
from tasks.core.scoring.results import ScoreSummary
from tasks.core.tags import LINEAGE_TAG
from tasks.lineage.tracing import Provenance
from tasks.runtime.clients import exact_objects, model_registry, prepared_store
from tasks.runtime.steps import fetched
from tests.conftest import BUCKET
from tests.retraining import deliver, params, write

pytestmark = pytest.mark.prefect


@dataclass
class Story:
    """A source, a version trained on it, and one night that it scored."""

    location: str
    version: ModelVersion
    night: ScoreSummary
    steps: dict[str, str]
    tracking_uri: str

    @property
    def title(self) -> str:
        return f"{self.version.name}/{self.version.version}"

    @property
    def predictions(self) -> str:
        return f"{self.night.root}/monday.jsonl"


def of_kind(kind: str, **inputs: str) -> str:
    """The folder that was made from these inputs."""
    prepared = prepared_store()
    (found,) = [m for m in prepared.all(kind) if inputs.items() <= m.inputs.items()]
    return prepared.uri(kind, found.digest)


def steps_of(version: ModelVersion) -> dict[str, str]:
    """The chain of a version by its manifests, in the way in which registration names it."""
    prepared = prepared_store()
    model = prepared.read(uri := prepared.uri("model", version.model_digest))
    assert model
    tokens = prepared.read(prepared.uri("tokens", model.inputs["tokens"]))
    assert tokens
    (split,) = [
        m for m in prepared.all("split") if m.summary["train_digest"] == tokens.inputs["rows"]
    ]
    validated = prepared.read(prepared.uri("validated", split.inputs["validated"]))
    assert validated
    return {
        "loaded": prepared.uri("loaded", validated.inputs["loaded"]),
        "validated": prepared.uri("validated", validated.digest),
        "split": prepared.uri("split", split.digest),
        "base-model": prepared.uri("base-model", model.inputs["base_model"]),
        "tokens": prepared.uri("tokens", tokens.digest),
        "model": uri,
        "evaluation": of_kind("evaluation", model=version.model_digest),
    }


def tag(version: ModelVersion) -> dict[str, str]:
    """What registration writes on a version; written here where it does not yet."""
    registry = model_registry()
    tags = registry.tags_of(version)
    kept = tagged(RegisteredVersion(version.name, version.version, "", "", tags))
    steps = steps_of(version)
    assert not kept or steps.items() <= kept.items()
    registry.describe_version(version, {LINEAGE_TAG: json.dumps(steps | kept)})
    return steps | kept


def note_promotion(version: ModelVersion, evidence: str) -> None:
    """The first move of a model's champion, unless promotion has written it."""
    log = PromotionLog(exact_objects(), BUCKET)
    move = Promotion(
        number=1,
        model=version.name,
        kind="gate",
        from_version="",
        to_version=version.version,
        who="retrain",
        why="it passed",
        when=now(),
        flow_run="",
        evidence=evidence,
    )
    if log.last(version.name) is None:
        assert log.append(move)


def note_scoring(store: ObjectStore, night: ScoreSummary) -> None:
    """The mark of a scoring run, unless planning has written it."""
    folder = f"s3://{BUCKET}/registry/{night.model}/scored/{night.version}"
    if not list(store.scan(folder)):
        mark = ScoringMark(
            model=night.model,
            version=night.version,
            root=night.root,
            place=night.place,
            when=now(),
            flow_run="",
        )
        name = digest_of({"root": night.root})
        store.write_bytes(mark.model_dump_json().encode(), f"{folder}/{name}.json")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@pytest.fixture
def story(services: ObjectStore, prefix: str, bert: Path, tracking_uri: str) -> Story:
    seed = sum(prefix.encode())  # no folder is another test's
    location = deliver(services, prefix, seed)
    name = f"lineage-{seed}"
    version = retrain(params(bert, location, name)).version
    steps = tag(version)
    note_promotion(version, steps.get("verdict", steps["evaluation"]))
    write(services, f"{prefix}/inbox/monday.jsonl", [{"id": "a", "text": "A dull evening."}])
    night = score(ScoreParams(input=f"{prefix}/inbox/", output=f"{prefix}/out/", model_name=name))
    note_scoring(services, night)
    return Story(location, version, night, steps, tracking_uri)


def follow(start: str, **more: Any) -> Provenance:
    return trace(TraceParams.model_validate({"start": start} | more))


def learned_row(split: str) -> str:
    """The name of a review that was trained on."""
    with fetched(split, "train.parquet") as folder:
        return tables.read_labelled(folder / "train.parquet")[3].where


def test_from_a_row_to_the_training_data_and_from_there_to_the_same_predictions(
    story: Story, services: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    back = trace(TraceParams(prediction=story.predictions, row=1))
    facts = back.facts
    assert (facts["id"], facts["row"], facts["scoring run"]) == ("a", "1", story.night.place)
    assert facts["input"].endswith("/inbox/monday.jsonl")
    assert facts["champion then"].startswith("yes, since 20") and "move 1" in facts["champion then"]
    assert "champion" in facts["the version now"]
    assert facts["model"] == str(story.version.model_copy(update={"reused": False}))
    assert facts["trained model"] == story.steps["model"]
    for kind in ("base-model", "tokens", "split", "validated", "loaded"):
        assert facts[kind] == story.steps[kind]
    assert (
        facts["evaluation"] == story.steps["evaluation"]
        and "promote" in facts["verdict of the gate"]
    )
    assert "60 test rows" in facts["evaluation: test rows"] and facts["evaluation: accuracy"]
    assert facts["source"] == story.location and "ETag" in facts["loaded: made of"]
    assert facts["trained model: MLflow run"] == story.version.run_id
    assert "train 200 rows, test 60 rows" in facts["loaded: rows"]

    source = facts["source"]  # and back again: from each end of the chain, the same object
    for start in (source, story.steps["split"], facts["split"].rpartition("/")[2], story.title):
        forward = follow(start)
        assert story.predictions in "\n".join(forward.downstream), start
        if start != story.title:
            assert f"version {story.title}" in "\n".join(forward.downstream), start
    assert follow(f"{story.version.name}/champion").facts["version"] == story.title
    run = follow(story.night.place)
    assert run.facts["source"] == source and story.predictions not in "\n".join(run.upstream)
    assert follow(story.night.root).facts["version"] == story.title

    row = learned_row(story.steps["split"])
    told = follow(story.predictions, source_row=row).facts
    (said,) = [text for name, text in told.items() if name.startswith(row)]
    assert said == f"in train: {story.title} learned from it"
    told = follow(story.steps["split"], source_row="train.jsonl row 999").facts
    (said,) = [text for name, text in told.items() if name.startswith("train.jsonl row 999")]
    assert said == "not in it: neither learned from nor tested on"
    assert "A dull evening" not in caplog.text + "\n".join(back.lines())


@pytest.mark.slow
def test_what_was_deleted_is_named_and_the_chain_goes_on(
    story: Story, services: ObjectStore
) -> None:
    prepared = prepared_store()
    tokens = prepared.read(story.steps["tokens"])
    assert tokens
    prepared.remove(tokens)
    facts = follow(story.predictions).facts
    assert facts["tokens"] == f"MISSING, its folder is gone: {story.steps['tokens']}"
    assert facts["split"] == story.steps["split"] and facts["source"] == story.location

    client = MlflowClient(tracking_uri=story.tracking_uri, registry_uri=story.tracking_uri)
    client.delete_model_version(story.version.name, story.version.version)
    gone = follow(story.predictions)
    assert gone.facts["the version now"] == "deleted from the registry"
    assert gone.facts["champion then"].startswith("yes, since")
    assert (
        gone.facts["trained model"] == story.steps["model"] and gone.facts["evaluation: accuracy"]
    )
    assert "MISSING, its folder is gone" in gone.facts["tokens"]
    forward = "\n".join(follow(story.steps["model"]).downstream)
    assert f"version {story.title}: MISSING, deleted from the registry" in forward
    assert story.predictions in forward

    for item in list(services.scan(story.night.place)):
        services.delete(item.uri)
    facts = follow(story.predictions).facts
    assert facts["scoring run"] == f"MISSING, its records are gone: {story.night.place}"
    services.delete(f"{story.steps['model']}/manifest.json")
    services.write_bytes(b'{"kind": "model"}', f"{story.steps['model']}/manifest.json")
    assert "its manifest cannot be read" in follow(story.steps["model"]).facts["model"]
    services.delete(f"{story.steps['model']}/manifest.json")  # other tests read them all


@pytest.mark.slow
def test_a_person_is_told_what_can_be_named(services: ObjectStore, prefix: str) -> None:
    for start in ("nobody/7", "0123456789abcdef", f"{prefix}/nothing", "no such file.csv"):
        with pytest.raises(MissingDataError, match=r"Nothing is known about it.*reviews/3"):
            follow(start)
    with pytest.raises(MissingDataError, match="Not an object with predictions"):
        follow(f"{prefix}/out/model=m/version=1/x.jsonl")
    with pytest.raises(MissingDataError, match="There is no scoring run"):
        follow(f"{prefix}/out/model=m/version=1/_runs/none")
    odd = f"s3://{BUCKET}/registry/odd/moves/000001.json"
    services.write_bytes(b'{"number": 1, "of": "another version"}', odd)
    with contextlib.ExitStack() as stack:  # what cannot be read is left out, and said
        stack.callback(services.delete, odd)
        with pytest.raises(MissingDataError, match="Nothing is known about it"):
            follow("odd/1")
