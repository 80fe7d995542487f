"""Floating-point operations that an answer needs, from the lengths of the reviews: what a share of the peak is of."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def needed(config: Any, lengths: Sequence[int], last_layer_whole: bool = False) -> float:
    """GFLOP of a forward pass over reviews of these lengths: matrix products alone, no padding.

    An answer needs of the last layer only the queries, the output and the feed-forward part of one token (the first of
    an encoder, the last of a decoder); keys and values it needs of all. An engine that computes the others too does
    more than is counted here, and its share of the peak is the lower for it.

    Args:
        config: of the model: hidden and intermediate size, layers, heads for keys and values.
        lengths: tokens of each review.
        last_layer_whole: count the last layer for all tokens: what training, and a plain forward pass, compute.
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
    )  # Llama's has a third matrix
    queries = 2 * 2 * hidden * hidden + 2 * gated * hidden * inner  # query, output, feed-forward
    keys = 2 * 2 * hidden * hidden * kv_heads / heads
    attention = 4 * hidden * tokens  # of one token: scores, and the values they weigh
    whole = tokens * (queries + keys + attention)
    last = whole if last_layer_whole else queries + tokens * keys + attention
    return float(((layers - 1) * whole + last).sum() / 1e9)
