"""Match a tokenizer with its model's embeddings: a token without a row would make the training fail."""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tasks.core.errors import ModelError

_NAMED = 5  # most tokens listed in a message
_FIX = "save the model's own tokenizer beside it, or resize its embeddings and save it again"


def padding_to_build_with(config: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the padding id to build a model with: the tokenizer's if the embeddings have a row for it."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    own: Any = tokenizer.pad_token_id
    return own if rows is None or own < rows else config.pad_token_id


def grow(model: Any, tokenizer: PreTrainedTokenizerBase, where: str) -> list[str]:
    """Add embedding rows for tokens that were added to a tokenizer. The rows are random and get trained.

    Args:
        model: changed in place, including its configuration.
        tokenizer: of the same folder.
        where: the folder, for the error.
    Returns:
        A sentence that says so; none if every token has a row.
    Raises:
        ModelError: tokens of the original vocabulary have no row, so the tokenizer is another model's; or the model
            cannot be built with more rows.
    """
    weights = getattr(model.get_input_embeddings(), "weight", None)
    if weights is None:
        return []
    rows, vocabulary = len(weights), dict[str, int](tokenizer.get_vocab())
    ordered = sorted(vocabulary, key=lambda token: vocabulary[token])
    beyond = [token for token in ordered if vocabulary[token] >= rows]
    if not beyond:
        return []
    own: Any = tokenizer  # pyright mistakes its methods for attributes
    added = own.get_added_vocab()
    if strange := [token for token in beyond if token not in added]:
        raise ModelError(
            f"The tokenizer does not belong to the model: the embeddings have {rows:,} rows, and none for "
            f"{len(strange):,} of its {len(vocabulary):,} tokens",
            where,
            _FIX,
        )
    model.resize_token_embeddings(1 + max(vocabulary.values()), mean_resizing=False)
    model.config.pad_token_id = tokenizer.pad_token_id
    _require_buildable(model, where)
    are = "is" if len(beyond) == 1 else "are"
    shown = ", ".join(beyond[:_NAMED]) + (" and more" if len(beyond) > _NAMED else "")
    return [
        f"The embeddings have no row for tokens that were added to the tokenizer, so {len(beyond):,} {are} "
        f"trained from random values: {shown}"
    ]


def _require_buildable(model: Any, where: str) -> None:
    """Check that a model can be built again from its configuration.

    If positions begin after the padding id, that id cannot be a high one.
    """
    try:
        with torch.device("meta"):
            type(model)(model.config)
    except (AssertionError, RuntimeError, ValueError, LookupError) as error:
        raise ModelError(
            f"The padding token ({model.config.pad_token_id}) has no row in the embeddings, and a "
            f"{type(model).__name__} cannot be built with it: {error}",
            where,
            _FIX,
        ) from error
