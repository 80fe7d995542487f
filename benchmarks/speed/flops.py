"""Floating-point operations of a prediction, by the lengths of the reviews: the basis of the shares of the peak."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def needed(config: Any, lengths: Sequence[int], last_layer_whole: bool = False) -> float:
    """Return the GFLOP of a forward pass over reviews of these lengths: matrix products only, no padding.

    A prediction needs from the last layer only the queries, the output and the feed-forward part of one token (the
    first of an encoder, the last of a decoder), but keys and values of all tokens. An engine that computes the rest too
    does more than is counted here, so its share of the peak is lower.

    Args:
        config: the model's config: hidden and intermediate size, layers, heads for keys and values.
        lengths: tokens of each review.
        last_layer_whole: count the last layer for all tokens, as training and a plain forward pass compute it.
    """
    text = config.get_text_config()
    tokens = np.asarray(lengths, dtype=np.float64)
    hidden, layers = int(text.hidden_size), int(text.num_hidden_layers)
    heads = int(text.num_attention_heads)
    kv_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    inner = int(
        getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * hidden
    )
    gated = (
        3 if getattr(text, "hidden_act", "") in ("silu", "swish") else 2
    )  # Llama has a third matrix
    queries = 2 * 2 * hidden * hidden + 2 * gated * hidden * inner  # query, output, feed-forward
    keys = 2 * 2 * hidden * hidden * kv_heads / heads
    attention = 4 * hidden * tokens  # per token: scores, and the weighted values
    whole = tokens * (queries + keys + attention)
    last = whole if last_layer_whole else queries + tokens * keys + attention
    return float(((layers - 1) * whole + last).sum() / 1e9)
