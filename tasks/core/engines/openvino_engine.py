"""OpenVINO on CPUs, in bf16 or fp32 (`openvino`) and in int8 (`openvino-int8`).

Batches run asynchronously on as many streams as there are threads. Each runs on one thread and has at most 2,048
tokens, so that its data stays in the core's cache. int8 is full post-training quantisation of weights and activations
by NNCF (its scheme for transformers, with smooth quantisation after Xiao et al., 2022, "SmoothQuant"), calibrated on
token rows like those that will be scored.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
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
from tasks.core.models.devices import resolve_precision

MODEL, WEIGHTS = "model.xml", "model.bin"
#: Most tokens per batch, including padding: more do not fit the cache, fewer cost more calls.
_BATCH_TOKENS = 2048
#: Most rows that int8 is calibrated on.
CALIBRATION_ROWS = 300
#: Kernels that a compiled model caches, of the thousands that the batch shapes of one night need. OpenVINO's default of
#: 5,000 takes hundreds of MB, and shapes recur too seldom to be worth it (github.com/openvinotoolkit/openvino, issue
#: 20633). The key is an internal one.
_KEPT_KERNELS = {"CPU_RUNTIME_CACHE_CAPACITY": "64"}
_CPU = torch.device("cpu")


class OpenVinoEngine:
    """An engine that scores with a compiled OpenVINO model. Only one thread may use it at a time."""

    def __init__(
        self, model: Any, classifier: Classifier, options: EngineOptions, side: Side
    ) -> None:
        self.label_names = classifier.label_names
        self._pad_id = classifier.pad_id
        self._side: Side = side
        self._rule: BatchRule = classifier.batch_rule
        self._batch_tokens = min(options.batch_tokens, _BATCH_TOKENS)
        threads = options.threads or torch.get_num_threads()
        precision = _precision(classifier, options)
        compiled = _compiled(model, _configuration(threads, precision))
        self._queue = _openvino().AsyncInferQueue(compiled, threads)
        self._queue.set_callback(_keep)

    def logits(self, input_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Logits of unpadded rows, shape (rows, classes), float32, in the order given."""
        logits = np.empty((len(input_ids), len(self.label_names)), dtype=np.float32)
        rows = [row if len(row) else [self._pad_id] for row in input_ids]
        lengths = [len(row) for row in rows]
        for batch in plan.plan(lengths, self._batch_tokens, 256, self._rule):
            ids, mask = plan.pad([rows[i] for i in batch], self._pad_id, self._side)
            self._queue.start_async([ids, mask], (logits, batch))
        self._queue.wait_all()
        return logits


def _keep(request: Any, destination: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    logits, batch = destination
    logits[batch] = request.get_output_tensor(0).data


def _precision(classifier: Classifier, options: EngineOptions) -> str:
    """Return the requested precision, but always fp32 for decoders with a gate (Llama's family).

    On some processors OpenVINO's fused gate for bf16 divides by zero during compilation and crashes the process
    (github.com/openvinotoolkit/openvino, issues 33300 and 35943; seen with 2026.4).
    """
    names = (name.rpartition(".")[2] for name, _ in classifier.model.named_modules())
    if any(name.startswith("gate") for name in names):
        return "fp32"
    return resolve_precision(options.precision, _CPU)


def _compiled(model: Any, configuration: dict[str, Any]) -> Any:
    core = _openvino().Core()
    try:
        return core.compile_model(model, "CPU", configuration | _KEPT_KERNELS)
    except RuntimeError as error:
        if not any(key in str(error) for key in _KEPT_KERNELS):
            raise
        return core.compile_model(model, "CPU", configuration)  # this version lacks the key


def _configuration(threads: int, precision: str) -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "ENABLE_CPU_PINNING": False,  # would pin two engines on one machine to the same cores
    }


class _OpenVino:
    """The engine `openvino`: bf16 if the processor multiplies in it, else fp32."""

    name = "openvino"
    packages: tuple[str, ...] = ("openvino",)
    extra = "openvino"

    def suits(self, classifier: Classifier, device: torch.device) -> str:
        return "" if device.type == "cpu" else "openvino runs on CPUs"

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Write the graph, its weights in fp32, and the record.

        Raises:
            ModelError: the converted model answers differently.
            Exception: whatever the converter, or the model's code during tracing, raises. These errors have no common
                base, so callers that try engines must catch any.
        """
        model, side = _convert(classifier)
        _save(model, folder)
        facts = {**_versions(), "padding_side": side}
        build_record.write_record(folder, self.name, classifier, [MODEL, WEIGHTS], facts)

    def open(self, classifier: Classifier, folder: Path, options: EngineOptions) -> Engine:
        """Open the engine from what `build` wrote.

        Raises:
            ModelError: not built for this model, damaged, or built by a newer OpenVINO than is installed here.
        """
        record = build_record.read_record(folder, self.name, classifier)
        _require_version(str(record.get("openvino", "")), folder)
        try:
            model = _openvino().Core().read_model(folder / MODEL)
            # Engines built before the side was recorded were checked with padding on the right.
            side: Side = record.get("padding_side", "right")
            return OpenVinoEngine(model, classifier, options, side)
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO cannot open the engine: {str(error).strip().splitlines()[-1]}",
                str(folder),
                "register the model again, or choose the engine torch",
            ) from error


class _OpenVinoInt8(_OpenVino):
    """The engine `openvino-int8`: weights and activations in int8, everything else in bf16 or fp32."""

    name = "openvino-int8"
    packages = ("openvino", "nncf")

    def build(self, classifier: Classifier, folder: Path, sample: Sequence[Sequence[int]]) -> None:
        """Write the quantised graph. Also raises ModelError if there is no sample to calibrate on."""
        rows = sample[:CALIBRATION_ROWS]
        if not rows:
            raise ModelError(
                "int8 needs token rows for calibration", self.name, "give a sample of reviews"
            )
        model, side = _convert(classifier)
        _save(_quantised(model, rows), folder)
        facts = {
            **_versions(),
            "padding_side": side,
            "nncf": importlib.import_module("nncf").__version__,
        }
        facts |= {"calibration_rows": len(rows), "scheme": "transformer, full int8"}
        build_record.write_record(folder, self.name, classifier, [MODEL, WEIGHTS], facts)


def _openvino() -> Any:
    """Import openvino without its telemetry package, which is optional; without it nothing can be sent."""
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    return importlib.import_module("openvino")


def _convert(classifier: Classifier) -> tuple[Any, Side]:
    """Convert a classifier; return the graph and the padding side that it needs."""
    ov = _openvino()
    free = [-1, -1]
    with exporting.quietly():
        model = ov.convert_model(
            Exportable(classifier),
            example_input=tuple(torch.from_numpy(part) for part in exporting.example(classifier)),
            input=[(name, free, ov.Type.i64) for name in exporting.INPUTS],
        )
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    side = exporting.check(lambda ids, mask: compiled([ids, mask])[0], classifier, "openvino")
    return model, side


def _quantised(model: Any, rows: Sequence[Sequence[int]]) -> Any:
    """Quantise a graph. It is calibrated row by row, so that the measured activations contain no padding."""
    with exporting.quietly():
        nncf: Any = importlib.import_module("nncf")
        return nncf.quantize(
            model,
            nncf.Dataset(list(_one_by_one(rows))),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
        )


def _one_by_one(rows: Sequence[Sequence[int]]) -> Iterator[dict[str, NDArray[np.int64]]]:
    for row in rows:
        yield dict(zip(exporting.INPUTS, plan.pad([row], 0), strict=True))


def _save(model: Any, folder: Path) -> None:
    with exporting.quietly():
        _openvino().save_model(model, folder / MODEL, compress_to_fp16=False)


def _versions() -> dict[str, str]:
    return {
        "openvino": str(_openvino().__version__).split("-")[0],
        "torch": torch.__version__,
        "transformers": importlib.import_module("transformers").__version__,
    }


def _require_version(built_by: str, folder: Path) -> None:
    """Check that the installed OpenVINO is not older than the one that built the engine."""
    installed = _versions()["openvino"]
    if _numbers(built_by)[:2] > _numbers(installed)[:2]:
        raise ModelError(
            f"The engine was built by OpenVINO {built_by}, but {installed} is installed here",
            str(folder),
            f"pip install 'openvino>={built_by}', or choose the engine torch",
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


KIND = _OpenVino()
INT8 = _OpenVinoInt8()
