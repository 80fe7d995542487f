"""What a hostile worker of the GPU pool hands back: another model, other files, another place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data.params import TokenizationParams
from tasks.core.errors import ModelError, NightshiftError, PoolError, StoreError
from tasks.core.models import classifier
from tasks.core.records import Reference
from tasks.core.training.params import TrainingParams
from tasks.core.training.records import BaseModelSummary, TokensSummary, TrainingSummary
from tasks.runtime.clients import object_store, prepared_store
from tasks.runtime.runs import remote_runs
from tasks.runtime.steps import fetched
from tasks.training.fine_tuning import training_inputs
from tasks.training.pool_results import accept_model

Made = Reference[TrainingSummary]
PARAMS = TrainingParams(device="cpu")
TOKENS = Reference[TokensSummary](
    kind="tokens",
    uri="unused",
    digest="1" * 32,
    content="1" * 32,
    summary=TokensSummary(
        label_names=["a", "b"],
        rows={"train": 1},
        tokens={"train": 1},
        truncated_rows={"train": 0},
        max_length_tokens=32,
    ),
    reused=False,
)
BASE = Reference[BaseModelSummary](
    kind="base-model",
    uri="unused",
    digest="2" * 32,
    content="2" * 32,
    summary=BaseModelSummary(name="tiny", revision="1", architecture="bert", parameters=50_000),
    reused=False,
)
SUMMARY = TrainingSummary(
    base_model="tiny",
    base_revision="1",
    label_names=["a", "b"],
    train_rows=1,
    steps=1,
    epochs_run=1,
    best_epoch=1,
    seconds=1,
    reviews_per_second=1,
    precision="fp32",
    device="cpu",
    final_train_loss=0.5,
    temperature=1.0,
    validation_rows=1,
    validation={"accuracy": 0.5},
    mlflow_run_id="r",
)


@pytest.fixture
def folder(bert: Path, tmp_path: Path, configured: ObjectStore) -> Path:
    """As a training saves it."""
    params = TokenizationParams(max_length_tokens=32)
    classifier.save(classifier.load_for_training(bert, ["a", "b"], params, 0.0), tmp_path / "model")
    return tmp_path / "model"


def made(folder: Path, request: pytest.FixtureRequest, **other: Any) -> Made:
    """A committed model; `seed` makes it this test's own."""
    inputs = training_inputs(TOKENS, BASE, PARAMS) | {"test": request.node.name} | other
    kind = str(inputs.pop("kind", "model"))
    summary = inputs.pop("summary", SUMMARY)
    prepared = prepared_store()
    return prepared.refer(prepared.commit(kind, inputs, folder, summary), TrainingSummary, False)


def accept(given: Made) -> Made:
    return accept_model.fn(given, TOKENS, BASE, PARAMS)


def test_the_model_that_was_asked_for_is_accepted(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    given = made(folder, request)
    assert accept(given) == given
    lied = given.model_copy(update={"summary": SUMMARY.model_copy(update={"temperature": 9.0})})
    assert accept(lied).summary.temperature == 1.0, "the manifest counts"
    with fetched(accept(given)) as place:
        assert classifier.load(place).label_names == ["a", "b"]


@pytest.mark.parametrize(
    "other",
    [
        {"tokens": "3" * 32},
        {"base_model": "3" * 32},
        {"training": {"seed": 7}},
        {"lessons": "3" * 32},
        {"class_costs": [5.0, 1.0]},
        {"version": 0},
        {"kind": "evaluation"},
        {"summary": SUMMARY.model_copy(update={"label_names": ["b", "a"]})},
    ],
    ids=str,
)
def test_another_model_is_refused(
    other: dict[str, Any], folder: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ModelError, match=r"something other than the model|other labels"):
        accept(made(folder, request, **other))


def add_code(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text("raise SystemExit")


def add_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def add_folder(folder: Path) -> None:
    (folder / "engines").mkdir()
    (folder / "engines" / "engines.json").write_text("{}")


def grow(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as stream:
        stream.truncate(70 << 20)


@pytest.mark.parametrize("spoil", [add_code, add_pickle, add_folder, grow])
def test_files_that_no_model_has_are_not_fetched(
    spoil: Callable[[Path], None],
    folder: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(folder)
    given = made(folder, request)
    monkeypatch.setattr(ObjectStore, "download", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(ModelError):
        accept(given)


def test_weights_cannot_be_exchanged_once_they_were_accepted(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    accepted = accept(made(folder, request))
    manifest = prepared_store().read(accepted.uri)
    assert manifest
    (folder / "nightshift.json").write_text("{}")
    prepared_store().commit("model", manifest.inputs, folder, SUMMARY, replace=True)
    with (
        pytest.raises(StoreError, match="files of the prepared folder have changed"),
        fetched(accepted),
    ):
        pass


@pytest.mark.parametrize(
    "changed",
    [
        {"uri": "s3://elsewhere/prepared/model/" + "0" * 32},
        {"uri": "s3://nightshift/incoming/" + "0" * 32},
        {"kind": "../tokens"},
        {"digest": "0" * 32},
        {"content": "0" * 32},
    ],
    ids=str,
)
def test_a_reference_leads_nowhere_else(
    changed: dict[str, str], folder: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(StoreError):
        accept(made(folder, request).model_copy(update=changed))


@pytest.mark.parametrize("content", [b"not json", b"[1]", b"[" * 100_000, b"\xff", b'"x"'])
def test_a_result_that_is_none_is_one_sentence(content: bytes, configured: ObjectStore) -> None:
    object_store().write_bytes(content, remote_runs._result_uri("odd"))
    with pytest.raises(PoolError, match="result of the run cannot be read"):
        remote_runs.load_result("odd")


def test_a_huge_result_is_not_read(
    configured: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_runs, "_LONGEST_RESULT", 10)
    object_store().write_bytes(b'{"a": "' + b"x" * 100 + b'"}', remote_runs._result_uri("huge"))
    with pytest.raises(NightshiftError, match="at most 10 are read"):
        remote_runs.load_result("huge")
