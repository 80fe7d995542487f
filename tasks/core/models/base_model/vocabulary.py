"""A tokenizer and the embeddings of its model: each token needs a row, or looking it up ends the training."""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tasks.core.errors import ModelError

_NAMED = 5  # tokens, in a sentence
_FIX = "save the model's own tokenizer beside it, or resize its embeddings and save it again"


def padding_to_build_with(config: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of padding that a model can be built with: the tokenizer's, where the embeddings have a row for it."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    own: Any = tokenizer.pad_token_id
    return own if rows is None or own < rows else config.pad_token_id


def grow(model: Any, tokenizer: PreTrainedTokenizerBase, where: str) -> list[str]:
    """Give tokens that were added to a tokenizer rows in the embeddings; they are drawn at random, and are trained.

    Args:
        model: is changed in place, its configuration with it.
        tokenizer: of the same folder.
        where: the folder, for the error.
    Returns:
        A sentence that says so; none where every token has its row.
    Raises:
        ModelError: words of its own have no row, so it is another model's; or the model cannot be built with more.
    """
    weights = getattr(model.get_input_embeddings(), "weight", None)
    if weights is None:
        return []
    rows, vocabulary = len(weights), dict[str, int](tokenizer.get_vocab())
    ordered = sorted(vocabulary, key=lambda token: vocabulary[token])
    beyond = [token for token in ordered if vocabulary[token] >= rows]
    if not beyond:
        return []
    own: Any = tokenizer  # pyright takes its methods for attributes
    added = own.get_added_vocab()
    if strange := [token for token in beyond if token not in added]:
        raise ModelError(
            f"The tokenizer is not the model's: the embeddings have {rows:,} rows, and none for {len(strange):,} of "
            f"its {len(vocabulary):,} tokens",
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
        f"trained anew: {shown}"
    ]


def _require_buildable(model: Any, where: str) -> None:
    """A model must be loadable again; where positions begin behind the id of padding, that cannot be a late one."""
    try:
        with torch.device("meta"):
            type(model)(model.config)
    except (AssertionError, RuntimeError, ValueError, LookupError) as error:
        raise ModelError(
            f"The token of padding ({model.config.pad_token_id}) has no row in the embeddings, and a "
            f"{type(model).__name__} cannot be built with it: {error}",
            where,
            _FIX,
        ) from error
