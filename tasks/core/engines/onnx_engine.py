"""ONNX Runtime on CPUs, in fp32 (`onnx`) and in int8 by dynamic quantisation (`onnx-int8`).

As many batches run at once as there are threads, each on one thread, because the runtime releases Python's GIL.
"""

import importlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.engines import build_record, exporting
from tasks.core.engines.exporting import Exportable
from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.errors import ModelError
from tasks.core.models.batching import plan
from tasks.core.models.batching.plan import BatchRule, Side
from tasks.core.models.classifier import Classifier

MODEL = "model.onnx"
#: Most tokens per batch, including padding: more do not fit the cache, fewer cost more calls.
_BATCH_TOKENS = 2048
_OPSET = 17


class OnnxEngine:
    """An engine that scores with a session of ONNX Runtime."""

    def __init__(
        self, session: Any, classifier: Classifier, options: EngineOptions, side: Side
    ) -> None:
        self.label_names = classifier.label_names
        self._session = session
        self._pad_id = classifier.pad_id
        self._side: Side = side
        self._rule: BatchRule = classifier.batch_rule
        self._batch_tokens = min(options.batch_tokens, _BATCH_TOKENS)
        self._threads = options.threads or torch.get_num_threads()

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Logits of unpadded rows, shape (rows, classes), float32, in the order given."""
        logits = np.empty((len(input_ids), len(self.label_names)), dtype=np.float32)
        rows = [row if len(row) else [self._pad_id] for row in input_ids]

        def run(batch: NDArray[np.int64]) -> None:
            padded = plan.pad([rows[i] for i in batch], self._pad_id, self._side)
            logits[batch] = self._session.run(None, dict(zip(exporting.INPUTS, padded, strict=True)))[0]  # fmt: skip

        lengths = [len(row) for row in rows]
        batches = plan.plan(lengths, self._batch_tokens, 256, self._rule)
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(run, batches):
                pass
        return logits


class _Onnx:
    """The engine `onnx`, in fp32: ONNX Runtime has no bf16 on CPUs."""

    name = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime")
    extra = "onnx"

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        return "" if device.type == "cpu" else "onnx runs on CPUs here"

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Write the graph with its weights in fp32, and the record.

        Raises:
            ModelError: the converted model answers differently.
            Exception: whatever the exporter, or the model's code during tracing, raises. Callers that try engines must
                catch any.
        """
        side = _export(classifier, folder / MODEL)
        facts = {**_versions(), "padding_side": side}
        build_record.write_record(folder, self.name, classifier, [MODEL], facts)

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        """Open the engine from what `build` wrote. Raises ModelError if that is damaged or another model's."""
        record = build_record.read_record(folder, self.name, classifier)
        # Engines built before the side was recorded were checked with padding on the right.
        side: Side = record.get("padding_side", "right")
        return OnnxEngine(_session(folder / MODEL), classifier, options, side)


class _OnnxInt8(_Onnx):
    """The engine `onnx-int8`: int8 weights, and activations quantised at run time.

    It needs no calibration, and is less exact than OpenVINO's int8.
    """

    name = "onnx-int8"

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Write the quantised graph and the record."""
        whole = folder / f"{MODEL}.part"
        side = _export(classifier, whole)
        with exporting.quietly():
            quantization: Any = importlib.import_module("onnxruntime.quantization")
            quantization.quantize_dynamic(
                whole, folder / MODEL, per_channel=True, weight_type=quantization.QuantType.QInt8
            )
        os.remove(whole)
        facts = {**_versions(), "padding_side": side}
        build_record.write_record(folder, self.name, classifier, [MODEL], facts)


def _export(classifier: Classifier, path: Path) -> Side:
    """Write the graph, and return the padding side that it needs."""
    both = {0: "rows", 1: "tokens"}
    with exporting.quietly():
        torch.onnx.export(
            Exportable(classifier),
            tuple(torch.from_numpy(part) for part in exporting.example(classifier)),
            str(path),
            input_names=list(exporting.INPUTS),
            output_names=["logits"],
            dynamic_axes={**dict.fromkeys(exporting.INPUTS, both), "logits": {0: "rows"}},
            opset_version=_OPSET,
            dynamo=False,  # the newer exporter does not fuse attention
        )
    session = _session(path)
    return exporting.check(
        lambda ids, mask: session.run(None, dict(zip(exporting.INPUTS, (ids, mask), strict=True)))[
            0
        ],
        classifier,
        "onnx",
    )


def _session(path: Path) -> Any:
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no other common base
        raise ModelError(
            f"ONNX Runtime cannot read it: {str(error).strip().splitlines()[0]}",
            str(path),
            "register the model again, or choose the engine torch",
        ) from error


def _versions() -> dict[str, str]:
    versions = {
        name: importlib.import_module(name).__version__
        for name in ("onnx", "onnxruntime", "transformers")
    }
    return {**versions, "torch": torch.__version__, "opset": str(_OPSET)}


KIND = _Onnx()
INT8 = _OnnxInt8()
