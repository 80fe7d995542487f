"""Base models as language models: their objective, language head, batches and how they are saved."""

import logging
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from tasks.core.errors import ModelError
from tasks.core.models import classifier, folders
from tasks.core.models.base_model import vocabulary
from tasks.core.models.base_model import weights as base_weights
from tasks.core.training.batches.schedule import PAD_TO, multiple_for
from tasks.core.training.pretraining.params import PretrainingParams

logger = logging.getLogger(__name__)

Objective: TypeAlias = Literal["masked", "causal"]


def objective_of(folder: Path, name: str) -> Objective:
    """Return the objective of a model: predict masked tokens (encoders) or the next token (decoders).

    Args:
        folder: config and tokenizer of a base model.
        name: the model's name, for the error.
    Raises:
        ModelError: it does neither, or its tokenizer has no mask token.
    """
    config = folders.read_config(folder)
    kind = str(config.model_type)
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.is_encoder_decoder:
        if folders.load_tokenizer(folder).mask_token is None:
            raise ModelError(
                f"The tokenizer of {name} has no mask token, which further pre-training of an encoder needs",
                "pretraining.epochs",
                "choose another base model, or set it to 0",
            )
        return "masked"
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not config.is_encoder_decoder:
        return "causal"
    raise ModelError(
        f"{name} ({kind}) is neither an encoder nor a decoder that can be pre-trained further",
        "pretraining.epochs",
        "choose another base model, or set it to 0",
    )


def collator(
    tokenizer: PreTrainedTokenizerBase,
    objective: Objective,
    params: PretrainingParams,
    epoch: Callable[[], int] = lambda: 0,
    longest: int | None = None,
) -> DataCollatorForLanguageModeling:
    """Return a collator that batches rows with `input_ids`; `labels` are -100 where nothing is predicted.

    Of the tokens to predict, 80 % become the mask, 10 % another token and 10 % stay. Two collators mask a batch alike,
    whatever they masked before, so that a training resumed from a checkpoint sees the same masks.

    Args:
        tokenizer: the model's tokenizer.
        objective: what the model predicts.
        params: the fraction of masked tokens, and the seed.
        epoch: returns the epoch of a batch; each epoch masks other tokens.
        longest: the most tokens that the model takes; None: any number.
    """
    return _Masks(
        tokenizer,
        mlm=objective == "masked",
        mlm_probability=params.mlm_probability,
        pad_to_multiple_of=PAD_TO,
        seed=params.seed,
        epoch=epoch,
        longest=longest,
    )


class _Masks(DataCollatorForLanguageModeling):
    """A collator that seeds its masks by seed, epoch and the batch's tokens.

    transformers' own collator continues the random state of the previous batch.
    """

    def __init__(
        self, *args: Any, epoch: Callable[[], int], longest: int | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._epoch, self._longest = epoch, longest

    def __call__(self, features: Any, return_tensors: str | None = None) -> Any:
        width = max(len(row["input_ids"]) for row in features)
        self.pad_to_multiple_of = multiple_for(width, self._longest)
        return super().__call__(features, return_tensors)

    def torch_mask_tokens(self, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        drawn_by = np.random.SeedSequence(
            [int(self.seed or 0), self._epoch(), zlib.crc32(inputs.numpy().tobytes())]
        )
        self.generator = torch.Generator().manual_seed(int(drawn_by.generate_state(1)[0]))
        return super().torch_mask_tokens(inputs, *args, **kwargs)


def with_language_head(folder: Path, name: str, objective: Objective) -> PreTrainedModel:
    """Load a model with its language head, or with a new head tied to its embeddings if it has none.

    Args:
        folder: a base model.
        name: the model's name, for log and errors.
        objective: what the head predicts.
    Raises:
        ModelError: it cannot be loaded with such a head.
    """
    kind: Any = AutoModelForMaskedLM if objective == "masked" else AutoModelForCausalLM
    config = folders.read_config(folder)
    classifier.set_attention_dropout(config, 0.0)  # above 0 disables the fused attention kernel
    loaded = base_weights.load_body(kind, folder, config)
    if loaded.new_head and not config.get_text_config().tie_word_embeddings:
        config.get_text_config().tie_word_embeddings = True
        loaded = replace(base_weights.load_body(kind, folder, config), new_head=loaded.new_head)
    if loaded.new_head:
        logger.info("%s has no language head: a new one is tied to its embeddings", name)
    vocabulary.grow(loaded.model, folders.load_tokenizer(folder), name)
    return loaded.model


def save_as_base(model: PreTrainedModel, base_folder: Path, result_folder: Path) -> None:
    """Write the trained model as a base model.

    It holds the trained weights with their language head, which some classifiers reuse (ModernBERT's), and what else
    the base model has: the weights of a pooler, and the tokenizer.
    """
    base = base_weights.load_body(AutoModel, base_folder)
    absent = set(base.new_pooler)  # random weights; fine-tuning draws its own
    prefix, besides = model.base_model_prefix, base.model.state_dict()
    weights = {f"{prefix}.{k}": v for k, v in besides.items() if k not in absent}
    model.save_pretrained(result_folder, state_dict=weights | model.state_dict())
    config = folders.read_config(base_folder)  # keeps the base model's dropout
    config.architectures = [type(model).__name__]
    tied = model.config.get_text_config().tie_word_embeddings
    config.get_text_config().tie_word_embeddings = tied
    # the vocabulary has grown
    if config.get_text_config().vocab_size != model.config.get_text_config().vocab_size:
        config.get_text_config().vocab_size = model.config.get_text_config().vocab_size
        config.pad_token_id = model.config.pad_token_id
    config.dtype = torch.float32
    config.save_pretrained(result_folder)
    for path in base_folder.iterdir():
        is_weights = ".safetensors" in path.name
        if path.is_file() and not is_weights and not (result_folder / path.name).exists():
            shutil.copy(path, result_folder)
