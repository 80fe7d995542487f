"""Find the batch rule and padding side with which a model's answer to a text does not depend on other texts.

Most models mask padding, and a text gets the same answer in any batch. Some do not: FNet mixes padding into every
token, Nystromformer and YOSO estimate attention from all positions, XLNet reads the last position, padded or not. Some
depend on earlier calls: BigBird drops sparse attention for good at the first short text.

The test runs in fp32: each probe row alone, then in a batch with longer ones. If rows are independent, only the order
of sums differs. That moved logits by at most a ten-thousandth of their range in every architecture of
docs/neighbours.md, and mostly by a millionth. A dependence on neighbours moved them by a hundredth to all of it.
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from tasks.core.errors import RAISED_BY_MODELS, ModelError, first_line
from tasks.core.models.batching import plan
from tasks.core.models.batching.plan import BatchRule, Side

if TYPE_CHECKING:
    from tasks.core.models.classifier import Classifier

logger = logging.getLogger(__name__)

Rows = Sequence[Sequence[int]]
#: Tolerance of a row's fp32 logits: fractions of the range of all logits, and of the largest.
FP32_TOLERANCE = (5e-4, 2e-5)
_LENGTHS = (7, 1, 33, 2, 16, 7, 96, 3)  # of the probe rows, between two of the maximum length
_BATCH_TOKENS = 8192  # budget of a padded probe batch, which has at least two rows


def probe(classifier: "Classifier") -> list[list[int]]:
    """Return random rows of many lengths, between special tokens. Two of them have the maximum length."""
    encoder = classifier.encoder
    before, after = encoder.frame
    longest = encoder.params.max_length_tokens - len(before) - len(after)
    generator = np.random.default_rng(0)
    own = len(encoder.tokenizer)
    vocabulary = int(getattr(classifier.model.config.get_text_config(), "vocab_size", own))
    special = {*encoder.tokenizer.all_special_ids, classifier.pad_id}
    words = [i for i in range(min(vocabulary, own)) if i not in special]
    lengths = [min(n, longest) for n in (longest, *_LENGTHS, longest)]
    return [[*before, *generator.choice(words, n).tolist(), *after] for n in lengths]


def with_batch_rule(classifier: "Classifier", rows: Rows = ()) -> "Classifier":
    """Return the classifier with the padding side and batch rule with which no answer depends on another text.

    Args:
        classifier: in fp32 on any device. The padding side of its tokenizer is changed in place if the other one is
            right, so that the tokenizer saved with the model is right for every user.
        rows: rows of real texts to test besides the random ones.
    Raises:
        ModelError: it cannot be run, or its answer to a text changes between calls.
    """
    tried = [*probe(classifier), *rows]
    with _as_it_was(classifier.model):
        expected = _alone(classifier, tried)
        backwards = _alone(classifier, tried[::-1]).flip(0)
        if problem := difference(backwards, expected):
            raise ModelError(
                f"The model's answer to a text depends on earlier texts: {problem}",
                type(classifier.model).__name__,
                "choose another base model, or correct its config.json (a BigBird needs attention_type original_full)",
            )
        rule, side, problem = _rule(classifier, tried, expected)
    tokenizer: Any = classifier.encoder.tokenizer
    # init_kwargs is what is saved
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = side
    if rule != "padded":
        logger.warning(
            "%s: a text's answer depends on the padding of its batch (%s), so it is run in batches of %s",
            type(classifier.model).__name__,
            problem,
            "texts of one length" if rule == "equal lengths" else "one text",
        )
    return replace(classifier, batch_rule=rule)


def run(model: Any, ids: Any, mask: Any) -> torch.Tensor:
    """Logits of a padded batch on the model's device, shape (rows, classes)."""
    # not inference_mode: tensors that a model's code keeps for later calls must not be inference tensors
    with torch.no_grad():
        tensors = (torch.as_tensor(part).to(model.device) for part in (ids, mask))
        return model(**dict(zip(("input_ids", "attention_mask"), tensors, strict=True))).logits


def alone(classifier: "Classifier", rows: Rows) -> torch.Tensor:
    """Run rows one by one and return their logits, shape (rows, classes)."""
    parts = [run(classifier.model, *plan.pad([row], classifier.pad_id)) for row in rows]
    return torch.cat(parts).float()


def difference(
    logits: torch.Tensor, expected: torch.Tensor, tolerance: tuple[float, float] = FP32_TOLERANCE
) -> str:
    """Describe by how much logits differ, or return an empty string if they are within the tolerance.

    Args:
        logits, expected: shape (rows, classes).
        tolerance: allowed difference, as fractions of the range of the expected logits and of the largest.
    """
    logits, expected = logits.float().cpu(), expected.float().cpu()
    spread = (expected.amax(0) - expected.amin(0)).max()
    allowed = float(tolerance[0] * spread + tolerance[1] * expected.abs().max())
    furthest = float((logits - expected).abs().max())
    if furthest <= allowed:
        return ""
    return f"logits differ by {furthest:.2g}, and {allowed:.2g} is allowed"


def _alone(classifier: "Classifier", rows: Rows) -> torch.Tensor:
    try:
        logits = alone(classifier, rows)
    except RAISED_BY_MODELS as error:
        raise ModelError(
            f"It cannot be run on texts of {min(map(len, rows))} to {max(map(len, rows))} tokens: {first_line(error)}",
            type(classifier.model).__name__,
            "choose another base model",
        ) from error
    if not torch.isfinite(logits).all():
        raise ModelError(
            "Some logits are NaN or infinite",
            type(classifier.model).__name__,
            "choose another base model",
        )
    return logits


def _rule(
    classifier: "Classifier", rows: Rows, expected: torch.Tensor
) -> tuple[BatchRule, Side, str]:
    """Return the least strict rule that works, the padding side, and the reason if padding does not work."""
    own: Side = classifier.padding_side
    problem = ""
    for side in sorted(get_args(Side), key=lambda side: side != own):
        batched = _in_batches(classifier, rows, _beside_the_longest(rows), side)
        if not (problem := _tried(batched, expected)):
            return "padded", side, ""
    lengths = [len(row) for row in rows]
    together = plan.plan(lengths, 2 * max(lengths), len(rows), "equal lengths")
    batched = _in_batches(classifier, rows, [batch.tolist() for batch in together], own)
    return ("alone" if _tried(batched, expected) else "equal lengths"), own, problem


def _tried(logits: torch.Tensor | str, expected: torch.Tensor) -> str:
    return logits if isinstance(logits, str) else difference(logits, expected)


def _in_batches(
    classifier: "Classifier", rows: Rows, batches: Sequence[Sequence[int]], side: Side
) -> torch.Tensor | str:
    """Return the logits of rows in their order, or the error that the model's code raises for a batch."""
    logits = torch.empty(len(rows), len(classifier.label_names))
    try:
        for batch in batches:
            padded = plan.pad([rows[i] for i in batch], classifier.pad_id, side)
            logits[list(batch)] = run(classifier.model, *padded).float().cpu()
    except RAISED_BY_MODELS as error:
        return first_line(error)
    return logits


def _beside_the_longest(rows: Rows) -> list[list[int]]:
    """Return batches that each contain a longest row, so that all others get the most padding."""
    longest = max(range(len(rows)), key=lambda i: len(rows[i]))
    others = [i for i in range(len(rows)) if i != longest]
    size = max(1, _BATCH_TOKENS // len(rows[longest]) - 1)
    return [[longest, *others[at : at + size]] for at in range(0, len(others), size)]


@contextmanager
def _as_it_was(model: Any) -> Generator[None]:
    """Run the model's own `forward` in evaluation mode within a context, then restore model and random state."""
    was_training, state = model.training, np.random.get_state()
    wrapped = vars(model).pop("forward", None)
    model.eval()
    try:
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            yield
    finally:
        model.train(was_training)
        np.random.set_state(state)
        if wrapped is not None:
            vars(model)["forward"] = wrapped
