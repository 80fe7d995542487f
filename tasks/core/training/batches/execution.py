"""Execution plan of a training: use bf16 and packed batches if the model trains correctly with them.

The fallback is fp32 and padded batches.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding

from tasks.core.errors import SettingsError
from tasks.core.models.batching import neighbours
from tasks.core.models.batching.packing import UnpackableError, trying
from tasks.core.models.classifier import Classifier
from tasks.core.training.batches import numerics
from tasks.core.training.batches.numerics import Batch
from tasks.core.training.batches.packing import PackingCollator, run_apart, run_packed, run_plain
from tasks.core.training.batches.schedule import TrainingBatches, multiple_for
from tasks.core.training.distributed import DistributedContext
from tasks.core.training.params import TrainingParams

logger = logging.getLogger(__name__)

Rows = list[dict[str, Any]]
Collator = Callable[[Rows], Batch]
_TESTED_REVIEWS = 24  # validation reviews compared alone and in batches before a model is kept
_PACKED_TOLERANCE = 1e-3  # in fp32; attention across reviews changes the loss by far more


@dataclass(frozen=True)
class ExecutionPlan:
    """How batches are made and computed, as tested on the model.

    Attributes:
        collate: makes a batch from rows.
        packed: True if batches have no padding.
        bf16: True if training computes in bf16.
        bf16_difference: relative change of loss or gradient that bf16 causes; None if not measured.
    """

    collate: Collator
    packed: bool
    bf16: bool
    bf16_difference: float | None


def with_tried_batch_rule(classifier: Classifier, reviews: Any = ()) -> Classifier:
    """Test which texts may share a batch, and return the classifier with that batch rule (see `neighbours`).

    If its answers depend on padding, the model is changed to split the padded batches that it is given.

    Args:
        classifier: with the batch rule known so far.
        reviews: rows of a data set. A few of them, evenly spaced, are run alone and in batches.
    Raises:
        ModelError: its answer to a text depends on other texts under every rule.
    """
    indices = np.linspace(0, len(reviews) - 1, min(_TESTED_REVIEWS, len(reviews))).astype(int)
    tested = neighbours.with_batch_rule(
        classifier, [reviews[i]["input_ids"] for i in indices.tolist()]
    )
    if tested.batch_rule != classifier.batch_rule:
        run_apart(tested.model, tested.batch_rule)
    return tested


def padding(classifier: Classifier) -> Collator:
    """Return a collator that pads each batch to its longest row."""
    tokenizer, longest = classifier.encoder.tokenizer, classifier.encoder.params.max_length_tokens

    def collate(rows: Rows) -> Batch:
        multiple = multiple_for(max(len(row["input_ids"]) for row in rows), longest)
        collator: Any = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple)
        return collator(rows)

    return collate


def first_rows(train: Dataset, batches: TrainingBatches) -> list[Rows]:
    """Return the rows of the first batches, the same in every process."""
    first_batches = [batch for step in batches.steps(0)[: numerics.BATCHES] for batch in step]
    columns = train.select_columns(["input_ids", "labels"])
    return [[columns[i] for i in batch] for batch in first_batches[: numerics.BATCHES]]


def fastest_plan(
    classifier: Classifier,
    rows: Sequence[Rows],
    params: TrainingParams,
    device: torch.device,
    precision: str,
    context: DistributedContext,
) -> ExecutionPlan:
    """Try packing and bf16 on the first reviews, where the settings allow them, and return the fastest correct plan.

    The model is moved to the device, and made to accept packed batches if the plan uses them. No random number is
    drawn, so the test does not change the training.

    Raises:
        SettingsError: packing is `on`, but the model cannot be trained packed, or not correctly.
    """
    model: Any = classifier.model
    plain = padding(classifier)
    wants_packing = params.packing == "on" or (params.packing == "auto" and device.type == "cuda")
    if not wants_packing and precision != "bf16":
        return ExecutionPlan(plain, False, False, None)
    model.to(device)
    collate = plain
    padded = [_to_device(device, plain(batch)) for batch in rows]
    if wants_packing and (
        packing := _try_packing(classifier, rows, padded, params, device, context)
    ):
        collate = packing
    if precision != "bf16":
        return ExecutionPlan(collate, collate is not plain, False, None)
    batches = [_to_device(device, collate(batch)) for batch in rows]
    bf16, difference = _try_bf16(model, padded, batches, device, params.bf16_tolerance, context)
    return ExecutionPlan(collate, collate is not plain, bf16, difference)


def _try_packing(
    classifier: Classifier,
    rows: Sequence[Rows],
    padded: Sequence[Batch],
    params: TrainingParams,
    device: torch.device,
    context: DistributedContext,
) -> Collator | None:
    """Return a collator of packed batches, or None if loss or gradient would change and packing is not `on`."""
    model = classifier.model
    problem = ""
    collate: PackingCollator | None = None
    if classifier.batch_rule != "padded":
        problem = "its outputs depend on the other texts in a batch"
    elif params.attention_dropout:
        problem = "attention dropout is on"
    else:
        try:
            longest = classifier.encoder.params.max_length_tokens
            with trying():
                collate = PackingCollator(run_packed(model, classifier.pad_id, longest))
                packed = [_to_device(device, collate(batch)) for batch in rows]
                difference = numerics.difference(model, padded, packed)
            if difference > _PACKED_TOLERANCE:
                problem = f"loss or gradient differs by {difference:.1%}"
        except UnpackableError as error:
            problem = str(error)
    if not context.agree(bool(problem)):
        return collate
    run_plain(model)
    if params.packing == "on":
        raise SettingsError(
            f"A {type(model).__name__} cannot be trained packed: {problem}",
            "training.packing",
            "set it to auto or off",
        )
    logger.info("Batches are padded: %s", problem)
    return None


def _try_bf16(
    model: Any,
    padded: Sequence[Batch],
    batches: Sequence[Batch],
    device: torch.device,
    tolerance: float,
    context: DistributedContext,
) -> tuple[bool, float | None]:
    """Return True if training can use bf16, and the relative change of loss or gradient (None if not measured).

    It cannot if a step in bf16 raises an error, or if the change exceeds the tolerance.
    """
    difference: float | None = None
    problem = numerics.bf16_problem(model, batches, device)
    if not problem and tolerance > 0:
        difference = numerics.difference(model, padded, batches, lambda: numerics.autocast(device))
        if difference > tolerance:
            problem = f"loss or gradient differed by {difference:.1%}, but at most {tolerance:.1%} is allowed"
    if not context.agree(bool(problem)):
        return True, difference
    logger.warning(
        "Training continues in fp32 instead of bf16: %s", problem or "it failed in another process"
    )
    return False, difference


def _to_device(device: torch.device, batch: Batch) -> Batch:
    return {name: value.to(device) for name, value in batch.items()}
