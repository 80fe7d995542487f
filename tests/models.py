"""Tiny models with random weights, made at test time."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedTokenizerFast

from tests.reviews import GOOD, POOR, reviews

_TEXTS = [text for text, _ in reviews(200)] + GOOD + POOR


def tiny_bert(folder: Path) -> Path:
    """BERT: 2 layers, hidden 32."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    raw = Tokenizer(WordPiece(_word_pieces(special), unk_token="[UNK]"))
    raw.normalizer = BertNormalizer(lowercase=True)
    raw.pre_tokenizer = BertPreTokenizer()
    raw.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=raw.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def tiny_gpt2(folder: Path) -> Path:
    """GPT-2: 2 layers, hidden 32, byte-level BPE, no pad token."""
    raw = ByteLevelBPETokenizer()
    raw.train_from_iterator(
        _TEXTS, vocab_size=600, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw._tokenizer, eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2Model(config).save_pretrained(folder)
    return folder


def _word_pieces(special: list[str]) -> dict[str, int]:
    """Every character and word of the reviews.

    `WordPieceTrainer` is not used: it gives another vocabulary at each run.
    """
    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = {
        word
        for text in _TEXTS
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    letters = {letter for word in words for letter in word}
    pieces = letters | {f"##{letter}" for letter in letters} | words
    return {piece: number for number, piece in enumerate([*special, *sorted(pieces)])}


def tiny_of(kind: type, folder: Path, **given: object) -> Path:
    """A base model of another architecture: 2 layers, hidden 32, the id of padding 1 as in the RoBERTa family.

    Args:
        kind: its class in transformers, such as CamembertModel.
        folder: is made.
        given: of its configuration.
    """
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    raw = Tokenizer(WordPiece(_word_pieces(special), unk_token="<unk>"))
    raw.normalizer = BertNormalizer(lowercase=True)
    raw.pre_tokenizer = BertPreTokenizer()
    raw.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {
        "vocab_size": raw.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    described: Any = kind
    described(described.config_class(**sizes | given)).save_pretrained(folder)
    return folder


def add_token(folder: Path, token: str = "[PAD]") -> Path:
    """A token of padding that the tokenizer of a folder has, and the embeddings have not."""
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": token})
    tokenizer.save_pretrained(folder)
    return folder
