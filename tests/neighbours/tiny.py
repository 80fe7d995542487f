"""Every architecture that transformers can build as a sequence classifier, tiny, with random weights.

A configuration is made small by what its fields mean, told by their names; what a family needs beyond that stands in
`_OWN`. Weights are large enough for answers to differ clearly from text to text.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.models.auto.tokenization_auto import (
    TOKENIZER_MAPPING_NAMES,
    tokenizer_class_from_name,
)

from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.models import folders as model_folders
from tasks.core.models.classifier import Classifier

LABELS = ["NEGATIVE", "POSITIVE"]
LONGEST = 96
ARCHITECTURES = tuple(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
_HIDDEN, _HEADS, _LAYERS = 32, 2, 4  # layers of several kinds come in turns of two to four
#: Fields by what they mean, and how large they become; the first that fits counts.
_SIZES: tuple[tuple[str, int], ...] = (
    (r"(num_)?(hidden_|encoder_|decoder_)?layers|n_layers?", _LAYERS),
    (r"(num_)?(encoder_|decoder_)?(attention_)?heads|n_heads?|num_attention_heads|num_heads", _HEADS),
    (r"num_key_value_heads|num_kv_heads", _HEADS),
    (r"hidden_size|d_model|n_embd|emb_dim|dim|embedding_size|word_embed_proj_dim", _HIDDEN),
    (r".*(head_dim|head_size)|d_kv|d_head|kv_channels", _HIDDEN // _HEADS),
    (r".*intermediate_size|.*ffn_dim|d_ff|hidden_dim|n_inner|d_inner|.*ffn_hidden_size|dff|ffn_size", 64),
    (r"max_position_embeddings|n_positions|max_seq_len|n_ctx|max_sequence_length|max_target_positions", 512),
    (r"num_(local_)?experts|n_routed_experts", 4),
    (r"num_experts_per_tok|moe_topk", 2),
    (r"n_group|topk_group|first_k_dense_replace", 1),
    (r"rotary_dim", 8),
)  # fmt: skip
#: Of these None means a size that other fields give, but not in every family.
_UNSET = ("head_dim", "num_key_value_heads", "num_experts_per_tok")
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_KINDS = ["linear_attention", "hybrid"] * 2
#: What a family needs beyond that.
_OWN: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lilt": {"hidden_size": 48, "num_attention_heads": 4},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": _HIDDEN},
    "mistral4": {"head_dim": 32, "qk_head_dim": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16},
    "perceiver": {"d_latents": _HIDDEN, "num_latents": 16, "num_blocks": 1,
                  "num_self_attends_per_block": 2, "num_self_attention_heads": 2, "num_cross_attention_heads": 2,
                  "image_size": 8, "train_size": [8, 8]},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"] * 2, "attention_head_size": 16,
                 "num_buckets": 4},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "zamba2": {"layers_block_type": _KINDS, "layer_types": _KINDS,
               "hybrid_layer_ids": [1, 3], "n_mamba_heads": 4, "mamba_headdim": 16, "mamba_ngroups": 1},
}  # fmt: skip


def tiny(architecture: str, folders: dict[str, Path], **given: Any) -> Classifier:
    """A classifier in fp32 on the CPU.

    Args:
        architecture: a model type that transformers knows.
        folders: of a tokenizer: bert frames texts in two special tokens, gpt2 does not.
        given: for its configuration.
    """
    words = _tokenizer(architecture, folders)
    torch.manual_seed(0)
    config = _config(architecture, words, given)
    model: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    _stretch(model.eval())
    tokenization = TokenizationParams(max_length_tokens=LONGEST)
    return Classifier(model, Encoder(words, tokenization), list(LABELS))


def tiny_base(architecture: str, folders: dict[str, Path], folder: Path) -> Path:
    """The same as a base model, in a folder: without the head."""
    classifier = tiny(architecture, folders)
    body: Any = classifier.model.base_model
    body.save_pretrained(folder)
    classifier.encoder.tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(architecture: str, folders: dict[str, Path]) -> Any:
    decodes = (
        architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and architecture not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        and not AutoConfig.for_model(architecture).is_encoder_decoder
    )
    words = model_folders.load_tokenizer(folders["gpt2" if decodes else "bert"])
    words.padding_side = _side(architecture)
    return words


def _side(architecture: str) -> Any:
    """Where this family's own tokenizers pad."""
    name = TOKENIZER_MAPPING_NAMES.get(architecture)
    try:
        return getattr(tokenizer_class_from_name(name) if name else None, "padding_side", "right")
    except ImportError:  # a library that this tokenizer alone needs
        return "right"


def _config(architecture: str, words: Any, own: dict[str, Any]) -> Any:
    given = _shrunk(AutoConfig.for_model(architecture)) | _OWN.get(architecture, {})
    config: Any = AutoConfig.for_model(architecture, **given | own)
    end = words.sep_token_id if words.eos_token_id is None else words.eos_token_id
    for part in _parts(config):
        part.bos_token_id = end if words.cls_token_id is None else words.cls_token_id
        part.eos_token_id, part.pad_token_id = end, words.pad_token_id
        if hasattr(part, "vocab_size"):
            part.vocab_size = len(words)
    config.decoder_start_token_id = words.pad_token_id
    config.num_labels = len(LABELS)
    return config


def _parts(config: Any) -> Iterator[Any]:
    """A configuration and those within it."""
    yield config
    for value in list(vars(config).values()):
        if hasattr(value, "to_diff_dict"):
            yield from _parts(value)


def _shrunk(config: Any) -> dict[str, Any]:
    """Fields of a configuration that are sizes, small."""
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        small = next((n for pattern, n in _SIZES if re.fullmatch(pattern, name)), None)
        if hasattr(value, "to_diff_dict"):
            found[name] = _shrunk(value)
        elif name == "layer_types" and value:
            found[name] = list(value)[:_LAYERS]
        elif value is None and name in _UNSET:
            found[name] = small
        elif isinstance(value, int) and not isinstance(value, bool) and small is not None:
            found[name] = min(value, small)
    return found


def _stretch(model: Any) -> None:
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim >= 2 and not re.search("embed|wte|wpe", name):
                weights.mul_(4)  # else the states of all rows are nearly alike
