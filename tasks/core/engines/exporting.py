"""Export a classifier as a graph for other runtimes.

The graph has two inputs, `input_ids` and `attention_mask`, int64 of shape (rows, tokens), padded, both sizes dynamic,
and one output, the logits, float32 of shape (rows, classes). Token types and positions are constants in it.

If the head reads the first token only, as in the BERT family, the last layer is computed for that token only, because
its other outputs are not used. That is exact, and saves a seventh of the work of a model of six layers.
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
#: Tolerance of the graph's fp32 logits against torch's: fractions of their range, and of the largest.
_TOLERANCE = (2e-3, 2e-5)
#: Lengths in tokens of the rows that a graph is traced with.
_EXAMPLE: dict[BatchRule, tuple[int, ...]] = {
    "padded": (9, 6, 7),
    "equal lengths": (9, 9, 9),
    "alone": (9,),
}

#: Logits of a padded batch: (input_ids, attention_mask) -> (rows, classes).
Graph = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


class Exportable(nn.Module):
    """A module with the inputs and output of the graph, which shares the classifier's weights.

    Args:
        classifier: not changed; the graph is made from a copy of its structure that shares its weights.
        first_row: compute the last layer for the first token only, if its layers are of a known kind.
    """

    def __init__(self, classifier: Classifier, first_row: bool = True) -> None:
        super().__init__()
        original = classifier.model
        shared = {id(tensor): tensor for tensor in (*original.parameters(), *original.buffers())}
        self._model: Any = copy.deepcopy(original, shared).eval()
        self._model.config.use_cache = False
        first_row_function = _FIRST_ROW.get(str(original.config.model_type))
        self._encodes = first_row_function is not None and not getattr(
            original.config, "is_decoder", False
        )
        self._broadcasts = self._encodes and self._model.config._attn_implementation == "sdpa"
        layers = layers_of(self._model.base_model)
        if self._encodes and first_row and first_row_function and layers:
            layers[-1] = _FirstRowOnly(layers[-1], first_row_function)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits, shape (rows, classes)."""
        if self._broadcasts:  # avoids expanding it to (rows, 1, tokens, tokens)
            attention_mask = attention_mask[:, None, None, :] > 0
        return self._model(input_ids=input_ids, attention_mask=attention_mask).logits.float()


#: Computes a layer for the first token: (layer, all states, the first token's states, its row of the mask).
FirstRow = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class _FirstRowOnly(nn.Module):
    """A last layer computed for the first token only: its query, its residual, its feed-forward part.

    Args:
        layer: the layer to replace.
        first_row: computes a layer of this kind for the first token.
    """

    def __init__(self, layer: Any, first_row: FirstRow) -> None:
        super().__init__()
        self.layer = layer
        self._first_row = first_row

    def forward(
        self, states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        """Compute the first token's states: from (rows, tokens, hidden) to (rows, 1, hidden)."""
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        return self._first_row(self.layer, states, states[:, :1], mask)


def _bert(
    layer: Any, states: torch.Tensor, first: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Compute a BERT layer for the first token: attention, add and norm, feed-forward, add and norm."""
    own = layer.attention.self
    heads = int(own.num_attention_heads)
    seen = _attend(own.query(first), own.key(states), own.value(states), heads, mask)
    attended = layer.attention.output(seen, first)
    return layer.output(layer.intermediate(attended), attended)


def _distilbert(
    layer: Any, states: torch.Tensor, first: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Compute a DistilBERT layer for the first token: as `_bert`, under other names."""
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


#: Model types whose head reads the first token only, with the function that computes their last layer for it.
_FIRST_ROW: dict[str, FirstRow] = {
    "bert": _bert,
    "camembert": _bert,
    "distilbert": _distilbert,
    "electra": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
}


def example(classifier: Classifier) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a batch of made-up tokens for tracing: for padded models three rows, of 9, 6 and 7 tokens."""
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
    """Silence the output of converters within a context.

    Tracing warns that it is deprecated and that it treats some sizes as constants, which is right here. NNCF
    draws on the terminal, and would change the class of every later logger.
    """
    loggers, root = logging.getLoggerClass(), logging.getLogger()
    root.addFilter(_nothing)  # drops records of the root logger, which Nightshift does not use
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
    """Check that an fp32 graph gives the answers of torch on single rows, on batches of shapes not used in tracing.

    Returns:
        The padding side that the graph needs: the model's own, or the other one if a runtime returns NaN for rows that
        begin with padding.
    Raises:
        ModelError: the answers differ, because tracing treated something as a constant that is not.
    """
    rows = _example_rows(classifier)
    batches = [rows if classifier.batch_rule == "alone" else [*rows, *rows], [rows[-1][:6]]]
    classifier.model.eval()
    expected = neighbours.alone(classifier, [row for batch in batches for row in batch])
    own, problem = classifier.padding_side, ""
    for side in sorted(get_args(Side), key=lambda side: side != own):
        padded = [plan.pad(batch, classifier.pad_id, side) for batch in batches]
        logits = torch.from_numpy(np.concatenate([graph(*batch) for batch in padded]))
        difference = neighbours.difference(logits, expected, _TOLERANCE)
        if not difference:
            return side
        problem = problem or difference
    raise ModelError(
        f"The converted model does not agree with torch: {problem}",
        f"{engine}, {classifier.model.config.model_type}",
        "choose another engine for this model",
    )
