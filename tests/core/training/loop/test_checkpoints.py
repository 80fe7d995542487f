"""A training that dies and goes on: the same weights to the byte, whatever became of the newest checkpoint."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.connectors.storage.artifacts import PreparedStore
from tasks.connectors.storage.checkpoints import CheckpointStore
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.models import folders
from tasks.core.training.fine_tuning import Trained, fine_tune
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import SilentListener
from tests.conftest import BUCKET
from tests.core.training.tiny_trainings import SHORT, EveryStep, Killed, KilledAt, dataset, job


@pytest.fixture
def prepared(store: ObjectStore) -> PreparedStore:
    return PreparedStore(store, BUCKET)


def train(
    base: Path, folder: Path, keeper: CheckpointStore | None, kill_at: int = 0, **given: Any
) -> Trained:
    """128 reviews, 8 steps an epoch, 3 epochs."""
    params = TrainingParams.model_validate(
        {"learning_rate": 5e-3, "epochs": 3, "device": "cpu", "precision": "fp32"} | given
    )
    encoder = Encoder(folders.load_tokenizer(base), SHORT)
    sets = dataset(encoder, 128, 0), dataset(encoder, 32, 1)
    listener = KilledAt(kill_at) if kill_at else SilentListener()
    return fine_tune(job(base, params), *sets, folder / "work", listener, keeper)


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.classifier.model.state_dict()


def _deaths() -> list[Any]:
    """Before, between and after the ends of epochs, by each rule; each of them once where time is short."""
    quick = {(5, "accuracy"), (13, "loss"), (24, "last")}
    return [
        pytest.param(step, best_by, marks=[] if (step, best_by) in quick else pytest.mark.slow)
        for step in (5, 13, 24)
        for best_by in ("accuracy", "loss", "last")
    ]


@pytest.mark.parametrize(("kill_at", "best_by"), _deaths())
def test_a_killed_training_ends_with_the_same_weights(
    best_by: str, kill_at: int, bert: Path, prepared: PreparedStore, tmp_path: Path
) -> None:
    whole = train(bert, tmp_path / "whole", None, best_epoch_by=best_by)
    digest = f"{best_by}-{kill_at}"
    with CheckpointStore(prepared, digest, tmp_path / "a", 0) as keeper, pytest.raises(Killed):
        train(bert, tmp_path / "killed", keeper, kill_at, best_epoch_by=best_by)
    with CheckpointStore(prepared, digest, tmp_path / "b", 0) as keeper:
        newest = keeper.newest()
        assert newest and 0 < newest.step < kill_at
        resumed = train(bert, tmp_path / "resumed", keeper, best_epoch_by=best_by)
        assert len(prepared.all(f"checkpoint-{digest}")) <= 4
        keeper.remove_all()
    assert prepared.all(f"checkpoint-{digest}") == []
    ours, theirs = weights(resumed), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for fact in ("steps", "epochs_run", "best_epoch"):
        assert resumed.facts[fact] == whole.facts[fact]
    assert resumed.validation == whole.validation


def test_a_training_by_tokens_goes_on_within_an_epoch(
    bert: Path, prepared: PreparedStore, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "batch_by": "tokens",
        "batch_tokens": 256,
        "gradient_accumulation_steps": 2,
        "layerwise_lr_decay": 0.9,
        "lr_scheduler_type": "cosine",
    }
    whole = train(bert, tmp_path / "whole", None, **given)
    kill_at = whole.facts["steps"] // 3 + 3
    with EveryStep(prepared, "tokens", tmp_path / "a", 0) as keeper, pytest.raises(Killed):
        train(bert, tmp_path / "killed", keeper, kill_at, **given)
    with CheckpointStore(prepared, "tokens", tmp_path / "b", 0) as keeper:
        resumed = train(bert, tmp_path / "resumed", keeper, **given)
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.facts["steps"] == whole.facts["steps"]


def test_a_torn_newest_checkpoint_gives_way_to_the_one_before(
    bert: Path, prepared: PreparedStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    whole = train(bert, tmp_path / "whole", None)
    with EveryStep(prepared, "torn", tmp_path / "a", 0) as keeper, pytest.raises(Killed):
        # Not beside it: seven small steps may be over while the first one's is written.
        train(bert, tmp_path / "killed", keeper, kill_at=7, background_checkpoints=False)
    complete = sorted(prepared.all("checkpoint-torn"), key=lambda m: m.summary["step"])
    assert len(complete) == 2
    newest = complete[-1]
    uri = prepared.uri(newest.kind, newest.digest)
    prepared.store.write_bytes(b"torn", f"{uri}/{newest.attempt}/optimizer.pt")
    with CheckpointStore(prepared, "torn", tmp_path / "b", 0) as keeper:
        resumed = train(bert, tmp_path / "resumed", keeper)
    assert f"step {newest.summary['step']} cannot be used" in caplog.text
    assert (
        f"Resuming training from the checkpoint of step {complete[0].summary['step']}"
        in caplog.text
    )
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_store_that_is_away_costs_a_checkpoint_and_not_the_training(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, prepared: PreparedStore
) -> None:
    class Away(PreparedStore):
        def commit(self, *_: Any, **__: Any) -> Any:
            from tasks.core.errors import StoreError

            raise StoreError("Nobody there")

    away = Away(prepared.store, BUCKET)
    with CheckpointStore(away, "away", tmp_path / "a", 0) as keeper:
        done = train(bert, tmp_path / "trained", keeper, epochs=1)
    assert done.facts["steps"] == 8
    assert "was not saved: Nobody there" in caplog.text
    assert not any((tmp_path / "a").iterdir())
