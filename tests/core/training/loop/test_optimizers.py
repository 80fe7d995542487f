"""Learning rates: by layer, by step; what decays and what does not; dropout."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AlbertConfig, AlbertForSequenceClassification, get_scheduler

from tasks.core.errors import SettingsError
from tasks.core.models import classifier
from tasks.core.training.loop.optimizers import parameter_groups
from tasks.core.training.loop.trainer import arguments_of
from tasks.core.training.params import TrainingParams
from tests.core.training.tiny_trainings import LABELS, SHORT, trained


@pytest.fixture(params=["bert", "gpt2"])
def model(request: pytest.FixtureRequest) -> Any:
    base: Path = request.getfixturevalue(request.param)
    return classifier.load_for_training(base, LABELS, SHORT, 0.0, 0.0).model


def rates(model: Any, share: float) -> dict[str, float]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, set(), 1.0, 0.01, share)
    assert groups[0]["lr"] == max(group["lr"] for group in groups) == 1.0
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


def test_each_layer_has_a_share_of_the_rate_above_it(model: Any) -> None:
    found = rates(model, 0.5)
    assert found.keys() == dict(model.named_parameters()).keys()
    expected = {"layer.1.": 1.0, "h.1.": 1.0, "layer.0.": 0.5, "h.0.": 0.5}
    expected |= {"embeddings": 0.25, "wte": 0.25, "wpe": 0.25}
    for name, rate in found.items():
        assert rate == next((r for part, r in expected.items() if part in name), 1.0), name


def test_one_rate_for_all_is_two_groups(model: Any) -> None:
    decayed = {name for name, p in model.named_parameters() if p.dim() > 1}
    groups = parameter_groups(model, decayed, 1e-3, 0.01, 1.0)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(1e-3, 0.01), (1e-3, 0.0)]
    assert len(groups[0]["params"]) == len(decayed)


def test_what_is_frozen_is_in_no_group(model: Any) -> None:
    classifier.freeze(model, 1)
    assert all(
        p.requires_grad for g in parameter_groups(model, set(), 1, 0, 0.9) for p in g["params"]
    )
    assert len(parameter_groups(model, set(), 1, 0, 0.9)) == 1


def test_layers_that_are_one_cannot_be_told_apart() -> None:
    config = AlbertConfig(
        vocab_size=50, embedding_size=8, hidden_size=16, num_attention_heads=2, intermediate_size=16
    )
    albert = AlbertForSequenceClassification(config)
    with pytest.raises(
        SettingsError, match=r"cannot be told apart \[training.layerwise_lr_decay\]"
    ):
        parameter_groups(albert, set(), 1e-3, 0.01, 0.9)
    assert parameter_groups(albert, set(), 1e-3, 0.01, 1.0)


@pytest.mark.parametrize(
    ("schedule", "halfway", "end"), [("linear", 0.5, 0), ("cosine", 0.5, 0), ("constant", 1, 1)]
)
def test_the_schedule_is_the_one_chosen(schedule: Any, halfway: float, end: float) -> None:
    params = TrainingParams(lr_scheduler_type=schedule, warmup_ratio=0.2, epochs=5)
    arguments = arguments_of(params, "unused", True, False, steps_an_epoch=20)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    plan = get_scheduler(arguments.lr_scheduler_type, optimizer, arguments.warmup_steps, 100)
    seen: list[float] = []
    for _ in range(100):
        seen.append(plan.get_last_lr()[0])
        optimizer.step()
        plan.step()
    assert seen[10] == pytest.approx(0.5) and seen[20] == pytest.approx(1.0)
    assert seen[60] == pytest.approx(halfway) and plan.get_last_lr()[0] == pytest.approx(end)


def test_dropout_is_the_models_own_unless_set(model: Any, bert: Path) -> None:
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    own = classifier.load_for_training(bert, LABELS, SHORT, 0.0).model
    assert {m.p for m in own.modules() if isinstance(m, torch.nn.Dropout)} == {0.0, 0.1}


def test_it_learns_with_all_of_it(bert: Path, tmp_path: Path) -> None:
    given: dict[str, object] = {
        "layerwise_lr_decay": 0.9,
        "lr_scheduler_type": "cosine",
        "hidden_dropout": 0.0,
    }
    assert trained(bert, tmp_path, rows=256, epochs=4, **given).validation["accuracy"] >= 0.9
