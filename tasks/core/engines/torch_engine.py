"""The torch engine: runs any transformers sequence classifier, with packed batches if they give the same answers.

When the engine opens, it computes random rows packed and one by one, in fp32. If the answers differ, batches are padded
by the classifier's batch rule, and the log says so.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.errors import RAISED_BY_MODELS, first_line
from tasks.core.models.batching import neighbours, plan
from tasks.core.models.batching.packed_model import PackedModel, move
from tasks.core.models.batching.packing import UnpackableError, trying
from tasks.core.models.classifier import Classifier
from tasks.core.models.devices import precision_of_version, resolve_device
from tasks.core.models.params import Device, Precision

logger = logging.getLogger(__name__)

_PACKED_ROWS, _PADDED_ROWS = 1024, 256  # most rows per batch
#: Tolerance of packed bf16 logits against fp32 logits of a row alone: fractions of the range of the probe's logits, and
#: of the largest. Attention across rows moves logits by tens of per cent of the range; bf16 alone moves a random
#: model's by a few.
_BF16_TOLERANCE = (0.2, 0.03)


class TorchEngine:
    """A classifier run by torch, in batches planned by length.

    Args:
        classifier: its weights are moved to the device and cast to the precision in place, for all who share them.
        device: where it runs.
        precision: the precision to run in.
        batch_tokens: the most tokens of a batch.
        packed: True uses packed batches if they are exact; False always pads.
    """

    def __init__(
        self,
        classifier: Classifier,
        device: Device = "auto",
        precision: Precision = "auto",
        batch_tokens: int = 4096,
        packed: bool = True,
    ) -> None:
        self.label_names = classifier.label_names
        self._device = resolve_device(device)
        resolved = precision_of_version(precision, classifier.precision, self._device)
        self._classifier = classifier
        self._model: Any = classifier.model.eval()
        self._pad_id = classifier.pad_id
        self._batch_tokens = batch_tokens
        self._packed: PackedModel | None = None
        bf16 = resolved == "bf16" and not self._bf16_problem()
        dtype = torch.bfloat16 if bf16 else torch.float32
        if packed and classifier.batch_rule == "padded":
            self._packed = self._opened(classifier.encoder.params.max_length_tokens, dtype)
        move(self._model, self._device, dtype)

    @property
    def is_packed(self) -> bool:
        """True if batches have no padding."""
        return self._packed is not None

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        logits = np.empty((len(input_ids), len(self.label_names)), dtype=np.float32)
        rows = [row if len(row) else [self._pad_id] for row in input_ids]
        lengths = [len(row) for row in rows]
        if self._packed:
            batches = plan.plan_packed(lengths, self._batch_tokens, _PACKED_ROWS)
        else:
            rule = self._classifier.batch_rule
            batches = plan.plan(lengths, self._batch_tokens, _PADDED_ROWS, rule)
        for batch in batches:
            batch_rows = [rows[i] for i in batch]
            batch_logits = (
                self._packed.logits(batch_rows) if self._packed else self._padded(batch_rows)
            )
            logits[batch] = batch_logits.float().cpu().numpy()
        return logits

    def _padded(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        ids, mask = plan.pad(rows, self._pad_id, self._classifier.padding_side)
        where = self._model.device
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.from_numpy(ids).to(where),
                attention_mask=torch.from_numpy(mask).to(where),
            )
        return output.logits

    def _bf16_problem(self) -> str:
        """Return the error that the model's code raises in bf16, or an empty string.

        A copy with zeros as weights is run, because the model's own weights could not be restored from bf16.
        """
        zeros: Any = {id(t): _zeros(t, self._device) for t in _tensors(self._model)}
        model: Any = copy.deepcopy(self._model, zeros).to(self._device)
        row = max(neighbours.probe(self._classifier), key=len)
        ids, mask = (torch.from_numpy(a).to(self._device) for a in plan.pad([row], self._pad_id))
        try:
            with torch.inference_mode():
                model(input_ids=ids, attention_mask=mask)
        except torch.OutOfMemoryError:
            raise
        except RAISED_BY_MODELS as error:
            name, problem = type(self._model).__name__, first_line(error)
            logger.warning("%s is scored in fp32, because it fails in bf16: %s", name, problem)
            return problem
        return ""

    def _opened(self, longest: int, dtype: torch.dtype) -> PackedModel | None:
        """Return the packed model on its device, or None if its answers differ from those of single rows."""
        move(self._model, self._model.device, torch.float32)  # a GPU may lack memory for fp32
        rows = neighbours.probe(self._classifier)
        expected = neighbours.alone(self._classifier, rows)
        problem = ""
        for narrow in (True, False):
            try:
                with trying():
                    packed = PackedModel(self._model, self._pad_id, longest, narrow)
                    problem = neighbours.difference(packed.logits(rows), expected)
                    if not problem:
                        packed.move(self._device, dtype)
                        if self._device.type != "cpu":  # GPUs use other kernels
                            packed_logits = packed.logits(rows)
                            problem = neighbours.difference(
                                packed_logits, expected, _BF16_TOLERANCE
                            )
                if not problem:
                    return packed
            except UnpackableError as error:
                problem = str(error)
        name = type(self._model).__name__
        logger.warning("%s is scored in padded batches, which is slower: %s", name, problem)
        return None


def _tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return the tensors that `move` casts to bf16: all but the frequencies of rotary positions, and integers."""
    named = (*model.named_parameters(), *model.named_buffers())
    return [t for n, t in named if t.is_floating_point() and not n.endswith("inv_freq")]


def _zeros(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    zeros = torch.zeros(tensor.shape, dtype=torch.bfloat16, device=device)
    return torch.nn.Parameter(zeros) if isinstance(tensor, torch.nn.Parameter) else zeros


@dataclass(frozen=True)
class _Torch:
    name: str = "torch"
    precision: Precision | None = None  # None: as the options say
    packages: tuple[str, ...] = ()
    extra = ""

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        return ""

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Do nothing: torch runs the model as it is."""

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        if options.threads:
            torch.set_num_threads(options.threads)
        precision = self.precision or options.precision
        return TorchEngine(classifier, options.device, precision, options.batch_tokens)


KIND = _Torch()
FP32 = _Torch("torch-fp32", "fp32")
