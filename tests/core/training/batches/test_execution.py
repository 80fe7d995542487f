"""Packed batches and bf16: as right as padded ones in fp32, and not used where they are not."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.errors import SettingsError
from tasks.core.models.batching.packed_model import PackedModel
from tasks.core.models.classifier import Classifier
from tasks.core.training.batches.execution import fastest_plan, padding
from tasks.core.training.batches.numerics import difference
from tasks.core.training.batches.packing import PackingCollator, run_packed, run_plain
from tasks.core.training.distributed import DistributedContext
from tasks.core.training.params import TrainingParams
from tests.core.models.tiny_classifiers import LONGEST, tiny_classifier
from tests.core.training.tiny_trainings import trained

CPU = torch.device("cpu")


def rows(classifier: Classifier, count: int = 11) -> list[dict[str, Any]]:
    """Of every length, so that much would be padded."""
    generator = np.random.default_rng(0)
    words = int(classifier.model.config.vocab_size)
    lengths = generator.integers(3, LONGEST, count)
    ids = [generator.integers(5, words, n).tolist() for n in lengths]
    return [{"input_ids": row, "labels": i % 2} for i, row in enumerate(ids)]


def gradients(model: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    labels = batch.pop("labels")
    torch.nn.functional.cross_entropy(model(**batch).logits, labels).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "gpt2", "llama"])
def test_packed_reviews_have_the_gradient_of_padded_ones(architecture: str, bert: Path) -> None:
    classifier = tiny_classifier(architecture, bert)
    model: Any = classifier.model.eval()
    batch = rows(classifier)
    expected = gradients(model, padding(classifier)(batch))
    collate = PackingCollator(run_packed(model, classifier.pad_id, LONGEST))
    packed = collate(batch)
    assert packed["input_ids"].numel() == sum(len(row["input_ids"]) for row in batch)
    found = gradients(model, packed)
    largest = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        ours = found.get(name, torch.zeros_like(gradient))
        assert torch.allclose(ours, gradient, atol=1e-5 * largest, rtol=1e-4), name
    assert difference(model, [padding(classifier)(batch)], [collate(batch)]) < 1e-4
    run_plain(model)
    assert "forward" not in vars(model)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_packed_training_ends_with_the_weights_of_a_padded_one(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base: Path = request.getfixturevalue(family)
    given: dict[str, Any] = {
        "hidden_dropout": 0.0,
        "precision": "fp32",
        "batch_by": "tokens",
        "batch_tokens": 500,
        "learning_rate": 1e-3,
        "epochs": 1,
    }
    padded = trained(base, tmp_path / "padded", **given)
    packed = trained(base, tmp_path / "packed", **given, packing="on")
    assert packed.facts["packed"] and not padded.facts["packed"]
    assert packed.facts["final_train_loss"] == pytest.approx(
        padded.facts["final_train_loss"], abs=1e-4
    )
    ours, theirs = (t.classifier.model.state_dict() for t in (packed, padded))
    assert all(torch.allclose(ours[n], theirs[n], atol=2e-3) for n in ours if "key.bias" not in n)
    assert "forward" not in vars(packed.classifier.model)


def test_a_packed_training_with_dropout_learns(bert: Path, tmp_path: Path) -> None:
    done = trained(bert, tmp_path, rows=256, epochs=4, packing="on")
    assert done.facts["packed"] and done.validation["accuracy"] >= 0.9


def test_what_cannot_be_packed_is_padded_or_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be trained packed: attention dropout is on"):
        trained(bert, tmp_path, packing="on", attention_dropout=0.1)
    mistral = tiny_classifier("mistral", bert)
    params = TrainingParams(packing="on", precision="fp32")
    with pytest.raises(SettingsError, match=r"\[training.packing\]"):
        fastest_plan(mistral, [rows(mistral)], params, CPU, "fp32", DistributedContext())
    execution = fastest_plan(
        mistral, [rows(mistral)], TrainingParams(), CPU, "fp32", DistributedContext()
    )
    assert not execution.packed and not execution.bf16 and execution.bf16_difference is None


def test_code_that_breaks_when_packed_does_not_end_scoring_or_training(
    bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model's own code may raise anything; a training that packs where it can goes on padded."""
    classifier = tiny_classifier("bert", bert)

    def breaks(*_: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'shape'\nand more")

    monkeypatch.setattr(PackedModel, "pack", breaks)
    with pytest.raises(SettingsError, match="cannot be trained packed: 'NoneType' object has no"):
        fastest_plan(
            classifier,
            [rows(classifier)],
            TrainingParams(packing="on"),
            CPU,
            "fp32",
            DistributedContext(),
        )
    assert "forward" not in vars(classifier.model)
    assert not TorchEngine(classifier, "cpu", "fp32").is_packed
    (line,) = (r.getMessage() for r in caplog.records if "padded batches" in r.getMessage())
    assert line.endswith("which is slower: 'NoneType' object has no attribute 'shape'")


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_the_loss_in_bf16_follows_that_in_fp32(architecture: str, bert: Path) -> None:
    classifier = tiny_classifier(architecture, bert)
    before = {name: w.clone() for name, w in classifier.model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    batches = [rows(classifier), rows(classifier, 5)]
    execution = fastest_plan(
        classifier, batches, TrainingParams(), CPU, "bf16", DistributedContext()
    )
    assert execution.bf16 and execution.bf16_difference and execution.bf16_difference < 0.1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(w, before[n]) for n, w in classifier.model.state_dict().items())
    assert all(p.grad is None for p in classifier.model.parameters())


def test_where_bf16_does_not_follow_training_is_in_fp32(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fell = trained(bert, tmp_path / "a", precision="bf16", bf16_tolerance=1e-9)
    assert fell.facts["precision"] == "fp32" and fell.facts["bf16_difference"] > 1e-9
    assert "Training continues in fp32 instead of bf16: loss or gradient differed" in caplog.text
    plain = trained(bert, tmp_path / "b", precision="fp32")
    assert plain.facts["bf16_difference"] is None
    ours, theirs = (t.classifier.model.state_dict() for t in (fell, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_loss_that_is_no_number_follows_nothing(bert: Path) -> None:
    classifier = tiny_classifier("bert", bert)
    batch = padding(classifier)(rows(classifier))
    with torch.no_grad():
        next(classifier.model.parameters()).fill_(torch.inf)
    assert difference(classifier.model, [batch], [batch]) == torch.inf


def test_auto_leaves_a_cpu_padded(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    classifier = tiny_classifier("bert", bert)
    execution = fastest_plan(
        classifier, [rows(classifier)], TrainingParams(), CPU, "fp32", DistributedContext()
    )
    assert not execution.packed
