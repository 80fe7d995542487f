"""Packed batches: rows of tokens concatenated without padding, with attention within each row.

transformers' models pass queries, keys and values to an attention function registered by name. Nightshift's function
computes attention row by row while a packed batch is active, and is plain `sdpa` otherwise. Restarting the position ids
is not enough: a BERT packed that way under `sdpa` silently attends across rows.

Padding-free batches: Krell et al., Efficient sequence packing without cross-contamination (2021); Zeng et al.,
Boosting distributed training performance of the unpadded BERT model (2022).
"""

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tasks.core.errors import RAISED_BY_MODELS, first_line

ATTENTION = "nightshift_packed"
#: Arguments that ask for more than softmax(QK)V over the whole row.
_BEYOND = ("position_bias", "softcap", "s_aux", "head_mask")


class UnpackableError(Exception):
    """A model cannot be run packed; the message says why."""


@contextmanager
def trying() -> Generator[None]:
    """A context for a first attempt to run a model packed. Errors of its code are raised as UnpackableError."""
    try:
        yield
    except RAISED_BY_MODELS as error:
        raise UnpackableError(first_line(error)) from error


@dataclass(frozen=True)
class PackedBatch:
    """Concatenated rows on a device."""

    input_ids: torch.Tensor  # (1, tokens), int64
    position_ids: torch.Tensor  # (1, tokens), int64; within each row
    lengths: tuple[int, ...]
    bounds: torch.Tensor  # (rows + 1,), int32: where rows begin, and the end
    read: torch.Tensor  # (rows,), int64: the token of each row that the head reads

    def to(self, device: torch.device, non_blocking: bool = False) -> "PackedBatch":
        """Return the batch on another device."""
        tensors = (self.input_ids, self.position_ids, self.bounds, self.read)
        ids, position_ids, bounds, read = (t.to(device, non_blocking=non_blocking) for t in tensors)
        return PackedBatch(ids, position_ids, self.lengths, bounds, read)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths)

    def groups(self) -> Iterator[tuple[int, int, int]]:
        """Yield groups of adjacent rows of equal length: start in tokens, number of rows, length of each."""
        start = 0
        for length, rows in itertools.groupby(self.lengths):
            count = sum(1 for _ in rows)
            yield start, count, length
            start += count * length


def pack(
    rows: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]] | None,
    read_last: bool,
    device: torch.device,
) -> PackedBatch:
    """Concatenate rows into a packed batch.

    Args:
        rows: rows of token ids; none is empty. Sorting them by length is best.
        positions: position ids of each row; None counts each from 0.
        read_last: True if the head reads the last token of a row; otherwise it reads the first.
        device: the device of the tensors.
    """
    lengths = tuple(map(len, rows))
    bounds = np.cumsum((0, *lengths))
    ids = np.fromiter(itertools.chain.from_iterable(rows), np.int64, bounds[-1])
    if positions is None:
        position_ids = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
    else:
        position_ids = np.fromiter(itertools.chain.from_iterable(positions), np.int64, bounds[-1])
    read = bounds[1:] - 1 if read_last else bounds[:-1]
    return PackedBatch(
        torch.from_numpy(ids)[None].to(device),
        torch.from_numpy(position_ids)[None].to(device),
        lengths,
        torch.from_numpy(bounds.astype(np.int32)).to(device),
        torch.from_numpy(read).to(device),
    )


_batch: ContextVar[PackedBatch | None] = ContextVar("packed_batch", default=None)


def current() -> PackedBatch:
    """Return the active batch. Raises LookupError if there is none."""
    batch = _batch.get()
    if batch is None:
        raise LookupError("No packed batch is being computed")
    return batch


@contextmanager
def computing(batch: PackedBatch) -> Generator[None]:
    """Activate a batch within a context: models with the attention `ATTENTION` treat their single row as this batch."""
    token = _batch.set(batch)
    try:
        yield
    finally:
        _batch.reset(token)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    batch: PackedBatch,
    causal: bool,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of each row to itself.

    Args:
        query: (tokens, heads, size), or (rows, heads, size) for one query per row, which attends to its whole row.
        key: (tokens, heads, size); with fewer heads than the query if heads share keys.
        value: as `key`.
        batch: the batch of the rows.
        causal: no token attends to later ones.
        scale: the factor of the scores; None is 1 / sqrt(size).
    Returns:
        One result per query, (..., heads, size).
    """
    single = len(query) == len(batch.lengths)  # if every row has one token, both forms are the same
    causal = causal and not single
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and (kernel := _kernel()):
        own = torch.arange(len(batch.bounds), dtype=torch.int32, device=query.device)
        queries = (own, 1) if single else (batch.bounds, batch.longest)
        return kernel(query, key, value, queries, (batch.bounds, batch.longest), causal, scale)
    if sharing := query.shape[1] // key.shape[1] - 1:
        key = key.repeat_interleave(sharing + 1, dim=1)
        value = value.repeat_interleave(sharing + 1, dim=1)
    answer = query.new_empty(*query.shape[:-1], value.shape[-1])
    done = 0
    for start, rows, length in batch.groups():
        queries = rows if single else rows * length
        part = slice(start, start + rows * length)
        q, k, v = (
            tensor.unflatten(0, (rows, -1)).transpose(1, 2)  # (rows, heads, tokens, size): a view
            for tensor in (query[done : done + queries], key[part], value[part])
        )
        attended = scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        answer[done : done + queries] = attended.transpose(1, 2).flatten(0, 1)
        done += queries
    return answer


@cache
def _kernel() -> Any:
    """Return a flash attention over rows of any length, for GPUs: flash_attn's, else torch's own, else None."""
    with suppress(ImportError):
        from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

        def theirs(q: Any, k: Any, v: Any, own: Any, all_: Any, causal: bool, scale: Any) -> Any:
            limits = (own[0], all_[0], own[1], all_[1])
            return flash_attn_varlen_func(q, k, v, *limits, softmax_scale=scale, causal=causal)

        return theirs
    with suppress(ImportError):
        from torch.nn.attention.varlen import varlen_attn

        def torchs(q: Any, k: Any, v: Any, own: Any, all_: Any, causal: bool, scale: Any) -> Any:
            limits = (own[0], all_[0], own[1], all_[1])
            window, shared = (-1, 0 if causal else -1), q.shape[1] != k.shape[1]
            return varlen_attn(q, k, v, *limits, scale=scale, window_size=window, enable_gqa=shared)

        return torchs
    return None


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention function for transformers: (1, heads, tokens, size) in, (1, tokens, heads, size) out."""
    batch = _batch.get()
    if batch is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **more
        )
    beyond = [name for name in _BEYOND if more.get(name) is not None]
    if (more.get("sliding_window") or batch.longest) < batch.longest:
        beyond.append("sliding_window")
    if beyond or dropout or attention_mask is not None or query.shape[2] != key.shape[2]:
        raise UnpackableError(
            f"its attention needs {' and '.join(beyond) or 'dropout, a mask or a cache'}"
        )
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return attend(q, k, v, batch, bool(causal), scaling)[None], None


def _mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """Return the `sdpa` mask, or None for a packed batch, whose attention needs no mask."""
    return sdpa_mask(*args, **kwargs) if _batch.get() is None else None


def register() -> None:
    """Register the attention with transformers. Repeated calls have no effect."""
    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, _mask)
