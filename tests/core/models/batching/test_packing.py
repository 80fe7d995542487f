"""Torch without padding: exact for the architectures that people use, and never wrong in silence for others."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models.batching import packing, plan
from tasks.core.models.classifier import Classifier
from tests.core.models.tiny_classifiers import DECODERS, ENCODERS, tiny_classifier


@pytest.fixture(params=[*ENCODERS, *DECODERS])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    tokenizer = request.getfixturevalue("bert" if request.param in ENCODERS else "gpt2")
    return tiny_classifier(request.param, tokenizer)


def both(classifier: Classifier, rows: list[list[int]]) -> tuple[Any, Any]:
    packed, padded = (
        TorchEngine(classifier, "cpu", "fp32", 300, packed=packed) for packed in (True, False)
    )
    assert packed.is_packed and not padded.is_packed
    return packed.logits(rows), padded.logits(rows)


def test_the_id_of_padding_may_stand_in_a_text(classifier: Classifier) -> None:
    """At its end, where decoders look for the last token, and within, which RoBERTa does not count."""
    pad = classifier.pad_id
    rows = [[9, 8, pad], [pad], [pad, pad, pad], [7, pad, 6, 5, 9], [pad, 4], [11, pad, pad, pad]]
    packed, padded = both(classifier, rows)
    assert packed == pytest.approx(padded, abs=1e-4)


def test_the_given_model_stays_as_it_was(classifier: Classifier) -> None:
    attention = classifier.model.config._attn_implementation
    names = list(classifier.model.state_dict())
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        before = classifier.model(ids).logits
        engine = TorchEngine(classifier, "cpu", "fp32")
        assert engine.is_packed
        after = classifier.model(ids).logits
    assert torch.equal(before, after)
    assert classifier.model.config._attn_implementation == attention
    assert list(classifier.model.state_dict()) == names
    assert {id(p) for p in classifier.model.parameters()} >= {
        id(p)
        for p in engine._packed._model.parameters()  # pyright: ignore[reportOptionalMemberAccess]
    }  # the weights are there once


def test_bf16_gives_the_labels_of_fp32(classifier: Classifier) -> None:
    generator = np.random.default_rng(0)
    rows = [generator.integers(5, 280, n).tolist() for n in generator.integers(1, 90, 60)]
    exact = TorchEngine(classifier, "cpu", "fp32", packed=False).logits(rows)
    engine = TorchEngine(classifier, "cpu", "bf16")
    assert engine.is_packed
    rough = engine.logits(rows)
    assert np.abs(rough - exact).max() < 0.1 * np.ptp(exact)
    clear = np.abs(exact[:, 0] - exact[:, 1]) > 0.1 * np.ptp(exact)
    assert clear.sum() > 20 and (rough.argmax(1) == exact.argmax(1))[clear].all()


def test_rotary_frequencies_stay_in_fp32(gpt2: Path) -> None:
    classifier = tiny_classifier("llama", gpt2)
    before = classifier.model.model.rotary_emb.inv_freq.clone()
    engine = TorchEngine(classifier, "cpu", "bf16")
    for model in (classifier.model, engine._packed._model):  # pyright: ignore[reportOptionalMemberAccess]
        kept = [b for name, b in model.named_buffers() if name.endswith(".inv_freq")]
        assert kept and all(torch.equal(b, before) for b in kept)
    assert next(classifier.model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("architecture", ["deberta-v2", "mistral"])
def test_what_cannot_be_packed_is_padded_and_says_so(
    architecture: str, gpt2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """DeBERTa's attention has more to it, and this Mistral's sees half of a long review."""
    with caplog.at_level(logging.WARNING):
        engine = TorchEngine(tiny_classifier(architecture, gpt2), "cpu", "fp32")
    assert not engine.is_packed
    (line,) = [r.getMessage() for r in caplog.records if "padded batches" in r.getMessage()]
    assert "ForSequenceClassification is scored in padded batches" in line
    assert engine.logits([[5, 6, 7], [8]]).shape == (2, 2)


def test_attention_that_leaks_is_found(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Were rows to see one another, as BERT's do under plain `sdpa`, the probe would tell."""

    def leaking(query: Any, key: Any, value: Any, batch: Any, causal: bool, scale: Any) -> Any:
        sharing = query.shape[1] // key.shape[1]
        key, value = (t.repeat_interleave(sharing, dim=1) for t in (key, value))
        q, k, v = (t.transpose(0, 1) for t in (query, key, value))
        whole = causal and q.shape == k.shape
        return scaled_dot_product_attention(q, k, v, is_causal=whole, scale=scale).transpose(0, 1)

    monkeypatch.setattr(packing, "attend", leaking)
    assert not TorchEngine(classifier, "cpu", "fp32").is_packed
    assert "padded batches, which is slower: logits differ by" in caplog.text


lengths = st.lists(st.integers(1, 60), max_size=40)


@given(lengths, st.integers(1, 200), st.integers(1, 10))
def test_packed_batches_hold_every_row_once(rows: list[int], tokens: int, most: int) -> None:
    batches = plan.plan_packed(rows, tokens, most)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(rows)))
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert sum(rows[i] for i in batch) <= tokens or len(batch) == 1
    flat = [rows[i] for batch in batches for i in batch]
    assert flat == sorted(rows, reverse=True)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.booleans())
def test_attention_stays_within_each_row(rows: list[int], causal: bool) -> None:
    """Two heads of queries share one of keys and values."""
    tokens = sum(rows)
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(tokens, 2, 4),
        torch.randn(tokens, 1, 4),
        torch.randn(tokens, 1, 4),
    )
    batch = packing.pack([[5] * n for n in rows], None, True, torch.device("cpu"))
    found = packing.attend(query, key, value, batch, causal)
    last = packing.attend(query[batch.read], key, value, batch, causal)
    row_of = np.repeat(np.arange(len(rows)), rows)
    allowed = row_of[:, None] == row_of[None]
    if causal:
        allowed &= np.tri(tokens, dtype=bool)
    q, k, v = (t.transpose(0, 1) for t in (query, key.expand(-1, 2, -1), value.expand(-1, 2, -1)))
    expected = scaled_dot_product_attention(q, k, v, torch.from_numpy(allowed)).transpose(0, 1)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(last, expected[batch.read], atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_flash_attention_on_a_gpu_gives_the_same(classifier: Classifier) -> None:
    generator = np.random.default_rng(0)
    rows = [generator.integers(5, 280, n).tolist() for n in generator.integers(1, 90, 60)]
    exact = TorchEngine(classifier, "cpu", "fp32", packed=False).logits(rows)
    for precision in ("fp32", "bf16"):
        engine = TorchEngine(classifier, "cuda", precision)
        assert engine.is_packed
        assert np.abs(engine.logits(rows) - exact).max() < 0.1 * np.ptp(exact)
