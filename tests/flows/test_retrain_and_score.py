"""The flows on real servers with tiny models: what people get, what is reused, what is refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from flows.forms.pipelines import RetrainParams
from flows.forms.scoring import ScoreParams, TraceParams
from flows.retrain import retrain
from flows.score import score
from flows.trace_prediction import trace
from tasks.connectors.sources.params import SourceParams
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data import tables
from tasks.core.errors import (
    MissingDataError,
    ModelError,
    NightshiftError,
    SettingsError,
)
from tasks.data.ingestion import load_reviews
from tasks.runtime.clients import model_registry
from tasks.runtime.steps import fetched
from tests.retraining import deliver, params, read, write
from tests.reviews import as_csv, jsonl, reviews

pytestmark = pytest.mark.prefect


def test_what_has_not_changed_is_reused(
    services: ObjectStore, prefix: str, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tasks")
    given = params(bert, deliver(services, prefix, seed=9), "whole")
    first = retrain(given)
    assert first.promoted and set(first.steps_reused) <= {"checks", "base-model"}  # of other tests
    assert first.evaluation.metrics["accuracy"].value > 0.8
    assert set(first.evaluation.metrics) == {
        "accuracy",
        "macro_f1",
        "log_loss",
        "roc_auc",
        "pr_auc",
        "calibration_error",
    }
    assert sum(map(sum, first.evaluation.confusion)) == 60

    second = retrain(given)
    everything = [
        "checks",
        "base-model",
        "loaded",
        "validated",
        "test-set",
        "split",
        "inspection",
        "tokens",
        "model",
        "evaluation",
        "behaviour",
        "evaluation",
        "engines",
    ]
    assert second.steps_reused == everything  # but for the verdict: now there is a champion
    assert second.version.version == first.version.version
    assert "model: reused, nothing it depends on has changed" in caplog.text

    third = retrain(params(bert, f"{prefix}/labelled", "whole", training__seed=7))
    assert third.steps_reused == [*everything[:8], "evaluation"]  # the baseline's
    assert third.version.version == "2"


def test_one_layer_of_a_random_gpt2_with_its_own_bpe(
    services: ObjectStore, prefix: str, gpt2: Path
) -> None:
    done = retrain(params(gpt2, deliver(services, prefix), "decoder", training__num_layers=1))
    assert done.evaluation.metrics["accuracy"].value > 0.8
    with fetched(done.model_uri, "config.json") as folder:
        config = json.loads((folder / "config.json").read_text())
    assert (
        config["architectures"] == ["GPT2ForSequenceClassification"]
        and config["pad_token_id"] is not None
        and config["n_layer"] == 1
    )
    write(services, f"{prefix}/inbox/x.jsonl", [{"id": "a", "text": "The ending was dreadful."}])
    score(ScoreParams(input=f"{prefix}/inbox", output=f"{prefix}/out", model_name="decoder"))
    out = f"{prefix}/out/model=decoder/version=1"
    assert read(services, f"{out}/x.jsonl")[0]["label"] == "NEGATIVE"


def test_three_classes_in_a_csv_from_s3(services: ObjectStore, prefix: str, bert: Path) -> None:
    rows = [(t, {"NEGATIVE": "bad", "POSITIVE": "good"}[label]) for t, label in reviews(160)]
    rows += [(f"Parcel {i}: the delivery came on day {i % 9}.", "off topic") for i in range(60)]
    services.write_bytes(as_csv(rows, text="review", label="verdict"), f"{prefix}/rows.csv")
    columns = {"text_column": "review", "label_column": "verdict"}
    given = params(bert, f"{prefix}/rows.csv", "three").model_dump()
    given["data"]["source"] |= columns
    given["gate"]["plausibility"]["max_overlap_fraction"] = 1.0  # its reviews are much alike
    done = retrain(RetrainParams.model_validate(given))
    assert done.evaluation.label_names == ["bad", "good", "off topic"] and done.train_rows > 100
    assert done.evaluation.metrics["accuracy"].value > 0.7 and "roc_auc" in done.evaluation.metrics
    write(
        services,
        f"{prefix}/inbox/x.csv",
        [{"id": "1", "text": "Parcel 9: the delivery came on day 3."}],
    )
    score(ScoreParams(input=f"{prefix}/inbox", output=f"{prefix}/out", model_name="three"))
    (row,) = read(services, f"{prefix}/out/model=three/version=1/x.csv")
    assert row["label"] == "off topic" and "probability_off topic" in row


@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("bert", marks=pytest.mark.slow)])
def test_class_costs_change_labels_and_not_probabilities(
    services: ObjectStore, prefix: str, architecture: str, request: pytest.FixtureRequest
) -> None:
    """Also of a decoder, whose head has no bias."""
    base: Path = request.getfixturevalue(architecture)
    one, other = f"plain-{architecture}", f"costly-{architecture}"
    location = deliver(services, prefix)
    plain = retrain(params(base, location, one))
    costs: dict[str, Any] = {"registration__class_costs": "positive=1e5"}
    given = params(base, location, other, **costs)
    with pytest.raises(
        SettingsError, match=r"No label is called 'great'.*registration.class_costs"
    ):
        retrain(params(base, location, other, registration__class_costs="great=5"))
    done = retrain(given)
    assert done.version.model_digest != plain.version.model_digest
    # Nothing was trained again; measures of probabilities stay, those of labels do not.
    assert done.training_seconds == plain.training_seconds
    assert done.version.run_id != plain.version.run_id
    chain = trace(TraceParams(start=f"{other}/1")).upstream
    models = [line for line in chain if line.lstrip().startswith("model ") and "seed 42" in line]
    assert len(models) == 2, chain  # with its costs, and as it was trained
    before, after = plain.evaluation, done.evaluation
    for metric in ("log_loss", "calibration_error", "roc_auc"):
        assert after.metrics[metric].value == pytest.approx(before.metrics[metric].value, abs=1e-3)
    assert after.per_class["POSITIVE"]["recall"].value == 1.0
    assert after.metrics["accuracy"].value < before.metrics["accuracy"].value
    again = retrain(given)
    assert again.version.version == "1" and "model" in again.steps_reused
    write(services, f"{prefix}/inbox/x.jsonl", [{"id": "a", "text": "The ending was dreadful."}])
    rows: dict[str, Any] = {}
    for name in (one, other):
        wanted = {"model_name": name, "model_version": "1"}
        score(ScoreParams(input=f"{prefix}/inbox", output=f"{prefix}/out", **wanted))
        (rows[name],) = read(services, f"{prefix}/out/model={name}/version=1/x.jsonl")
    assert (rows[one]["label"], rows[other]["label"]) == ("NEGATIVE", "POSITIVE")
    for column in ("probability_NEGATIVE", "probability_POSITIVE"):
        assert rows[other][column] == pytest.approx(rows[one][column], abs=1e-3)
    assert rows[other]["score"] == rows[other]["probability_POSITIVE"]


def test_a_model_that_loses_to_the_baseline_is_registered_but_no_champion(
    services: ObjectStore, prefix: str, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = params(
        bert,
        deliver(services, prefix),
        "loser",
        training__learning_rate=1e-7,
        gate__must_beat_baseline=True,
    )
    done = retrain(given)
    assert not done.promoted and "FAILED beats the baseline" in str(done.verdict)
    assert "WARNING: does not beat the baseline" in caplog.text
    registry = model_registry()
    assert registry.resolve("loser", "challenger") == done.version.model_copy(
        update={"reused": False}
    )
    assert registry.resolve("loser", "champion") is None
    with pytest.raises(ModelError, match=r"no 'champion' of model 'loser'.*run retrain first"):
        score(ScoreParams(input=f"{prefix}/labelled", output=f"{prefix}/out", model_name="loser"))


def test_a_worse_model_does_not_replace_the_champion(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix)
    good = retrain(params(bert, location, "reign"))
    worse = retrain(params(bert, location, "reign", training__learning_rate=1e-7))
    assert good.promoted and not worse.promoted
    assert "FAILED not worse than the champion" in str(worse.verdict)
    champion = model_registry().resolve("reign", "champion")
    assert champion and champion.version == good.version.version


def one_class(store: ObjectStore, prefix: str) -> str:
    store.write_bytes(jsonl(reviews(200)[:100]), f"{prefix}/bad/train.jsonl")
    return f"{prefix}/bad"


def label_out_of_range(store: ObjectStore, prefix: str) -> str:
    rows = [(t, int(label == "POSITIVE")) for t, label in reviews(100)]
    store.write_bytes(jsonl([*rows, ("Odd one.", 5)]), f"{prefix}/bad/train.jsonl")
    return f"{prefix}/bad"


def no_texts(store: ObjectStore, prefix: str) -> str:
    store.write_bytes(
        jsonl([(None if i % 10 == 0 else t, lb) for i, (t, lb) in enumerate(reviews(100))]),
        f"{prefix}/bad/a.jsonl",
    )
    return f"{prefix}/bad"


def nothing(store: ObjectStore, prefix: str) -> str:
    store.write_bytes(b"", f"{prefix}/bad/train.jsonl")
    return f"{prefix}/bad"


def not_parquet(store: ObjectStore, prefix: str) -> str:
    store.write_bytes(b"PAR1 is not enough", f"{prefix}/bad/train.parquet")
    return f"{prefix}/bad"


@pytest.mark.parametrize(
    ("make", "changed", "message"),
    [
        (one_class, {}, r"all rows are of one class \(NEGATIVE 100\)"),
        (
            label_out_of_range,
            {"data__source__label_names": ["a", "b"]},
            r"none of 0, 1, a, b: '5' in train.jsonl row 101",
        ),
        (
            no_texts,
            {},
            r"10 rows have a missing text, more than data.validation.max_unusable_fraction allows: a.jsonl row 1,",
        ),
        (nothing, {}, "No row can be read"),
        (
            not_parquet,
            {},
            r"Not readable as parquet.*train.parquet\] -> check that the file is complete",
        ),
        (
            deliver,
            {"data__source__text_column": "review"},
            "No column 'review'; the columns are: label, text",
        ),
        (lambda *_: "s3://nightshift/none/", {}, "No object there"),
        (lambda *_: "s3://no-such-bucket/x", {}, "No such bucket"),
        (lambda *_: "/no/such/file.csv", {}, "No such file or folder"),
        (lambda *_: "stanfordnlp/imbd", {}, "the hub cannot be reached"),
        (
            deliver,
            {"training__base_model": "google-bert/bert-tiny"},
            "No base model 'google-bert/bert-tiny'",
        ),
        (
            deliver,
            {"tokenization__max_length_tokens": 512},
            "at most 128 tokens, but 512 are requested",
        ),
        (deliver, {"training__frozen_layers": 9}, "The model has 2 layers"),
        (
            lambda *_: "s3://nightshift/none/",  # found before the reviews are read
            {"training__num_layers": 9},
            r"and 9 are to be kept \[training.num_layers\]",
        ),
    ],
    ids=lambda v: getattr(v, "__name__", "") if callable(v) else "",
)
def test_bad_input_is_a_sentence_and_leaves_nothing_half_done(
    services: ObjectStore,
    prefix: str,
    bert: Path,
    caplog: pytest.LogCaptureFixture,
    make: Any,
    changed: Any,
    message: str,
) -> None:
    before = trained_models(services)
    with pytest.raises(NightshiftError, match=message):
        retrain(params(bert, make(services, prefix), "bad", **changed))
    assert trained_models(services) == before
    assert "Traceback" not in caplog.text
    assert not [
        r for r in caplog.records if r.exc_info and isinstance(r.exc_info[1], NightshiftError)
    ]


def trained_models(store: ObjectStore) -> list[str]:
    try:
        return [i.uri for i in store.list("s3://nightshift/prepared/model")]
    except MissingDataError:
        return []


def test_a_pickled_base_model_is_refused(
    services: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="pickles"):
        retrain(params(tmp_path, deliver(services, prefix), "pickles"))


def test_wrong_credentials_stop_the_run_at_once(
    services: ObjectStore, prefix: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(NightshiftError, match=r"is refused .*AWS_SECRET_ACCESS_KEY"):
        retrain(params(bert, f"{prefix}/x", "credentials"))


def test_a_full_disk_is_found_before_training(
    services: ObjectStore, prefix: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.training.checkpoints.free_bytes", lambda _: 1000)
    with pytest.raises(NightshiftError, match=r"0.0 GB are free, but training needs .*TMPDIR"):
        retrain(params(bert, deliver(services, prefix), "disk", training__seed=99))


def test_test_reviews_apart_are_read_from_their_test_split(
    services: ObjectStore, prefix: str
) -> None:
    for place, seed in (("mine", 1), ("theirs", 2)):
        services.write_bytes(jsonl(reviews(60, seed)), f"{prefix}/{place}/train.jsonl")
        services.write_bytes(jsonl(reviews(40, seed + 10)), f"{prefix}/{place}/test.jsonl")
    given = SourceParams(location=f"{prefix}/mine", test_location=f"{prefix}/theirs")
    loaded = load_reviews.fn(given, 0.01)
    with fetched(loaded.uri) as folder:
        texts = {row.text for row in tables.read_raw(folder / "test.parquet")}
    assert texts == {text for text, _ in reviews(40, 12)}


def test_a_new_test_set_renews_what_is_said_of_a_version(
    services: ObjectStore, prefix: str, bert: Path
) -> None:
    location = deliver(services, prefix)
    first = retrain(params(bert, location, "judged"))
    second = retrain(params(bert, location, "judged", data__split__limit_test_rows=20))
    assert second.version.version == first.version.version and second.evaluation.rows == 20
    registry = model_registry()
    tags = registry._client.get_model_version("judged", "1").tags
    assert tags["nightshift.accuracy"] == str(second.evaluation.metrics["accuracy"])
