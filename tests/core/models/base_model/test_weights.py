"""Only a head and a pooler may be new: whatever else a file lacks, or has besides, is an error that names it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    BertForPreTraining,
    BertForTokenClassification,
    FunnelConfig,
    FunnelForMaskedLM,
    FunnelForSequenceClassification,
    GPT2LMHeadModel,
    RoFormerConfig,
    RoFormerModel,
)

from tasks.core.errors import ModelError, NightshiftError
from tasks.core.models import classifier
from tasks.core.models.base_model import weights as base_weights
from tasks.core.training.pretraining import language_models
from tests.core.models.tiny_classifiers import saved, tiny_classifier
from tests.core.training.tiny_trainings import LABELS, SHORT

Tensors = dict[str, torch.Tensor]


def changed(base: Path, folder: Path, change: Callable[[Tensors], Tensors], **config: Any) -> Path:
    """A copy of a base model with other weights or another configuration."""
    shutil.copytree(base, folder)
    path = folder / "model.safetensors"
    weights = change(load_file(path))
    save_file({n: t.contiguous() for n, t in weights.items()}, path, metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder


def prefixed(word: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: {word + name: tensor for name, tensor in weights.items()}


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: {n: t for n, t in weights.items() if part not in n}


def same(weights: Tensors) -> Tensors:
    return weights


def resized(part: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: {n: t[:-1] if part in n else t for n, t in weights.items()}


def renamed(weights: Tensors) -> Tensors:
    return {n.replace("query", "q_proj"): t for n, t in weights.items()}


def with_more(weights: Tensors) -> Tensors:
    return weights | {n.replace(".1.", ".9."): t + 1 for n, t in weights.items() if ".1." in n}


def with_a_copy(weights: Tensors) -> Tensors:
    return weights | {f"ema.{n}": t + 1 for n, t in weights.items()}


WRONG = {
    "torch.compile": ("bert", prefixed("_orig_mod."), {}, r"lack \d+ of .*LayerNorm\.bias.* prefix '_orig_mod\.'"),
    "DataParallel": ("bert", prefixed("module."), {}, r"-> remove the prefix 'module\.'"),
    "Lightning": ("gpt2", prefixed("model.transformer."), {}, r"-> remove the prefix 'model\.'"),
    "other names": ("bert", renamed, {}, r"lack 4 of .*query\.bias.*such as encoder\.layer\.0\.attention.*q_proj"),
    "a missing layer": ("bert", without("layer.1."), {}, r"lack 16 of .*bert\.encoder\.layer\.1\."),
    "one missing tensor": ("gpt2", without("h.1.ln_2.bias"), {}, r"lack 1 of .*transformer\.h\.1\.ln_2\.bias"),
    "half a pooler": ("bert", without("pooler.dense.bias"), {}, r"lack 1 of .*bert\.pooler\.dense\.bias"),
    "fewer rows": ("bert", resized("word_embeddings"), {}, r"sizes .*embeddings\.weight has \d+x32 instead of \d+x32"),
    "another size": ("bert", same, {"intermediate_size": 32},
                     r"other sizes .*intermediate\.dense\.bias has 64 instead of 32"),
    "a pooler of another size": ("bert", resized("pooler.dense.bias"), {}, r"pooler\.dense\.bias has 31 instead of 32"),
    "more layers than it takes": ("bert", with_more, {}, r"hold more .*encoder\.layer\.9\.attention"),
    "fewer layers asked for": ("gpt2", same, {"n_layer": 1}, r"hold more .*h\.1\.attn"),
    "a second set": ("bert", with_a_copy, {}, r"hold more .*ema\.e"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_are_not_the_models_are_an_error_that_names_them(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    family, change, config, said = WRONG[name]
    folder = changed(request.getfixturevalue(family), tmp_path / "base", change, **config)
    with pytest.raises(ModelError, match=said):
        classifier.load_for_training(folder, LABELS, SHORT, 0.0)
    objective = "masked" if family == "bert" else "causal"
    if "pooler" not in name:  # a language model has none
        with pytest.raises(ModelError, match=said):
            language_models.with_language_head(folder, "tiny", objective)


def test_a_pooler_that_the_file_lacks_is_new_and_that_is_said(bert: Path, tmp_path: Path) -> None:
    folder = changed(bert, tmp_path / "base", without("pooler"))
    found = classifier.load_for_training(folder, LABELS, SHORT, 0.0)
    (note,) = found.notes
    assert note.startswith("The weights have no pooler, so a new one is trained: bert.pooler.dense")
    assert classifier.load_for_training(bert, LABELS, SHORT, 0.0).notes == ()


@pytest.mark.parametrize("kind", [BertForPreTraining, BertForTokenClassification])
def test_heads_of_other_tasks_are_ignored_and_that_is_said(
    kind: Any, bert: Path, tmp_path: Path
) -> None:
    """Also one with the name and another size of ours."""
    folder = tmp_path / "base"
    shutil.copytree(bert, folder)
    kind.from_pretrained(bert, num_labels=9).save_pretrained(folder)
    found = classifier.load_for_training(folder, LABELS, SHORT, 0.0)
    body, theirs = found.model.bert.state_dict(), load_file(folder / "model.safetensors")
    assert all(torch.equal(theirs[f"bert.{n}"], t) for n, t in body.items() if "pooler" not in n)
    said = " ".join(found.notes)
    assert ("Heads of other tasks" in said) == (kind is BertForPreTraining)
    assert ("no pooler" in said) == (kind is BertForTokenClassification)


def test_a_language_head_of_a_decoder_is_ignored(gpt2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(gpt2, folder)
    model: Any = GPT2LMHeadModel.from_pretrained(gpt2)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.save_pretrained(folder)
    assert classifier.load_for_training(folder, LABELS, SHORT, 0.0).notes == (
        "Heads of other tasks in the weights are ignored: lm_head.weight",
    )


def test_masks_and_constants_of_older_versions_are_no_weights(gpt2: Path, tmp_path: Path) -> None:
    def older(weights: Tensors) -> Tensors:
        masks = {f"h.{n}.attn.masked_bias": torch.tensor(-1e4) for n in range(2)}
        return weights | masks | {"h.0.attn.mask": torch.ones(4, 4, dtype=torch.bool)}

    folder = changed(gpt2, tmp_path / "base", older)
    assert classifier.load_for_training(folder, LABELS, SHORT, 0.0).notes == ()


_SMALL = {"vocab_size": 50, "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1],
          "num_decoder_layers": 1}  # fmt: skip


def test_a_decoder_that_the_classifier_does_not_have_is_no_damage(tmp_path: Path) -> None:
    folder, kind = tmp_path / "base", AutoModelForSequenceClassification
    FunnelForMaskedLM(FunnelConfig(**_SMALL)).save_pretrained(folder)
    found = base_weights.load_body(kind, folder)
    assert isinstance(found.model, FunnelForSequenceClassification)
    assert any("decoder.layers.0" in name for name in found.ignored)
    theirs = load_file(folder / "model.safetensors")
    body = found.model.funnel.state_dict()
    assert body and all(torch.equal(theirs[f"funnel.{name}"], t) for name, t in body.items())
    wrong = changed(folder, tmp_path / "wrong", lambda w: w | {
        n.replace("funnel.", "funnel.module."): t + 1 for n, t in w.items() if "encoder" in n
    })  # fmt: skip
    with pytest.raises(ModelError, match=r"hold more .*funnel\.module\.encoder"):
        base_weights.load_body(kind, wrong)


def test_a_constant_that_the_file_lacks_is_computed(tmp_path: Path) -> None:
    config: Any = RoFormerConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                 intermediate_size=64, max_position_embeddings=40)  # fmt: skip
    model: Any = RoFormerModel(config)
    model.save_pretrained(tmp_path / "base")
    folder = changed(tmp_path / "base", tmp_path / "without", without("embed_positions"))
    found = base_weights.load_body(AutoModelForSequenceClassification, folder)
    name = "encoder.embed_positions.weight"
    assert name not in load_file(folder / "model.safetensors")
    assert torch.equal(found.model.roformer.state_dict()[name], model.state_dict()[name])


def test_sharded_weights_are_whole_or_refused(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(bert, folder)
    (folder / "model.safetensors").unlink()
    model: Any = tiny_classifier("bert", bert).model
    model.save_pretrained(folder, max_shard_size="50KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1 and classifier.load_for_training(folder, LABELS, SHORT, 0.0).model
    kept = load_file(shards[-1])
    kept.pop(next(name for name in kept if "encoder" in name))
    save_file(kept, shards[-1], metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of .*encoder"):
        classifier.load_for_training(folder, LABELS, SHORT, 0.0)
    shards[-1].unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        classifier.load_for_training(folder, LABELS, SHORT, 0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("classifier.bias"), r"lack 1 of .*classifier\.bias"),
        (without("pooler"), r"lack 2 of .*pooler"),
        (resized("classifier.weight"), r"classifier\.weight has 1x32 instead of 2x32"),
        (with_more, r"hold more .*layer\.9"),
    ],
)
def test_a_classifier_that_was_saved_is_loaded_whole_or_not_at_all(
    change: Callable[[Tensors], Tensors], said: str, bert: Path, tmp_path: Path
) -> None:
    folder = saved(tiny_classifier("bert", bert), tmp_path / "good")
    assert classifier.load(folder).model
    wrong = changed(folder, tmp_path / "wrong", change)
    with pytest.raises(ModelError, match=said):
        classifier.load(wrong)


def test_a_checkpoint_must_hold_what_is_trained(bert: Path, gpt2: Path) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(bert)
    names = set(model.state_dict())
    base_weights.require_loaded(model, [], [])
    with pytest.raises(NightshiftError, match=r"lacks classifier\.weight"):
        base_weights.require_loaded(model, ["classifier.weight"], [])
    with pytest.raises(NightshiftError, match="that the model lacks: other"):
        base_weights.require_loaded(model, [], ["other"])
    model._keys_to_ignore_on_save = names - {"classifier.weight"}
    base_weights.require_loaded(model, names - {"classifier.weight"}, [])
    tied: Any = GPT2LMHeadModel.from_pretrained(gpt2)
    base_weights.require_loaded(tied, ["lm_head.weight"], [])
    with pytest.raises(ModelError, match=r"lacks lm_head\.weight, transformer\.wte\.weight"):
        base_weights.require_loaded(tied, ["lm_head.weight", "transformer.wte.weight"], [])
