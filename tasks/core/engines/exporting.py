"""A classifier as a graph that other runtimes can take over.

The graph has two inputs, `input_ids` and `attention_mask`, int64 of shape (rows, tokens), padded, both sizes free, and
one output, the logits, float32 of shape (rows, classes). Token types and positions are constants in it.

Where the head reads the first token only, as in the family of BERT, the last layer is computed for that token alone:
the others of it would be thrown away. That is exact, and saves a seventh of the work of a model of six layers.
"""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Generator
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tasks.core.errors import ModelError
from tasks.core.models.batching import neighbours, plan
from tasks.core.models.batching.plan import BatchRule, Side
from tasks.core.models.classifier import Classifier, layers_of

INPUTS = ("input_ids", "attention_mask")
#: How far fp32 logits of the graph may lie from torch's: shares of their range, and of the largest.
_TOLERANCE = (2e-3, 2e-5)
#: Tokens of the rows that a graph is traced with.
_EXAMPLE: dict[BatchRule, tuple[int, ...]] = {
    "padded": (9, 6, 7),
    "equal lengths": (9, 9, 9),
    "alone": (9,),
}

#: Logits of a padded batch: (input_ids, attention_mask) -> (rows, classes).
Graph = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


class Exportable(nn.Module):
    """A classifier with the inputs and the output that its graph is to have; its weights are the classifier's own.

    Args:
        classifier: it is not changed; the graph is made from a copy of its structure that shares its weights.
        first_row: compute the last layer for the first token only, where its layers are of a known kind.
    """

    def __init__(self, classifier: Classifier, first_row: bool = True) -> None:
        super().__init__()
        given = classifier.model
        shared = {id(tensor): tensor for tensor in (*given.parameters(), *given.buffers())}
        self._model: Any = copy.deepcopy(given, shared).eval()
        self._model.config.use_cache = False
        known = _FIRST_ROW.get(str(given.config.model_type))
        self._encodes = known is not None and not getattr(given.config, "is_decoder", False)
        self._broadcasts = self._encodes and self._model.config._attn_implementation == "sdpa"
        layers = layers_of(self._model.base_model)
        if self._encodes and first_row and known and layers:
            layers[-1] = _FirstRowOnly(layers[-1], known)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits, shape (rows, classes)."""
        if self._broadcasts:  # it is taken as it is, and not blown up to (rows, 1, tokens, tokens)
            attention_mask = attention_mask[:, None, None, :] > 0
        return self._model(input_ids=input_ids, attention_mask=attention_mask).logits.float()


#: A layer's answer for the first token: the layer, all states, the first token's, its row of the mask.
FirstRow = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class _FirstRowOnly(nn.Module):
    """A last layer computed for the first token only: its query, its residual, its feed-forward part.

    Args:
        layer: that it stands for.
        first_row: how a layer of this kind is computed so.
    """

    def __init__(self, layer: Any, first_row: FirstRow) -> None:
        super().__init__()
        self.layer = layer
        self._first_row = first_row

    def forward(
        self, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        """From (rows, tokens, hidden) to (rows, 1, hidden)."""
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        return self._first_row(self.layer, states, states[:, :1], mask)


def _bert(
    layer: Any, states: torch.Tensor, first: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention, add and norm, feed-forward, add and norm."""
    own = layer.attention.self
    heads = int(own.num_attention_heads)
    seen = _attend(own.query(first), own.key(states), own.value(states), heads, mask)
    attended = layer.attention.output(seen, first)
    return layer.output(layer.intermediate(attended), attended)


def _distilbert(
    layer: Any, states: torch.Tensor, first: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """The same, under other names."""
    own = layer.attention
    seen = _attend(own.q_lin(first), own.k_lin(states), own.v_lin(states), int(own.n_heads), mask)
    attended = layer.sa_layer_norm(own.out_lin(seen) + first)
    return layer.output_layer_norm(layer.ffn(attended) + attended)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    parts = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    seen = nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask)
    return seen.transpose(1, 2).flatten(2)


#: Models whose head reads the first token only, and how their last layer is computed for it.
_FIRST_ROW: dict[str, FirstRow] = {
    "bert": _bert,
    "camembert": _bert,
    "distilbert": _distilbert,
    "electra": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
}


def example(classifier: Classifier) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A batch to trace with and to check by: three rows of made-up tokens, of 9, 6 and 7 where it may be padded."""
    return plan.pad(_example_rows(classifier), classifier.pad_id, classifier.padding_side)


def _example_rows(classifier: Classifier) -> list[list[int]]:
    vocabulary = int(classifier.model.config.get_text_config().vocab_size)
    usable = [token for token in range(min(vocabulary, 512)) if token != classifier.pad_id]
    return [
        [usable[(17 * number + 5 * n) % len(usable)] for n in range(length)]
        for number, length in enumerate(_EXAMPLE[classifier.batch_rule])
    ]


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """Keep to itself what converters say.

    Tracing warns of what is known here: it is old, and takes some sizes for constants, rightly. ONNX's quantisation
    logs advice. NNCF draws on the terminal, and would make every later logger of the process one of its own kind.
    """
    loggers, root = logging.getLoggerClass(), logging.getLogger()
    root.addFilter(_nothing)  # what is logged by the root itself, as no module of ours does
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(_nothing)
        logging.setLoggerClass(loggers)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def check(graph: Graph, classifier: Classifier, engine: str) -> Side:
    """Check, on batches of other shapes than it was traced with, that an fp32 graph answers as torch does a row alone.

    Returns:
        The side that the graph wants padding on: the model's own, or the other where a runtime makes no numbers of a
        row that begins with padding.
    Raises:
        ModelError: it does not; tracing took something for a constant that is none.
    """
    rows = _example_rows(classifier)
    batches = [rows if classifier.batch_rule == "alone" else [*rows, *rows], [rows[-1][:6]]]
    classifier.model.eval()
    expected = neighbours.alone(classifier, [row for batch in batches for row in batch])
    own, problem = classifier.padding_side, ""
    for side in sorted(get_args(Side), key=lambda side: side != own):
        padded = [plan.pad(batch, classifier.pad_id, side) for batch in batches]
        found = torch.from_numpy(np.concatenate([graph(*batch) for batch in padded]))
        differs = neighbours.difference(found, expected, _TOLERANCE)
        if not differs:
            return side
        problem = problem or differs
    raise ModelError(
        f"The converted model answers otherwise than torch: {problem}",
        f"{engine}, {classifier.model.config.model_type}",
        "choose another engine for this model",
    )
