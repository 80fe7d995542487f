"""Score with third-party libraries, each as its documentation says, in an environment of their own.

    .venv-peers/bin/python benchmarks/speed/peer_worker.py

It reads lines of JSON and answers each with one line: {"do": "open", "name": ..., "kind": ..., "options": {...}},
{"do": "texts", "file": ...}, {"do": "round", "name": ...} answers with seconds, {"do": "answers", "name": ...} with
probabilities, {"do": "close"}. Output of the libraries goes to stderr. It imports nothing of Nightshift.
"""

import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Scorer = Callable[[list[str]], Any]  # texts to probabilities, shape (rows, classes)
_MOST_TOKENS = 512


def as_pipeline(model: str, batch_size: int | None, in_order: bool = True, **_: Any) -> Scorer:
    """Score with `transformers.pipeline`, texts in the given order or sorted by length."""
    from transformers import pipeline

    usual = pipeline("text-classification", model=model, device="cpu", top_k=None)
    usual.tokenizer.model_max_length = min(_MOST_TOKENS, usual.model.config.max_position_embeddings)
    ids = usual.model.config.label2id

    def score(texts: list[str]) -> Any:
        order = range(len(texts)) if in_order else np.argsort([len(t) for t in texts])
        chosen = [texts[i] for i in order]
        if batch_size is None:
            told = [usual(text, truncation=True)[0] for text in chosen]
        else:
            told = usual(chosen, truncation=True, batch_size=batch_size)
        found = np.empty((len(texts), len(ids)))
        for place, answer in zip(order, told, strict=True):
            for entry in answer:
                found[place, ids[entry["label"]]] = entry["score"]
        return found

    return score


def by_token_budget(model: str, precision: str, tokens: int = 4096, **_: Any) -> Scorer:
    """Score with a plain loop of torch whose padded batches hold up to a number of tokens."""
    import torch
    from transformers import AutoModelForSequenceClassification

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=dtype).eval()

    def forward(ids: Any, mask: Any) -> Any:
        with torch.inference_mode():
            out = network(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return out.logits.float().numpy()

    return _batched(model, forward, tokens)


def by_onnxruntime(model: str, int8: bool, threads: int, tokens: int = 4096, **_: Any) -> Scorer:
    """Score with ONNX Runtime: exported by torch, fused by its own optimizer; int8: its dynamic quantization."""
    import onnxruntime as ort
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    folder = Path(tempfile.mkdtemp(prefix="peers-", dir=os.environ["PEERS_FOLDER"]))
    path = folder / "model.onnx"
    example = torch.ones((2, 8), dtype=torch.int64)
    rows_and_tokens = {0: "rows", 1: "tokens"}
    torch.onnx.export(
        network, (example, example), str(path), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["logits"],
        dynamic_axes={"input_ids": rows_and_tokens, "attention_mask": rows_and_tokens},
    )  # fmt: skip
    config = network.config
    fused = optimizer.optimize_model(
        str(path), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
    )
    fused.save_model_to_file(str(path))
    if int8:
        import onnx
        from onnxruntime.quantization import quantize_dynamic

        # The shape inference knows no types for the optimizer's own operators.
        types = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(str(path), str(folder / "int8.onnx"), extra_options=types)
        path = folder / "int8.onnx"
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return _batched(
        model,
        lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0],
        tokens,
    )


def by_ctranslate2(model: str, threads: int, tokens: int = 4096, **_: Any) -> Scorer:
    """Score with CTranslate2's encoder in int8; the head, which it does not support, runs in numpy."""
    import ctranslate2
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    weight = network.classifier.weight.detach().numpy()
    bias = network.classifier.bias.detach().numpy()
    folder = tempfile.mkdtemp(prefix="peers-", dir=os.environ["PEERS_FOLDER"])
    network.config.position_embedding_type = (
        "absolute"  # required by the converter; transformers 5 no longer writes it
    )
    network.save_pretrained(f"{folder}/model")
    AutoTokenizer.from_pretrained(model).save_pretrained(f"{folder}/model")
    converter = ctranslate2.converters.TransformersConverter(f"{folder}/model")
    converter.convert(f"{folder}/converted")
    encoder = ctranslate2.Encoder(f"{folder}/converted", compute_type="int8", intra_threads=threads)

    def forward(ids: Any, mask: Any) -> Any:
        rows = [row[: int(m.sum())].tolist() for row, m in zip(ids, mask, strict=True)]
        pooled = np.array(encoder.forward_batch(rows).pooler_output)
        return pooled @ weight.T + bias

    return _batched(model, forward, tokens)


def by_openvino(model: str, threads: int, tokens: int = 4096, **_: Any) -> Scorer:
    """Score with OpenVINO, converted and compiled as documented; it chooses the precision (bf16 if available)."""
    import openvino as ov
    import torch
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    example = torch.ones((2, 8), dtype=torch.int64)
    converted = ov.convert_model(
        network, example_input={"input_ids": example, "attention_mask": example}
    )
    compiled = ov.compile_model(converted, "CPU", {"INFERENCE_NUM_THREADS": threads})
    return _batched(
        model,
        lambda ids, mask: compiled({"input_ids": ids, "attention_mask": mask})[0].copy(),
        tokens,
    )


def _batched(model: str, forward: Callable[[Any, Any], Any], tokens: int) -> Scorer:
    """Score in padded batches of similar length; return probabilities in the order of the texts."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    config = AutoConfig.from_pretrained(model)
    longest = min(_MOST_TOKENS, config.max_position_embeddings)

    def score(texts: list[str]) -> Any:
        rows = tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
        logits = np.empty((len(rows), config.num_labels))
        for batch in _plan([len(row) for row in rows], tokens):
            width = max(len(rows[i]) for i in batch)
            ids = np.full((len(batch), width), tokenizer.pad_token_id, np.int64)
            mask = np.zeros((len(batch), width), np.int64)
            for at, i in enumerate(batch):
                ids[at, : len(rows[i])] = rows[i]
                mask[at, : len(rows[i])] = 1
            logits[batch] = forward(ids, mask)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    return score


def _plan(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Group rows of similar length, the longest first, so that each padded size is within the budget."""
    batches: list[list[int]] = []
    width = 0
    for i in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        if not batches or (len(batches[-1]) + 1) * width > tokens:
            batches.append([])
            width = lengths[i]
        batches[-1].append(i)
    return batches


KINDS: dict[str, Callable[..., Scorer]] = {
    "pipeline": as_pipeline,
    "token budget": by_token_budget,
    "onnxruntime": by_onnxruntime,
    "ctranslate2": by_ctranslate2,
    "openvino": by_openvino,
}


class Worker:
    """Holds the opened libraries, and carries out the orders."""

    def __init__(self) -> None:
        self._scorers: dict[str, Scorer] = {}
        self._texts: list[str] = []

    def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order, and return the answer."""
        what = order["do"]
        if what == "open":
            self._scorers[order["name"]] = KINDS[order["kind"]](**order["options"])
        elif what == "texts":
            self._texts = json.loads(Path(order["file"]).read_text(encoding="utf-8"))
        elif what == "round":
            started = time.perf_counter()
            self._scorers[order["name"]](self._texts)
            return {"seconds": time.perf_counter() - started}
        elif what == "answers":
            return {"probabilities": self._scorers[order["name"]](self._texts).tolist()}
        elif what == "versions":
            return {"versions": _versions()}
        return {}


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("torch", "transformers", "onnxruntime", "ctranslate2", "openvino"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Answer lines until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keeps library output out of the answers
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.do(json.loads(line))
        except Exception as error:  # any failure of a peer becomes a row of the table
            said = str(error).strip().splitlines()
            answer = {"error": f"{type(error).__name__}: {said[0] if said else ''}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
