"""Fine-tuning tiny models: what is learned, what stays, which epoch is kept, and when it ends."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    EvalPrediction,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.errors import NightshiftError, SettingsError
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.training import fine_tuning
from tasks.core.training.fine_tuning import fine_tune
from tasks.core.training.loop.epochs import BestEpochMetric, EarlyStopping
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import SilentListener
from tests.core.training.tiny_trainings import LABELS, SHORT, Losses, dataset, job, trained


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def base(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_it_learns(base: Path, tmp_path: Path) -> None:
    done = trained(base, tmp_path, rows=256, epochs=4)
    assert done.validation["accuracy"] >= 0.9
    assert done.classifier.model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}


def test_the_same_seed_gives_the_same_weights(bert: Path, tmp_path: Path) -> None:
    first, second, other = (
        trained(bert, tmp_path / str(i), seed=s) for i, s in enumerate([1, 1, 2])
    )
    weights = [t.classifier.model.state_dict() for t in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_the_loss_curve_is_the_one_it_was(bert: Path, tmp_path: Path) -> None:
    """Guards the training loop: a changed sampler, schedule or loss shows here. Regenerate it knowingly."""
    heard = Losses()
    done = trained(bert, tmp_path, rows=256, listener=heard, epochs=4, seed=7)
    assert done.facts["steps"] == 64
    assert np.mean(heard.train) == pytest.approx(PINNED_TRAIN_LOSS, abs=0.02)
    assert done.facts["final_train_loss"] == pytest.approx(heard.train[-1], abs=1e-4)
    assert done.validation["loss"] == pytest.approx(PINNED_VALIDATION_LOSS, abs=0.005)


def test_the_final_loss_is_that_of_the_last_steps_however_few(bert: Path, tmp_path: Path) -> None:
    heard = Losses()
    done = trained(bert, tmp_path, rows=48, listener=heard, epochs=2)
    assert done.facts["steps"] == 6 and len(heard.train) == 2  # an epoch each
    assert done.facts["final_train_loss"] == pytest.approx(heard.train[-1]) != heard.train[0]


PINNED_TRAIN_LOSS = 0.324


PINNED_VALIDATION_LOSS = 0.0133


def test_frozen_layers_stay_as_they_were(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = modeling.load_for_training(base, LABELS, SHORT, 0.0).model
    after = trained(base, tmp_path, frozen_layers=1).classifier.model
    kept, moved = set[str](), set[str]()
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        (kept if torch.equal(old, new) else moved).add(name)
    assert any("layer.0." in n or "h.0." in n for n in kept)
    assert not any("layer.1." in n or "h.1." in n for n in kept if "key.bias" not in n)
    with pytest.raises(SettingsError, match="2 layers"):
        modeling.freeze(copy.deepcopy(before), 3)


@pytest.mark.parametrize("losses", [(0.5, 0.3, 0.4, 0.31), (0.5, 0.3, 0.3, 0.3)])
def test_early_stopping_ends_a_plateau_and_a_decline(losses: tuple[float, ...]) -> None:
    callback = EarlyStopping(patience=2)
    arguments, state = TrainingArguments(output_dir="unused"), TrainerState()
    stops: list[bool] = []
    for loss in losses:
        control = TrainerControl()
        state.log_history.append({"eval_loss": loss, "eval_accuracy": 1.0})
        callback.on_evaluate(arguments, state, control)
        stops.append(control.should_training_stop)
    assert stops == [False, False, False, True]


def test_early_stopping_keeps_the_best_epoch(bert: Path, tmp_path: Path) -> None:
    """What is learned here is the opposite of what is validated, so that each epoch is worse than the one before."""
    encoder = Encoder(folders.load_tokenizer(bert), SHORT)
    train = dataset(encoder, 128, 0)
    opposite = train.map(lambda row: {"labels": 1 - row["labels"]})
    params = TrainingParams(
        learning_rate=5e-3,
        epochs=30,
        device="cpu",
        early_stopping_patience=1,
        best_epoch_by="loss",
    )
    done = fine_tune(job(bert, params), train, opposite, tmp_path, SilentListener())
    assert done.facts["best_epoch"] == done.facts["epochs_run"] - 1 < 29


def test_the_last_epoch_is_kept_where_asked_for(bert: Path, tmp_path: Path) -> None:
    done = trained(
        bert,
        tmp_path,
        epochs=5,
        early_stopping_patience=1,
        learning_rate=1e-2,
        best_epoch_by="last",
    )
    assert done.facts["best_epoch"] == done.facts["epochs_run"] == 5.0
    assert not list(tmp_path.rglob("checkpoint-*"))


def _epoch(right: int, margin: float = 3.0) -> EvalPrediction:
    """100 validation reviews of class 0, so many of them answered rightly."""
    logits = np.array([[margin, 0.0]] * right + [[0.0, margin]] * (100 - right))
    return EvalPrediction(logits, np.zeros(100, dtype=np.int64))


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [
        ((70, 80, 90), 2),
        ((80, 90, 88), 2),  # within a standard error, which is 3
        ((80, 90, 86), 1),
        ((90, 86, 88), 2),
        ((90, 80, 86), 0),
    ],
)
def test_the_latest_epoch_that_is_not_clearly_worse_is_kept(
    epochs: tuple[int, ...], kept: int
) -> None:
    merit = BestEpochMetric("accuracy")
    merits = [merit(_epoch(right))["merit"] for right in epochs]
    assert int(np.argmax(merits)) == kept


def test_the_epoch_of_least_loss_is_kept_where_asked_for() -> None:
    merit = BestEpochMetric("loss")
    sure, hesitant = merit(_epoch(90, margin=9.0)), merit(_epoch(88, margin=1.0))
    assert sure["accuracy"] == 0.9 and hesitant["merit"] > sure["merit"]


def test_training_that_diverges_says_so(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bert, broken)
    weights = load_file(broken / "model.safetensors")
    name = next(n for n in weights if "LayerNorm.weight" in n)
    weights[name] = torch.full_like(weights[name], torch.inf)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NightshiftError, match="Some logits are NaN or infinite"):
        trained(broken, tmp_path / "work", epochs=1)
    monkeypatch.setattr(fine_tuning, "with_tried_batch_rule", lambda classifier: classifier)
    with pytest.raises(NightshiftError, match="The loss is not a number"):
        trained(broken, tmp_path / "work", epochs=1)
