"""Peers as sides: a process in their own environment that receives orders as lines of JSON."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

WORKER = Path(__file__).with_name("peer_worker.py")
ENVIRONMENT = Path(".venv-peers")
BASELINE = "transformers.pipeline, batch 32"
ONE_BY_ONE = "transformers.pipeline, one by one"
# Reference of all comparisons: plain torch, fp32, no third-party engine.
REFERENCE = "token budget, fp32"


def offered(model: Path, threads: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the kind and the options of each row by name, the baseline first."""
    given: dict[str, tuple[str, dict[str, Any]]] = {
        BASELINE: ("pipeline", {"batch_size": 32}),
        ONE_BY_ONE: ("pipeline", {"batch_size": None}),
        "sorted by length, batch 32": ("pipeline", {"batch_size": 32, "in_order": False}),
        REFERENCE: ("token budget", {"precision": "fp32"}),
        "token budget, bf16": ("token budget", {"precision": "bf16"}),
        "ONNX Runtime, fp32": ("onnxruntime", {"int8": False}),
        "ONNX Runtime, int8 dynamic": ("onnxruntime", {"int8": True}),
        "CTranslate2, int8": ("ctranslate2", {}),
        "OpenVINO, its own precision": ("openvino", {}),
    }
    return {
        name: (kind, options | {"model": str(model), "threads": threads})
        for name, (kind, options) in given.items()
    }


def environment(given: Path | None) -> Path | None:
    """Return the interpreter of the peers' environment, or None if there is none."""
    python = given or ENVIRONMENT / "bin" / "python"
    return python if python.exists() else None


class Peers:
    """The process with the peers; a context manager that ends it.

    Args:
        python: interpreter of their environment.
        threads: torch's threads in this process, so that both have the same.
    """

    def __init__(self, python: Path, threads: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nightshift-peers-")
        surroundings = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "true",
            "PEERS_FOLDER": self._folder.name,
        }
        surroundings.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [str(python), str(WORKER)], env=surroundings, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> "Peers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def open(self, name: str, kind: str, options: dict[str, Any]) -> str:
        """Open a peer; return why it is impossible, or ''."""
        return str(self._ask(do="open", name=name, kind=kind, options=options).get("error", ""))

    def take(self, texts: Sequence[str]) -> None:
        """Set the texts to be scored from now on."""
        place = Path(self._folder.name) / "texts.json"
        place.write_text(json.dumps(list(texts)), encoding="utf-8")
        self._required(do="texts", file=str(place))

    def round(self, name: str) -> float:
        """Return the seconds in which a peer scores the texts, as it measures them itself."""
        return float(self._required(do="round", name=name)["seconds"])

    def answers(self, name: str) -> list[list[float]]:
        """Return a peer's probabilities, shape (rows, classes)."""
        return self._required(do="answers", name=name)["probabilities"]

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages in their environment."""
        return self._required(do="versions")["versions"]

    def _required(self, **order: Any) -> dict[str, Any]:
        answer = self._ask(**order)
        if "error" in answer:
            raise RuntimeError(f"{order.get('name', 'peers')}: {answer['error']}")
        return answer

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            print(f"the peers' process ended with {self._process.poll()}", file=sys.stderr)
            return {"error": "the peers' process ended"}
        return json.loads(line)
