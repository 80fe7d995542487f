"""Models of known shapes with random weights, for speed only: a matrix product's speed does not depend on its numbers.

They need torch, transformers and its tokenizers: no hub, no package with weights.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import AutoModel, BertConfig, LlamaConfig, PreTrainedTokenizerFast

SHAPES: dict[str, Any] = {
    "tiny": lambda: _bert(32, 2, 2, 64),
    "minilm": lambda: _bert(384, 6, 12, 1536),
    "bert-base": lambda: _bert(768, 12, 12, 3072),
    "bert-large": lambda: _bert(1024, 24, 16, 4096),
    "tiny-llama": lambda: _llama(32, 2, 4, 2, 64),
    "smollm2-135m": lambda: _llama(576, 30, 9, 3, 1536),
}
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_VOCABULARY = 30_522


def make(shape: str, texts: Sequence[str], folder: Path) -> Path:
    """Write a base model of a shape, with a tokenizer made from these texts, as a Hugging Face folder.

    Raises:
        KeyError: there is no such shape.
    """
    config = SHAPES[shape]()
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    _tokenizer(texts, framed=config.model_type == "bert").save_pretrained(folder)
    return folder


def _bert(hidden: int, layers: int, heads: int, inner: int) -> Any:
    return BertConfig(
        vocab_size=_VOCABULARY if hidden > 64 else 2_000, hidden_size=hidden, pad_token_id=0,
        num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
    )  # fmt: skip


def _llama(hidden: int, layers: int, heads: int, kv_heads: int, inner: int) -> Any:
    return LlamaConfig(
        vocab_size=_VOCABULARY if hidden > 64 else 2_000, hidden_size=hidden, pad_token_id=0,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=inner, max_position_embeddings=2048, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip


def _tokenizer(texts: Sequence[str], framed: bool) -> PreTrainedTokenizerFast:
    raw = Tokenizer(WordPiece(unk_token="[UNK]"))
    raw.normalizer = BertNormalizer(lowercase=True)
    raw.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(vocab_size=2_000, special_tokens=list(_SPECIAL), show_progress=False)
    raw.train_from_iterator(texts, trainer)
    if framed:
        raw.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), _SPECIAL, strict=False))
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)
