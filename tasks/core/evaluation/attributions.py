"""Word attributions of an answer: integrated gradients over the embeddings of a text's tokens.

Sundararajan, Taly and Yan, 2017, "Axiomatic Attribution for Deep Networks". The path runs from the text with every
token replaced by the pad token (the special tokens around it stay) to the text itself. The explained quantity is the
log-odds of one label against all others, in nats: the scores of a text add up to how far its words moved the log-odds,
whatever the number of classes, and the difference from that sum is the convergence delta. A probability would not work:
if the model is sure, its gradient is almost zero.

The embedding layer's output is replaced while the model still sees the real `input_ids`, because decoders look for
their last token in them. Words are assembled from the tokenizer's offsets, so the review is shown unchanged.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import east_asian_width

import numpy as np
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray

from tasks.core.data.tokens.tokenization import Located
from tasks.core.errors import ModelError
from tasks.core.models.classifier import Classifier

GAP = " […] "  # marks the position where the encoder cut a long review
_APOSTROPHES = "'\u2019"
# Fraction of the change in log-odds due to the words, or of one nat if that is more.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Attribution:
    """The contribution of each word to the log-odds of a label."""

    # Words with the white space before them; joined, they are the text that the model saw.
    tokens: list[str]
    scores: list[float]  # one per token, in nats; above 0 towards the label
    target: str  # the label
    log_odds: float  # of the label for this text
    baseline_log_odds: float  # of the label for the text of pad tokens
    convergence_delta: float  # sum of the scores less (log_odds - baseline_log_odds)


_LogOdds = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Grid:
    steps: int
    most_steps: int
    batch_steps: int


def attribute(
    classifier: Classifier,
    texts: Sequence[str],
    targets: Sequence[int],
    steps: int = 20,
    most_steps: int = 80,
    batch_steps: int = 10,
) -> list[Attribution]:
    """Explain the label `targets[i]` of each text, in fp32 and evaluation mode, regardless of the model's state.

    Deterministic. Costs about three forward passes a step; memory is that of `batch_steps` texts in training. The steps
    of a text are doubled until the convergence delta is within a twentieth of what its words moved, or `most_steps` are
    reached: a few texts need more, most do not.

    Args:
        classifier: any encoder or decoder; it is not changed.
        texts: raw texts, none of them blank; long ones are cut as in scoring.
        targets: class ids, one per text.
        steps: initial number of points of the Gauss-Legendre quadrature along the path.
        most_steps: maximum number of points.
        batch_steps: points computed at a time.
    Raises:
        ModelError: the model does not take its embeddings from one layer.
    """
    model: Any = classifier.model
    if any(p.dtype != torch.float32 for p in model.parameters()):
        model = copy.deepcopy(model).float()  # an engine may have converted it to bf16
    together = 1 if classifier.batch_rule == "alone" else batch_steps
    grid = _Grid(steps, max(steps, most_steps), together)
    was_training = model.training
    model.eval()
    try:
        return [
            _attribute(model, classifier, classifier.encoder.locate(text), target, grid)
            for text, target in zip(texts, targets, strict=True)
        ]
    finally:
        model.train(was_training)


def _attribute(
    model: Any, classifier: Classifier, row: Located, target: int, grid: _Grid
) -> Attribution:
    device = next(model.parameters()).device
    ids = torch.tensor([row.input_ids], device=device)
    special = torch.tensor([span is None for span in row.offsets], device=device)
    pads = torch.where(special, ids, torch.full_like(ids, classifier.pad_id))
    log_odds = _log_odds_of(model, ids, target)
    with torch.no_grad():
        layer = model.get_input_embeddings()
        inputs, baseline = layer(ids), layer(pads)
        end, start = float(log_odds(inputs)[0]), float(log_odds(baseline)[0])
    scores = _integrated(log_odds, inputs, baseline, end - start, grid)
    words = _words(row, scores)
    return Attribution(
        tokens=[word.text for word in words],
        scores=[word.score for word in words],
        target=classifier.label_names[target],
        log_odds=end,
        baseline_log_odds=start,
        convergence_delta=float(scores.sum()) - (end - start),
    )


def _integrated(
    log_odds: _LogOdds, inputs: torch.Tensor, baseline: torch.Tensor, moved: float, grid: _Grid
) -> NDArray[np.float64]:
    """Return the scores of the tokens, shape (tokens,), whose sum is nearest to `moved` among the tried step counts."""
    method, steps = IntegratedGradients(log_odds), grid.steps
    best, missed = np.zeros(inputs.shape[1]), np.inf
    while missed > _TOLERANCE * max(1.0, abs(moved)) and steps <= grid.most_steps:
        per_value: torch.Tensor = method.attribute(
            inputs, baseline, n_steps=steps, internal_batch_size=grid.batch_steps
        )
        scores = per_value[0].double().sum(dim=-1).cpu().numpy()
        if abs(scores.sum() - moved) < missed:
            best, missed = scores, abs(scores.sum() - moved)
        steps *= 2
    return best


def _log_odds_of(model: Any, ids: torch.Tensor, target: int) -> _LogOdds:
    """Return a function from embeddings, shape (points, tokens, width), to log-odds of the target, shape (points,)."""

    def log_odds(embeddings: torch.Tensor) -> torch.Tensor:
        calls: list[int] = []

        def put_in(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            if output.shape != embeddings.shape:
                raise ModelError(
                    "The model uses its embedding layer for other inputs than the text"
                )
            return embeddings

        shape = (len(embeddings), ids.shape[1])
        hook = model.get_input_embeddings().register_forward_hook(put_in)
        try:
            logits = model(
                input_ids=ids.expand(shape), attention_mask=torch.ones(shape).to(ids)
            ).logits
        finally:
            hook.remove()
        if len(calls) != 1:
            raise ModelError(
                f"The model uses its embedding layer {len(calls)} times; attributions need a model that uses it once"
            )
        others = torch.arange(logits.shape[1], device=logits.device) != target
        return logits[:, target] - torch.logsumexp(logits[:, others], dim=1)

    return log_odds


@dataclass
class _Word:
    text: str
    score: float


def _words(row: Located, scores: NDArray[np.float64]) -> list[_Word]:
    """Assemble tokens into words, each with the text before it; GAP where the text was cut."""
    words = [_Word("", 0.0)]
    end = 0  # `words` holds the text before this position
    for index, (span, score) in enumerate(zip(row.offsets, scores.tolist(), strict=True)):
        if index == row.cut:
            words += [_Word(GAP, 0.0), _Word("", 0.0)]
            end = span[0] if span else len(row.text)
        start, stop = span or (end, end)
        if words[-1].text and stop > start and not _same_word(row.text, end, start):
            words.append(_Word("", 0.0))
        words[-1].text += row.text[end:stop]
        words[-1].score += score
        end = max(end, stop)
    if row.cut == len(row.offsets):  # no special token follows the last one
        words.append(_Word(GAP, 0.0))
    else:
        words[-1].text += row.text[end:]
    return [word for word in words if word.text]


def _same_word(text: str, end: int, start: int) -> bool:
    """True if the token from `start` continues the word that ends at `end`."""
    if start != end:
        return start < end  # the tokens share the bytes of one character
    return all(
        (c.isalnum() and east_asian_width(c) not in "WF") or c in _APOSTROPHES
        for c in text[end - 1 : end + 1]
    )
