"""Run any transformers sequence classifier, with its own head, over packed rows.

The given model is not changed: a copy of its structure shares its weights. In the copy, a wrapper replaces the body. It
runs the body over the packed rows and passes the head the one state per row that the head reads, as if each row had one
token. For common architectures the last layer also computes only that state, because no other is read.
"""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from tasks.core.models.batching import packing
from tasks.core.models.batching.packing import UnpackableError
from tasks.core.models.classifier import layers_of


class PackedModel:
    """A classifier that runs on packed rows.

    Args:
        model: the classifier; it is not changed, and moving its weights later affects this model too.
        pad_id: the padding id of its configuration.
        longest: the most tokens of a row.
        narrow: compute in the last layer only the states that the head reads.
    Raises:
        UnpackableError: its attention cannot be replaced, or covers only a part of a row; or `narrow` is set and its
            last layer is of no known kind.
    """

    def __init__(self, model: PreTrainedModel, pad_id: int, longest: int, narrow: bool) -> None:
        _refuse(model, longest)
        packing.register()
        shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
        self._model: Any = copy.deepcopy(model, shared)
        self._model.config.use_cache = False
        self._model.set_attn_implementation(packing.ATTENTION)
        body: Any = self._model.base_model
        self._read_last = _is_causal(body)
        self._pad_id = pad_id
        self._padding_idx = _positions_begin_behind(body)
        if narrow:
            _narrow(body)
        setattr(self._model, self._model.base_model_prefix, _PackedBody(body))

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the model as the function `move` does. Its weights are shared with the given model."""
        move(self._model, device, dtype)

    def logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits of rows of at least one token, shape (rows, classes), in the model's precision."""
        with torch.inference_mode():
            return self.run(self.pack(rows, self._model.device))

    def pack(self, rows: Sequence[Sequence[int]], device: torch.device) -> packing.PackedBatch:
        """Pack rows of at least one token into a batch for `run`, on a device."""
        # the head reads the last token that is not padding; later ones have no influence
        if self._read_last:
            rows = [_cut(row, self._pad_id) for row in rows]
        return packing.pack(rows, self._positions(rows), self._read_last, device)

    def run(self, batch: packing.PackedBatch, training: bool = False) -> torch.Tensor:
        """Logits of a batch on the model's device. Gradients flow to the given model's parameters.

        Args:
            batch: made by `pack`.
            training: use dropout; attention dropout must be 0.
        """
        if self._model.training != training:
            self._model.train(training)
        size = (len(batch.lengths), 1)
        stand_in = torch.full(size, int(self._pad_id == 0), device=batch.input_ids.device)
        with packing.computing(batch):
            return self._model(input_ids=stand_in, attention_mask=torch.ones_like(stand_in)).logits

    def _positions(self, rows: Sequence[Sequence[int]]) -> list[list[int]] | None:
        """Return position ids, or None for the default. RoBERTa's begin after the padding id and skip padding."""
        pad = self._padding_idx
        if pad is None:
            return None
        counted = [np.asarray(row) != pad for row in rows]
        return [(np.cumsum(real) * real + pad).tolist() for real in counted]


def move(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> None:
    """Move a model to a device and precision. The frequencies of rotary positions stay in fp32."""
    frequencies = {n: b for n, b in model.named_buffers() if n.endswith("inv_freq")}
    moved: Any = model
    moved.to(device, dtype)
    for name, buffer in frequencies.items():
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, buffer.to(device))


class _PackedBody(torch.nn.Module):
    """Replaces a model's body and returns the states that the head reads, shape (rows, 1, hidden)."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.config = body.config
        self.body = body
        self.pooler = getattr(body, "pooler", None)
        if self.pooler is not None:
            body.pooler = None  # it would pool the first row only
            if isinstance(self.pooler, torch.nn.Linear):  # ALBERT's
                self.pooler = _Linear(self.pooler, body.pooler_activation)

    def forward(self, *_args: Any, **_kwargs: Any) -> BaseModelOutputWithPoolingAndCrossAttentions:
        batch = packing.current()
        ids = batch.input_ids
        states = self.body(
            ids, attention_mask=torch.ones_like(ids), position_ids=batch.position_ids
        )
        states = states.last_hidden_state[0]
        if len(states) != len(batch.lengths):  # otherwise the last layer has selected them already
            states = states[batch.read]
        states = states[:, None]
        pooled = None if self.pooler is None else self.pooler(states)
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=states, pooler_output=pooled
        )


class _Linear(torch.nn.Module):
    def __init__(self, dense: torch.nn.Module, activation: torch.nn.Module) -> None:
        super().__init__()
        self.dense, self.activation = dense, activation

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.activation(self.dense(states[:, 0]))


def _refuse(model: PreTrainedModel, longest: int) -> None:
    described: Any = model
    config = described.config.get_text_config()
    if not getattr(model, "_supports_attention_backend", False):
        raise UnpackableError("its attention cannot be replaced")
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    kinds.discard("full_attention")
    if getattr(config, "attention_chunk_size", None) or kinds - {"sliding_attention"}:
        raise UnpackableError("it attends in chunks, or not in all layers")
    if kinds and (getattr(config, "sliding_window", None) or longest) < longest:
        raise UnpackableError("it attends to only a part of a long review")
    if "position_ids" not in inspect.signature(described.base_model.forward).parameters:
        raise UnpackableError("it takes no position_ids")
    if described.base_model is model:
        raise UnpackableError("its head and its body are one module")


def _is_causal(body: torch.nn.Module) -> bool:
    stated = [
        m.is_causal for m in body.modules() if isinstance(getattr(m, "is_causal", None), bool)
    ]
    return bool(stated) and all(stated)


def _positions_begin_behind(body: torch.nn.Module) -> int | None:
    for module in body.modules():
        if hasattr(module, "create_position_ids_from_input_ids"):
            return int(module.padding_idx)  # type: ignore[arg-type]
    return None


def _cut(row: Sequence[int], pad_id: int) -> Sequence[int]:
    """Return a row without the padding ids at its end, keeping at least one token."""
    end = len(row)
    while end > 1 and row[end - 1] == pad_id:
        end -= 1
    return row[:end]


def _narrow(body: torch.nn.Module) -> None:
    layers = layers_of(body)
    kind = next((k for k in _NARROW if layers and k.fits(layers[-1])), None)
    if layers is None or kind is None:
        raise UnpackableError("its last layer is of an unknown kind")
    layers[-1] = kind(layers[-1])


class _Narrow(torch.nn.Module):
    """A last layer that computes only the states that are read, shape (1, rows, hidden)."""

    parts: tuple[str, ...]

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    @classmethod
    def fits(cls, layer: torch.nn.Module) -> bool:
        """True if a layer has all parts that this kind uses."""
        names = dict(layer.named_modules())
        return all(part in names for part in cls.parts)

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, like: Any
    ) -> torch.Tensor:
        """Attention of one query per row, from projections (1, ..., hidden) to (1, rows, hidden)."""
        q, k, v = (t[0].unflatten(-1, (-1, like.attention_head_size)) for t in (query, key, value))
        return packing.attend(q, k, v, packing.current(), False, like.scaling).flatten(1)[None]


class _NarrowBert(_Narrow):
    """The last layer of BERT, RoBERTa, XLM-RoBERTa, ELECTRA, CamemBERT and similar models."""

    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output",
             "intermediate", "output")  # fmt: skip

    def forward(self, states: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        own, read = self.layer.attention.self, states[:, packing.current().read]
        attended = self._attend(own.query(read), own.key(states), own.value(states), own)
        return self.layer.feed_forward_chunk(self.layer.attention.output(attended, read))


class _NarrowDistilBert(_Narrow):
    parts = ("attention.q_lin", "attention.out_lin", "sa_layer_norm", "ffn", "output_layer_norm")

    def forward(self, states: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        layer, own, read = self.layer, self.layer.attention, states[:, packing.current().read]
        attended = self._attend(own.q_lin(read), own.k_lin(states), own.v_lin(states), own)
        read = layer.sa_layer_norm(own.out_lin(attended) + read)
        return layer.output_layer_norm(layer.ffn(read) + read)


class _NarrowLlama(_Narrow):
    """The last layer of Llama, Mistral, Qwen and similar models.

    Attention is computed in full, because it differs between models; what follows it is narrow.
    """

    parts = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")

    def forward(self, states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        layer, read = self.layer, packing.current().read
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(states), **kwargs)
        states = states[:, read] + attended[:, read]
        return states + layer.mlp(layer.post_attention_layernorm(states))


_NARROW: tuple[type[_Narrow], ...] = (_NarrowBert, _NarrowDistilBert, _NarrowLlama)
