"""Retraining with further pre-training on real servers: what it learns from, what is reused, what is refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from flows.fine_tune import fine_tune
from flows.forms.pipelines import RetrainParams
from flows.forms.scoring import TraceParams
from flows.retrain import retrain
from flows.trace_prediction import trace
from tasks.connectors.sources.base import Unreadable
from tasks.connectors.sources.registry import open_unlabelled
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.errors import MissingDataError, NightshiftError
from tasks.core.tags import LINEAGE_TAG
from tasks.core.training.pretraining.rows import DOUBLE, TEST, UNUSABLE, VALIDATION
from tasks.core.training.records import BaseModelSummary, PretrainingTokensSummary
from tasks.runtime.clients import model_registry, prepared_store
from tasks.training.progress import Listener
from tests.core.training.tiny_trainings import Killed
from tests.retraining import deliver, params, tags
from tests.reviews import jsonl, reviews

pytestmark = pytest.mark.prefect

_STEPS = ["pretraining-tokens", "pretrained-base"]


def unlabelled(store: ObjectStore, prefix: str) -> str:
    """100 reviews of their own, 7 copies of test reviews in other letters, and rows that are no use."""
    own = [text for text, _ in reviews(100, seed=77)]
    copies = [f" {text.upper()}<br />" for text, _ in reviews(60, seed=50)[:7]]
    rows = [{"review": text} for text in [*own, *own[:3], *copies, " ", None]]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    store.write_bytes(content.encode(), f"{prefix}/unlabelled/more.jsonl")
    return f"{prefix}/unlabelled"


def asked(base: Path, location: str, name: str, more: str, **changed: Any) -> RetrainParams:
    further = {"epochs": 1, "location": more, "text_column": "review", "learning_rate": 1e-3}
    given = {f"pretraining__{key}": value for key, value in further.items()}
    return params(base, location, name, **given | changed)


def test_the_base_learns_the_reviews_first_and_the_version_says_so(
    services: ObjectStore, prefix: str, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tasks")
    location, more = deliver(services, prefix), unlabelled(services, prefix)
    given = asked(bert, location, "further", more)
    first = retrain(given)
    assert not {*_STEPS} & {*first.steps_reused}

    prepared = prepared_store()
    told = tags("further", first.version.version)
    steps = json.loads(told[LINEAGE_TAG])
    rows = prepared.reference(steps["pretraining-tokens"], PretrainingTokensSummary).summary
    assert rows.left_out[TEST] == 7 and rows.left_out[DOUBLE] == 3 and rows.left_out[UNUSABLE] == 2
    assert rows.left_out[VALIDATION] == 0
    assert sum(rows.rows.values()) == first.train_rows + 100 and rows.rows["held_out"] > 0
    assert "7 copies of test reviews, 3 duplicates, 2 without a text" in caplog.text

    base = prepared.reference(steps["pretrained-base"], BaseModelSummary).summary
    assert base.pretraining and len(base.pretraining.held_out_losses) == 2
    assert base.pretraining.held_out_losses[1] < base.pretraining.held_out_losses[0]
    assert told["nightshift.base_model"] == base.name == f"{bert}+pretraining"
    assert told["nightshift.base_revision"] == base.revision
    manifest = prepared.read(prepared.uri("model", first.version.model_digest))
    assert manifest and steps["pretrained-base"].endswith(manifest.inputs["base_model"])
    run = model_registry()._client.get_run(base.pretraining.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert {"train_loss", "validation_loss", "learning_rate"} <= run.data.metrics.keys()
    assert "Pre-training is under way: step 1 of" in caplog.text

    second = retrain(given)
    assert {*_STEPS, "model"} <= {*second.steps_reused}
    assert second.version.version == first.version.version

    other = retrain(asked(bert, location, "further", more, training__seed=7))
    assert {*_STEPS} <= {*other.steps_reused} and "model" not in other.steps_reused

    found = trace(TraceParams(start=f"further/{first.version.version}"))
    upstream = "\n".join(found.upstream)
    assert f"{bert}+pretraining" in upstream and "pretraining-tokens" in upstream


@pytest.mark.slow
def test_one_that_was_killed_goes_on_from_its_checkpoint_and_leaves_none(
    services: ObjectStore,
    prefix: str,
    bert: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("NIGHTSHIFT_CHECKPOINT_SECONDS", "0")
    given = asked(bert, deliver(services, prefix), "killed", "", pretraining__epochs=2)
    goes_on = Listener.on_step

    def dies(listener: Listener, step: int, total_steps: int) -> None:
        goes_on(listener, step, total_steps)
        if step == total_steps - 1:
            raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(Listener, "on_step", dies)
        with pytest.raises(Killed):
            retrain(given)
    done = retrain(given)
    assert "Resuming training from the checkpoint of step" in caplog.text
    steps = json.loads(tags("killed", done.version.version)[LINEAGE_TAG])
    base = prepared_store().reference(steps["pretrained-base"], BaseModelSummary).summary
    assert base.pretraining and len(base.pretraining.held_out_losses) == 3
    run = model_registry()._client.get_run(base.pretraining.mlflow_run_id)
    assert run.info.status == "FINISHED"
    digest = steps["pretrained-base"].rpartition("/")[2]
    assert prepared_store().all(f"checkpoint-{digest}") == []


def test_without_it_everything_is_named_as_before(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix)
    done = retrain(params(bert, location, "plain", pretraining__learning_rate=1e-3))
    steps = json.loads(tags("plain", done.version.version)[LINEAGE_TAG])
    assert not {*_STEPS} & steps.keys()
    manifest = prepared_store().read(done.model_uri)
    assert manifest and manifest.inputs["base_model"] == steps["base-model"].rpartition("/")[2]
    assert set(manifest.inputs) == {
        "version",
        "tokens",
        "base_model",
        "training",
        "device",
        "precision",
        "processes",
        "torch",
        "transformers",
    }


def test_it_runs_where_training_runs_and_gets_references_only(
    services: ObjectStore, prefix: str, gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[dict[str, Any]] = []

    def elsewhere(deployment: str, given: dict[str, Any]) -> dict[str, Any]:
        assert deployment == "fine-tune/gpu"
        asked_for.append(given)
        made: Any = fine_tune(given)
        return json.loads(made.model_dump_json())

    monkeypatch.setenv("NIGHTSHIFT_TRAINING_DEPLOYMENT", "fine-tune/gpu")
    monkeypatch.setattr("flows.fine_tune.run_on_pool", elsewhere)
    monkeypatch.setattr(
        "tasks.runtime.runs.preflight.require_deployment", lambda *_: None
    )  # there is no pool
    retrain(asked(gpt2, deliver(services, prefix), "far", ""))
    first, second = asked_for
    assert (
        "/prepared/pretraining-tokens/" in first["tokens"] and first["pretraining"]["epochs"] == 1
    )
    assert "/prepared/tokens/" in second["tokens"] and second["pretraining"] is None
    assert "/prepared/pretrained-base/" in second["base_model"]
    assert not any("Evening" in json.dumps(given) for given in asked_for)


@pytest.mark.parametrize(
    ("rows", "changed", "message"),
    [
        (None, {}, r"No object there.*check pretraining.location"),
        ([], {}, r"No review can be read.*check pretraining.location"),
        ([("A review.", "x")], {"text_column": "body"}, r"No column 'body'"),
    ],
    ids=["nothing there", "no rows", "no such column"],
)
def test_a_location_with_nothing_is_refused_before_any_training(
    services: ObjectStore,
    prefix: str,
    bert: Path,
    caplog: pytest.LogCaptureFixture,
    rows: list[tuple[str | None, object]] | None,
    changed: dict[str, str],
    message: str,
) -> None:
    caplog.set_level(logging.INFO, logger="tasks")
    if rows is not None:
        services.write_bytes(jsonl(rows), f"{prefix}/unlabelled/a.jsonl")
    given = {f"pretraining__{key}": value for key, value in changed.items()}
    with pytest.raises(NightshiftError, match=message):
        retrain(asked(bert, deliver(services, prefix), "nothing", f"{prefix}/unlabelled", **given))
    assert "under way" not in caplog.text


def test_unsupervised_files_are_read_where_no_label_is_asked_for(tmp_path: Path) -> None:
    def no_store() -> Any:
        raise AssertionError

    for name, text in (("train", "a"), ("unsupervised", "b"), ("test", "c"), ("validation", "d")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": text}) + "\n")
    source = open_unlabelled(str(tmp_path), "text", no_store)
    rows = [row for row in source.rows("train") if not isinstance(row, Unreadable)]
    assert [row.text for row in rows] == ["a", "b"] and {row.label for row in rows} == {None}
    with pytest.raises(MissingDataError, match=r"No such file or folder.*check pretraining"):
        open_unlabelled(str(tmp_path / "none"), "text", no_store)
