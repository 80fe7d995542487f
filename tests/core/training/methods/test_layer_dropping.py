"""Models of some of a base model's layers: which they are, and that any tool loads what was trained."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    Gemma3TextConfig,
    ModernBertConfig,
)

from tasks.core.errors import SettingsError
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.models.classifier import Classifier
from tasks.core.training.methods.layer_dropping import (
    keep_layers,
    layer_indices,
    require_num_layers,
)
from tasks.core.training.params import TrainingParams
from tests.core.models.tiny_classifiers import tiny_classifier
from tests.core.training.tiny_trainings import trained

IDS = torch.arange(5, 25).reshape(2, 10)
SMALL: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def weights(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def reloaded(model: Any, folder: Path) -> Any:
    model.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder)


def test_which_layers_are_kept() -> None:
    assert layer_indices(12, 6) == [0, 2, 4, 7, 9, 11]
    assert layer_indices(12, 2) == [0, 11] and layer_indices(12, 1) == [0]
    for depth in range(2, 33):
        for kept in range(2, depth + 1):
            indices = layer_indices(depth, kept)
            assert indices[0] == 0 and indices[-1] == depth - 1
            gaps = {b - a for a, b in itertools.pairwise(indices)}
            assert len(indices) == kept and min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


ARCHITECTURES = [
    "bert", "roberta", "electra", "distilbert", "gpt2", "llama", "deberta-v2", "mistral",
]  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_smaller_model_has_the_first_and_the_last_layer_and_is_loaded_anywhere(
    architecture: str, bert: Path, tmp_path: Path
) -> None:
    whole = tiny_classifier(architecture, bert)
    smaller = keep_layers(whole, 2)
    ours, theirs = modeling.layers_of(smaller.model), modeling.layers_of(whole.model)
    assert ours is not None and theirs is not None and (len(ours), len(theirs)) == (2, 3)
    for one, other in ((ours[0], theirs[0]), (ours[1], theirs[2])):
        expected = other.state_dict()
        assert all(torch.equal(w, expected[n]) for n, w in one.state_dict().items())
    layer = weights(theirs[0])
    assert weights(smaller.model) == weights(whole.model) - layer
    outside = [n for n in smaller.model.state_dict() if "layer" not in n and ".h." not in n]
    kept, given = smaller.model.state_dict(), whole.model.state_dict()
    assert outside and all(torch.equal(kept[n], given[n]) for n in outside)
    found: Any = reloaded(smaller.model, tmp_path)
    assert found.config.num_hidden_layers == 2 and weights(found) == weights(smaller.model)
    model: Any = smaller.model
    with torch.no_grad():
        assert torch.equal(found(input_ids=IDS).logits, model(input_ids=IDS).logits)
    assert int(whole.model.config.num_hidden_layers) == 3  # left as it is


def test_the_smaller_model_computes_what_the_model_does_without_the_layers_between(
    bert: Path,
) -> None:
    whole = tiny_classifier("bert", bert)
    smaller: Any = keep_layers(whole, 2).model
    model: Any = whole.model
    del model.bert.encoder.layer[1]
    with torch.no_grad():
        assert torch.equal(smaller(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.parametrize("config", [ModernBertConfig, Gemma3TextConfig])
def test_layers_of_several_kinds_keep_their_kinds(config: Any, tmp_path: Path) -> None:
    more: dict[str, Any] = {"cls_token_id": 3, "sep_token_id": 4}
    if config is Gemma3TextConfig:
        more = {"num_key_value_heads": 1, "head_dim": 16}
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    given = config(**SMALL, **more, layer_types=kinds)
    model: Any = AutoModelForSequenceClassification.from_config(given).eval()
    encoder: Any = None
    smaller: Any = keep_layers(Classifier(model, encoder, ["a", "b"]), 2).model
    assert smaller.config.layer_types == ["sliding_attention", "full_attention"]
    found = reloaded(smaller, tmp_path)
    with torch.no_grad():
        assert torch.equal(found(input_ids=IDS).logits, smaller(input_ids=IDS).logits)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_smaller_model_is_trained_saved_and_loaded(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base: Path = request.getfixturevalue(family)
    done = trained(base, tmp_path / "work", rows=256, epochs=6, num_layers=1, frozen_layers=0)
    assert done.validation["accuracy"] >= 0.9
    modeling.save(done.classifier, tmp_path / "model")
    assert folders.depth(tmp_path / "model") == 1 < folders.depth(base)
    assert folders.parameters(tmp_path / "model") < folders.parameters(base)
    model: Any = modeling.load(tmp_path / "model").model
    assert len(modeling.layers_of(model) or ()) == 1
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(plain(input_ids=IDS).logits, model(input_ids=IDS).logits)


def test_all_layers_are_the_model_itself(bert: Path) -> None:
    classifier = tiny_classifier("bert", bert)
    assert keep_layers(classifier, 0) is classifier and keep_layers(classifier, 3) is classifier


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"num_layers": 3},
            r"has 2 layers, and 3 are to be kept \[training.num_layers\] -> keep",
        ),
        (
            {"num_layers": 1, "frozen_layers": 2},
            r"1 layers are kept, and 2 are to be frozen \[training.frozen_layers\]",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_loaded(
    given: dict[str, int], message: str, bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        require_num_layers(bert, TrainingParams.model_validate(given))
    with pytest.raises(SettingsError):
        trained(bert, tmp_path, **given)
    require_num_layers(bert, TrainingParams(num_layers=1, frozen_layers=1))
    require_num_layers(bert, TrainingParams(frozen_layers=2))


def test_layers_that_share_their_weights_cannot_be_kept_apart(tmp_path: Path) -> None:
    config = AlbertConfig(**SMALL, embedding_size=16)
    config.save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match=r"cannot be told apart \[training.num_layers\]"):
        require_num_layers(tmp_path, TrainingParams(num_layers=2))
    model = AutoModelForSequenceClassification.from_config(config)
    encoder: Any = None
    with pytest.raises(SettingsError, match=r"cannot be told apart"):
        keep_layers(Classifier(model, encoder, ["a", "b"]), 2)


def test_a_setting_that_came_later_changes_no_older_digest() -> None:
    before = TrainingParams().identity()
    assert "kept_layers" not in before
    assert TrainingParams(num_layers=1).identity() == before | {"kept_layers": 1}
