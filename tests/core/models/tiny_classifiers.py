"""Classifiers of several architectures with random weights, whose answers differ enough to be told apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    RobertaConfig,
)

from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.models.classifier import Classifier

LABELS = ["NEGATIVE", "POSITIVE"]
LONGEST = 96
_LAYERS, _HIDDEN, _HEADS = 3, 32, 2
_COMMON = {"num_hidden_layers": _LAYERS, "hidden_size": _HIDDEN, "num_attention_heads": _HEADS,
           "intermediate_size": 64, "max_position_embeddings": LONGEST + 2}  # fmt: skip
_CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (BertConfig, _COMMON),
    "roberta": (RobertaConfig, _COMMON),
    "electra": (ElectraConfig, _COMMON | {"embedding_size": 16}),
    "distilbert": (
        DistilBertConfig,
        {"n_layers": _LAYERS, "dim": _HIDDEN, "n_heads": _HEADS, "hidden_dim": 64,
         "max_position_embeddings": LONGEST},
    ),
    "gpt2": (
        GPT2Config,
        {"n_layer": _LAYERS, "n_embd": _HIDDEN, "n_head": _HEADS, "n_positions": LONGEST},
    ),
    "llama": (LlamaConfig, _COMMON | {"num_key_value_heads": 1}),
    "deberta-v2": (DebertaV2Config, _COMMON | {"relative_attention": True, "pos_att_type": "p2c|c2p"}),
    "mistral": (MistralConfig, _COMMON | {"num_key_value_heads": 1, "sliding_window": LONGEST // 2}),
}  # fmt: skip
ENCODERS = ("bert", "roberta", "electra", "distilbert")
DECODERS = ("gpt2", "llama")


def tiny_classifier(architecture: str, tokenizer: Path) -> Classifier:
    """A classifier in fp32 on the CPU.

    Args:
        architecture: a key of the configurations above.
        tokenizer: a folder with one; its vocabulary is the model's.
    """
    words = folders.load_tokenizer(tokenizer)
    kind, given = _CONFIGS[architecture]
    torch.manual_seed(0)
    pad = int(words.pad_token_id)  # type: ignore[arg-type]
    ends = {"bos_token_id": pad, "eos_token_id": pad}
    config = kind(vocab_size=len(words), pad_token_id=pad, num_labels=2, **ends, **given)
    config.id2label, config.label2id = dict(enumerate(LABELS)), {n: i for i, n in enumerate(LABELS)}
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim == 2 and "embedding" not in name and "wte" not in name:
                weights.mul_(4)  # else the states of all rows are nearly alike
    params = TokenizationParams(max_length_tokens=LONGEST)
    made = Classifier(model, Encoder(words, params), list(LABELS))
    return replace(made, temperature=1.0)


def saved(classifier: Classifier, folder: Path) -> Path:
    """The folder, with the classifier in it."""
    modeling.save(classifier, folder)
    return folder
