"""Nightshift's engines as sides: from texts to predictions by the product's own scoring path."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines import registry
from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.errors import NightshiftError
from tasks.core.models import classifier as modeling
from tasks.core.models import devices
from tasks.core.scoring import predict
from tasks.core.scoring.params import EngineParams
from tasks.core.scoring.predict import Prediction, Review

#: Engines with a row in the tables; those that this installation lacks are listed as missing.
WANTED = (
    "torch", "openvino", "openvino-int8", "cascade", "cascade-bf16",
)  # fmt: skip
FP32 = "torch, fp32"
Floats = NDArray[np.float64]


class Contender:
    """An engine, opened, with the tokenization of its model.

    Args:
        encoder: the model's encoder.
        engine: computes the logits.
    """

    def __init__(self, encoder: Encoder, engine: Engine) -> None:
        self.encoder = encoder
        self.engine = engine

    def answers(self, texts: Sequence[str]) -> Floats:
        """Compute probabilities, shape (rows, classes), as a scoring run would write them."""
        reviews = (Review(row, str(row), text) for row, text in enumerate(texts, start=1))
        window = EngineParams().window_reviews
        told = predict.score([reviews], self.encoder, self.engine, window)
        found = [item.probabilities for item in told if isinstance(item, Prediction)]
        assert len(found) == len(texts), "a review was refused"
        return np.array(found)

    def round(self, texts: Sequence[str]) -> None:
        """Do the same for timing, without a result."""
        self.answers(texts)


def build(name: str, model: Path, sample: Sequence[str]) -> str:
    """Build an engine's files beside the model, once; return why it is impossible, or ''.

    Args:
        name: the engine's name.
        model: folder that `classifier.save` wrote; the engine's files go into it.
        sample: texts like those to be scored, for int8.
    """
    if name not in registry.kinds():
        return "there is no such engine in this version"
    missing = registry.missing_packages(name)
    if missing:
        return f"{', '.join(missing)} is not installed here"
    classifier = modeling.load(model)
    kind = registry.kind_of(name)
    reason = kind.suits(classifier, torch.device("cpu"))
    folder = model / registry.FOLDER / name
    if reason or name == registry.TORCH or folder.exists():
        return reason
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        made = Path(work) / name
        made.mkdir()
        kind.build(classifier, made, classifier.encoder.encode(sample).input_ids)
        shutil.move(made, folder)
    return ""


def opened(name: str, model: Path, options: EngineOptions) -> Contender:
    """Open an engine that was built."""
    classifier = modeling.load(model)
    encoder = classifier.encoder
    return Contender(encoder, registry.open_engine(name, classifier, model, options))


def ours(
    model: Path, sample: Sequence[str], wanted: Sequence[str] = WANTED, batch_tokens: int = 4096
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Return every engine available here, by the name of its row, and the reasons the others are not."""
    found: dict[str, Contender] = {}
    missing: dict[str, str] = {}
    for name in wanted:
        options = EngineOptions(batch_tokens=batch_tokens)
        _try(found, missing, f"Nightshift, {name}", name, model, sample, options)
        if name == registry.TORCH:
            exact = EngineOptions(batch_tokens=batch_tokens, precision="fp32")
            _try(found, missing, f"Nightshift, {FP32}", name, model, sample, exact)
    return found, missing


def _try(
    found: dict[str, Contender],
    missing: dict[str, str],
    row: str,
    name: str,
    model: Path,
    sample: Sequence[str],
    options: EngineOptions,
) -> None:
    try:
        reason = build(name, model, sample)
        if not reason:
            found[row] = opened(name, model, options)
    except (NightshiftError, RuntimeError, ImportError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    if reason:
        missing[row] = reason


def rate_of(row: str) -> str:
    """Return the precision whose matrix rate a row's share of the peak refers to; '' if it uses several."""
    if "cascade" in row:
        return ""
    if "int8" in row:
        return "int8"
    fp32 = "fp32" in row or row.endswith(("batch 32", "one by one"))
    bf16 = devices.resolve_precision("auto", torch.device("cpu")) == "bf16"
    return "bf16" if bf16 and not fp32 else "fp32"
