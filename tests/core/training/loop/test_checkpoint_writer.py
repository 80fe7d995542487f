"""Checkpoints written beside the training: one at a time, what fails is said, and the weights are those of the step."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.models import folders
from tasks.core.training.fine_tuning import fine_tune
from tasks.core.training.loop.checkpoint_writer import CheckpointWriter, PatientKeeper, snapshot
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import NoCheckpoints, SilentListener
from tests.core.training.tiny_trainings import SHORT, dataset, job


def test_one_thing_after_the_other_and_nothing_after_a_failure() -> None:
    done: list[int] = []
    gate = threading.Event()

    def fails() -> None:
        gate.wait(10)
        raise OSError("No space left")

    with CheckpointWriter(True) as writer:
        writer.add(lambda: done.append(1))
        writer.wait()
        writer.add(fails)
        writer.add(lambda: done.append(2))
        writer.add(lambda: done.append(2))
        assert writer.busy
        assert not PatientKeeper(NoCheckpoints(), writer).due()
        gate.set()
        with pytest.raises(OSError, match="No space left"):
            writer.wait()
        writer.add(lambda: done.append(3))
    assert done == [1, 3]


def leave(in_background: bool, *doing: Any, error: type[Exception] | None = None) -> None:
    with CheckpointWriter(in_background) as writer:
        for work in doing:
            writer.add(work)
        if error:
            raise error


def test_what_fails_last_is_raised_at_the_end_unless_something_else_is() -> None:
    def fails() -> None:
        raise OSError("No space left")

    with pytest.raises(OSError, match="No space left"):
        leave(True, fails)
    with pytest.raises(KeyError):
        leave(True, fails, error=KeyError)
    with pytest.raises(OSError, match="No space left"):
        leave(False, fails)


def test_a_snapshot_is_a_copy_in_which_tied_weights_stay_tied() -> None:
    weight = torch.ones(2)
    copied = snapshot(
        {"a": weight, "b": [weight.detach(), {"step": torch.tensor(3.0)}], "c": (1, "x")}
    )
    weight.zero_()
    assert copied["a"].tolist() == [1, 1] and copied["b"][0] is copied["a"]
    assert copied["b"][1]["step"] == 3 and copied["c"] == (1, "x")


class Kept(NoCheckpoints):
    def __init__(self, fails_at: int = 0) -> None:
        self.fails_at, self.threads = fails_at, set[str]()
        self.found: list[tuple[str, dict[str, torch.Tensor], dict[str, Any]]] = []

    def due(self) -> bool:
        return True

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        if len(self.found) + 1 == self.fails_at:
            raise OSError("No space left")
        self.threads.add(threading.current_thread().name)
        state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
        weights = load_file(checkpoint / "model.safetensors")
        self.found.append((checkpoint.name, weights, state))


def run(base: Path, work: Path, kept: Kept, **given: Any) -> None:
    params = TrainingParams.model_validate(
        {"epochs": 1, "device": "cpu", "precision": "fp32"} | given
    )
    encoder = Encoder(folders.load_tokenizer(base), SHORT)
    sets = dataset(encoder, 64, 0), dataset(encoder, 16, 1)
    fine_tune(job(base, params), *sets, work, SilentListener(), kept)


def test_a_checkpoint_holds_the_weights_of_its_step(bert: Path, tmp_path: Path) -> None:
    beside, at_once = Kept(), Kept()
    run(bert, tmp_path / "a", beside)
    run(bert, tmp_path / "b", at_once, background_checkpoints=False)
    assert all(name.startswith("checkpoint-writer") for name in beside.threads)
    assert at_once.threads == {threading.main_thread().name}
    expected = {name: (weights, state) for name, weights, state in at_once.found}
    assert len(expected) == 4 and beside.found[-1][0] == "checkpoint-4"
    for name, weights, state in beside.found:  # fewer: none is due while one is under way
        theirs, their_state = expected[name]
        assert all(torch.equal(weights[n], theirs[n]) for n in theirs)
        moments = [s["state"][0]["exp_avg"] for s in (state, their_state)]
        assert torch.equal(*moments)


def test_a_failed_save_ends_the_training(bert: Path, tmp_path: Path) -> None:
    kept = Kept(fails_at=1)
    with pytest.raises(OSError, match="No space left"):
        run(bert, tmp_path, kept)
    assert kept.found == []
