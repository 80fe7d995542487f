"""LoRA: little is trained and little is saved, and the finished model knows nothing of it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.errors import SettingsError
from tasks.core.models import classifier, folders
from tasks.core.training.fine_tuning import fine_tune
from tasks.core.training.methods import lora
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import NoCheckpoints, SilentListener
from tests.core.training.tiny_trainings import LABELS, SHORT, dataset, job, trained

pytest.importorskip("peft")


@pytest.fixture(params=["bert", "gpt2"])
def base(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def loaded(base: Path, **given: Any) -> Any:
    torch.manual_seed(0)
    model = classifier.load_for_training(base, LABELS, SHORT, 0.0).model
    lora.insert(model, TrainingParams.model_validate({"lora_rank": 4} | given))
    return model


def test_adapters_and_what_comes_after_the_layers_are_trained(base: Path) -> None:
    names = [n for n, p in loaded(base).named_parameters() if p.requires_grad]
    others = [n for n in names if "lora_" not in n]
    assert len(names) > len(others) > 0
    after = ("classifier", "score", "pooler", "ln_f")
    assert all(any(part in name for part in after) for name in others)
    frozen = [n for n, p in loaded(base, frozen_layers=1).named_parameters() if p.requires_grad]
    assert 0 < len(frozen) < len(names)
    assert not any("layer.0." in n or "h.0." in n for n in frozen)


def test_merged_weights_answer_as_the_adapters_did(base: Path) -> None:
    model = loaded(base).eval()
    plain_keys = classifier.load_for_training(base, LABELS, SHORT, 0.0).model.state_dict().keys()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    ids = torch.arange(5, 25)[None]
    before = model(input_ids=ids).logits
    lora.merge(model)
    assert torch.allclose(model(input_ids=ids).logits, before, atol=1e-5)
    assert model.state_dict().keys() == plain_keys


def test_it_learns_and_is_loaded_without_peft(base: Path, tmp_path: Path) -> None:
    done = trained(base, tmp_path / "work", rows=256, epochs=8, lora_rank=8, learning_rate=5e-3)
    assert done.validation["accuracy"] >= 0.9
    classifier.save(done.classifier, tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as weights:
        assert not any("lora" in key for key in weights.keys())  # noqa: SIM118
    again = classifier.load(tmp_path / "model").model.state_dict()
    ours = done.classifier.model.state_dict()
    assert all(torch.equal(again[name], ours[name]) for name in ours)


class Kept(NoCheckpoints):
    """Copies the names of the weights of each checkpoint."""

    def __init__(self) -> None:
        self.names: list[set[str]] = []

    def due(self) -> bool:
        return True

    def keep(self, checkpoint: Path, best: Path | None) -> None:
        with safe_open(checkpoint / "model.safetensors", "pt") as weights:
            self.names.append(set(weights.keys()))


def test_checkpoints_hold_what_is_trained_only(base: Path, tmp_path: Path) -> None:
    encoder = Encoder(folders.load_tokenizer(base), SHORT)
    sets = dataset(encoder, 32, 0), dataset(encoder, 16, 1)
    params = TrainingParams(lora_rank=4, epochs=1, device="cpu")
    kept = Kept()
    fine_tune(job(base, params), *sets, tmp_path, SilentListener(), kept)
    expected = {n for n, p in loaded(base).named_parameters() if p.requires_grad}
    assert kept.names
    assert all(names == expected for names in kept.names)


def test_all_layers_frozen_leaves_nothing_to_adapt(base: Path) -> None:
    with pytest.raises(SettingsError, match=r"none is left for LoRA \[training.frozen_layers\]"):
        loaded(base, frozen_layers=2)


def test_without_peft_it_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    lora.require_package(TrainingParams())
    with pytest.raises(SettingsError, match=r"LoRA needs the package peft.*extra 'lora'"):
        lora.require_package(TrainingParams(lora_rank=8))
