"""A family that no file names is tried and scored."""

from pathlib import Path

import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.models.batching import neighbours
from tasks.core.models.classifier import Classifier


def test_a_family_that_no_file_names(bert: Path, tmp_path: Path) -> None:
    tokenizer = folders.load_tokenizer(bert)
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        relative_attention=True,
        position_buckets=16,
        pos_att_type=["p2c", "c2p"],
    )
    model = DebertaV2ForSequenceClassification(config)
    made = Classifier(model, Encoder(tokenizer, TokenizationParams()), ["NEGATIVE", "POSITIVE"])
    modeling.save(neighbours.with_batch_rule(made), tmp_path)
    engine = TorchEngine(modeling.load(tmp_path), "cpu", "fp32")
    logits = engine.logits([[5, 6, 7], [8, 9]])
    assert logits.shape == (2, 2)
    assert logits[[1]] == pytest.approx(engine.logits([[8, 9]]), abs=1e-4)
