"""Several processes train one model: as one would, and it goes on after one of them is killed. Real torchrun, gloo."""

from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tasks.connectors.storage.artifacts import PreparedStore
from tasks.connectors.storage.checkpoints import CheckpointStore
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.data.tokens.token_tables import read_tokens
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.errors import RunCrashedError, SettingsError
from tasks.core.models import folders
from tasks.core.training.fine_tuning import Trained, fine_tune
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import NoCheckpoints, SilentListener, TrainingPruned
from tasks.training.distributed.launch import fine_tune_in_processes
from tests.conftest import BUCKET
from tests.core.training.tiny_trainings import SHORT, dataset, job

pytestmark = pytest.mark.slow
GIVEN: dict[str, Any] = {
    "learning_rate": 1e-3,
    "epochs": 2,
    "device": "cpu",
    "precision": "fp32",
    "hidden_dropout": 0.0,
}


@pytest.fixture(scope="module")
def data(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """131 reviews, so that the last step is a small one."""
    folder = tmp_path_factory.mktemp("data")
    encoder = Encoder(folders.load_tokenizer(bert), SHORT)
    for name, rows, seed in (("train", 131, 0), ("validation", 40, 1)):
        dataset(encoder, rows, seed).to_parquet(str(folder / f"{name}.parquet"))
    return folder


def together(
    base: Path, data: Path, work: Path, keeper: Any = None, listener: Any = None, **given: Any
) -> Trained:
    params = TrainingParams.model_validate(GIVEN | {"batch_size": 8} | given)
    keeper, listener = keeper or NoCheckpoints(), listener or SilentListener()
    return fine_tune_in_processes(2, job(base, params), data, work, listener, keeper)


def alone(base: Path, data: Path, work: Path, **given: Any) -> Trained:
    params = TrainingParams.model_validate(GIVEN | {"batch_size": 16} | given)
    sets = read_tokens(data, ("train", "validation"), work / "cache")
    return fine_tune(job(base, params), *sets, work, SilentListener())


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.classifier.model.state_dict()


class Heard(SilentListener):
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.metrics: dict[str, float] = {}

    def on_step(self, step: int, total_steps: int) -> None:
        self.steps.append(step)

    def on_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.metrics |= metrics


@pytest.mark.parametrize("by", ["reviews", "tokens"])
def test_two_processes_are_as_one(by: str, bert: Path, data: Path, tmp_path: Path) -> None:
    heard = Heard()
    given: dict[str, Any] = {"batch_by": by, "batch_tokens": 256}
    two = together(bert, data, tmp_path / "two", listener=heard, **given)
    if by == "tokens":  # two batches a step either way
        given["gradient_accumulation_steps"] = 2
    one = alone(bert, data, tmp_path / "one", **given)
    assert two.facts["steps"] == one.facts["steps"] and two.facts["processes"] == 2
    assert heard.steps == list(range(1, one.facts["steps"] + 1))
    assert heard.metrics.keys() >= {"train_loss", "validation_loss", "validation_accuracy"}
    assert two.facts["final_train_loss"] == pytest.approx(one.facts["final_train_loss"], abs=1e-5)
    assert two.validation["loss"] == pytest.approx(one.validation["loss"], abs=1e-5)
    ours, theirs = weights(two), weights(one)
    assert all(torch.allclose(ours[n], theirs[n], atol=1e-4) for n in ours)


class KillsOne(Heard):
    """Kills a training process at a step, as the kernel does when memory is short."""

    def on_step(self, step: int, total_steps: int) -> None:
        super().on_step(step, total_steps)
        if step == 12:
            workers()[-1].kill()


def workers() -> list[psutil.Process]:
    found = [
        p
        for p in psutil.Process().children(recursive=True)
        if p.status() != psutil.STATUS_ZOMBIE and "tasks.training.distributed.worker" in p.cmdline()
    ]
    return [p for p in found if "torch.distributed.run" not in p.cmdline()]


class EveryThird(CheckpointStore):
    asked = 0

    def due(self) -> bool:
        self.asked += 1
        if self._uploading:
            self._uploading.result()
        return self.asked % 3 == 0


def test_a_killed_process_ends_all_and_the_training_goes_on(
    bert: Path, data: Path, tmp_path: Path, store: ObjectStore
) -> None:
    given: dict[str, Any] = {"hidden_dropout": 0.1}
    whole = together(bert, data, tmp_path / "whole", **given)
    prepared = PreparedStore(store, BUCKET)
    with (
        EveryThird(prepared, "processes", tmp_path / "a", 0) as keeper,
        pytest.raises(RunCrashedError, match="One of 2 training processes died"),
    ):
        together(bert, data, tmp_path / "killed", keeper, KillsOne(), **given)
    assert workers() == []
    heard = Heard()
    with CheckpointStore(prepared, "processes", tmp_path / "b", 1e9) as keeper:
        newest = keeper.newest()
        assert newest and 9 <= newest.step <= 12
        resumed = together(bert, data, tmp_path / "resumed", keeper, heard, **given)
        keeper.remove_all()
    assert heard.steps[0] == newest.step + 1
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_a_process_says_is_what_is_raised(bert: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"2 layers \[training.frozen_layers\]"):
        together(bert, data, tmp_path, frozen_layers=3)


def test_a_judge_stops_all(bert: Path, data: Path, tmp_path: Path) -> None:
    class Judge:
        def stops(self, epochs: Any) -> bool:
            return True

    params = TrainingParams.model_validate(GIVEN)
    with pytest.raises(TrainingPruned) as stopped:
        fine_tune_in_processes(
            2, job(bert, params), data, tmp_path, Heard(), NoCheckpoints(), Judge()
        )
    assert stopped.value.epochs == 1 and "accuracy" in stopped.value.validation
