"""Plan batches by length to reduce padding. Evaluation and scoring share the plan."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: The rows that may share a batch without affecting each other's answers: see `neighbours`.
BatchRule: TypeAlias = Literal["padded", "equal lengths", "alone"]
Side: TypeAlias = Literal["left", "right"]


def plan(
    lengths: Sequence[int], max_tokens: int, max_rows: int, rule: BatchRule = "padded"
) -> list[NDArray[np.int64]]:
    """Group rows of similar length into batches whose padded size stays within a budget.

    Args:
        lengths: tokens of each row.
        max_tokens: budget of a batch, counted as rows x its longest row; a longer row is alone in its batch.
        max_rows: the most rows per batch.
        rule: the rows that may share a batch: any, those of one length, or none.
    Returns:
        Index arrays, longest rows first (so that too little memory shows at once); each row is in exactly one.
    Raises:
        ValueError: a budget below 1.
    """
    if max_tokens < 1 or max_rows < 1:
        raise ValueError("max_tokens and max_rows must be at least 1")
    max_rows = 1 if rule == "alone" else max_rows
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    ordered = [max(1, lengths[row]) for row in order]
    batches: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        rows = max(1, min(max_rows, max_tokens // ordered[start]))
        if rule == "equal lengths":
            rows = ordered[start : start + rows].count(ordered[start])
        batches.append(order[start : start + rows])
        start += rows
    return batches


def plan_packed(lengths: Sequence[int], max_tokens: int, max_rows: int) -> list[NDArray[np.int64]]:
    """Group rows as `plan` does, for packed batches: a batch's tokens are the sum of its rows' tokens."""
    if max_tokens < 1 or max_rows < 1:
        raise ValueError("max_tokens and max_rows must be at least 1")
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = tokens = 0
    for end, row in enumerate(order.tolist()):
        if end > start and (tokens + lengths[row] > max_tokens or end - start == max_rows):
            batches.append(order[start:end])
            start, tokens = end, 0
        tokens += lengths[row]
    return [*batches, order[start:]] if len(order) else []


def pad(
    rows: Sequence[Sequence[int]], pad_id: int, side: Side = "right"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return padded `input_ids` and `attention_mask`, each of shape (rows, longest row), int64."""
    width = max((len(row) for row in rows), default=0)
    input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        real = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        input_ids[index, real] = row
        attention_mask[index, real] = 1
    return input_ids, attention_mask
