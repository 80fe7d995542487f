"""Nightshift beside what people usually write, as ratios: `make bench`, or `python -m tests.bench --rounds 5`.

Both sides run in one process on the same reviews, model and threads, in turns (ABAB...), so that a noisy machine hurts
both alike; the figure is the median of the rounds' ratios, with its range. Nothing here is a test: no time is asserted.

scoring    baseline: `transformers.pipeline(..., batch_size=32, truncation=True)` in fp32, texts in the order they come.
training   baseline: the textbook's loop, `Trainer` padding to 512 tokens, attention dropout 0.1, fp32. Such a loop is
           sensitive to the memory allocator, which is the same for both sides and is named in the output.

The packaged MiniLM and the sample reviews are used; `--reviews x/train.parquet` takes others (columns text, label).
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch
import transformers
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    pipeline,
)

from tasks.connectors.hub import PACKAGED, base_model_folder
from tasks.core import modeling, scoring, training
from tasks.core.engine import TorchEngine
from tasks.core.scoring import Review
from tasks.core.tokenization import TokenizationParams
from tasks.core.training import TrainingParams
from tasks.core.training_hooks import SilentListener

SAMPLE = Path(__file__).parents[1] / "tasks" / "sample" / "train.jsonl"
LABELS = ["NEGATIVE", "POSITIVE"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default 5)")
    parser.add_argument("--rows", type=int, default=256, help="reviews to score (default 256)")
    parser.add_argument(
        "--training-rows", type=int, default=64, help="reviews to train on (default 64)"
    )
    parser.add_argument("--reviews", type=Path, default=SAMPLE, help="JSONL or Parquet file")
    parser.add_argument("--only", choices=["scoring", "training"])
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    texts, labels = read(given.reviews, given.rows)
    words = statistics.mean(len(text.split()) for text in texts)
    print(
        f"{len(texts)} reviews of {words:.0f} words on average from {given.reviews.name}; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"bf16 {'in hardware' if modeling.resolve_precision('auto', torch.device('cpu')) == 'bf16' else 'no'}, "
        f"allocator {os.environ.get('LD_PRELOAD') or 'of the C library'}"
    )
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        if given.only != "training":
            results += bench_scoring(texts, given.rounds, Path(folder))
        if given.only != "scoring":
            few = given.training_rows
            results += bench_training(texts[:few], labels[:few], given.rounds, Path(folder))
    print(json.dumps(results, indent=2))


def read(path: Path, rows: int) -> tuple[list[str], list[int]]:
    """The first reviews of each class, in turns."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pylist()
    else:
        table = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    ids = {"0": 0, "1": 1, "NEGATIVE": 0, "POSITIVE": 1}
    found = [(str(r["text"]), ids[str(r["label"])]) for r in table if str(r["label"]) in ids]
    classes = [[f for f in found if f[1] == c][: rows // 2] for c in (0, 1)]
    pairs = [pair for both in zip(*classes, strict=False) for pair in both]
    return [text for text, _ in pairs], [label for _, label in pairs]


def in_turns(
    name: str, sides: dict[str, Callable[[], None]], rounds: int, rows: int
) -> list[dict[str, object]]:
    """Median seconds of each side, and the ratio of the first (the baseline) to every other, round by round."""
    baseline, *others = sides
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, work in sides.items():
            started = time.perf_counter()
            work()
            if number:  # the first round warms up
                seconds[side].append(time.perf_counter() - started)
        print(f"{name}: round {number} of {rounds}", file=sys.stderr)
    results: list[dict[str, object]] = []
    for side in others:
        ratios = sorted(b / o for b, o in zip(seconds[baseline], seconds[side], strict=True))
        results.append(
            {
                "what": name,
                "baseline": baseline,
                "ours": side,
                "times_as_fast": round(statistics.median(ratios), 2),
                "range": [round(ratios[0], 2), round(ratios[-1], 2)],
                "baseline_reviews_per_second": round(
                    rows / statistics.median(seconds[baseline]), 1
                ),
                "our_reviews_per_second": round(rows / statistics.median(seconds[side]), 1),
            }
        )
    return results


def bench_scoring(texts: Sequence[str], rounds: int, folder: Path) -> list[dict[str, object]]:
    """The hot path from texts to predictions, the head untrained: it costs the same."""
    base, _ = base_model_folder(PACKAGED, None)
    torch.manual_seed(0)
    sides: dict[str, Callable[[], None]] = {}
    limits = {
        "same 512 tokens": TokenizationParams(max_length_tokens=512),
        "defaults": TokenizationParams(),
    }
    classifiers = {
        name: modeling.load_for_training(base, LABELS, tokens, 0.0)
        for name, tokens in limits.items()
    }
    modeling.save(classifiers["defaults"], folder / "classifier")
    usual = pipeline(
        "text-classification", model=str(folder / "classifier"), device="cpu", batch_size=32
    )
    usual.tokenizer.model_max_length = 512
    sides["transformers.pipeline, batch_size=32, fp32"] = lambda: (
        usual(list(texts), truncation=True) and None
    )
    for name, classifier in classifiers.items():
        engine = TorchEngine(classifier)
        sides[f"Nightshift, {name}"] = lambda c=classifier, e=engine: score(texts, c, e)
    return in_turns("scoring", sides, rounds, len(texts))


def score(texts: Sequence[str], classifier: modeling.Classifier, engine: TorchEngine) -> None:
    reviews = (Review(n, str(n), text) for n, text in enumerate(texts))
    for _ in scoring.score([reviews], classifier.encoder, engine, window_reviews=1024):
        pass


def bench_training(
    texts: Sequence[str], labels: Sequence[int], rounds: int, folder: Path
) -> list[dict[str, object]]:
    """One epoch from the pretrained weights, tokens made beforehand on both sides."""
    base, _ = base_model_folder(PACKAGED, None)
    padded = AutoTokenizer.from_pretrained(base)(
        list(texts), padding="max_length", truncation=True, max_length=512
    )
    textbook = Dataset.from_dict({**padded, "labels": list(labels)})
    sides: dict[str, Callable[[], None]] = {
        "textbook's Trainer, 512 tokens, fp32": lambda: train_textbook(base, textbook, folder)
    }
    variants = {
        "defaults at 512 tokens": (TokenizationParams(max_length_tokens=512), 0),
        "defaults": (TokenizationParams(), 0),
        "defaults, 3 of 6 layers frozen": (TokenizationParams(), 3),
    }
    for name, (tokenization, frozen) in variants.items():
        ids = modeling.load_for_training(base, LABELS, tokenization, 0.0).encoder.encode(texts)
        data = Dataset.from_dict(
            {
                "input_ids": ids.input_ids,
                "length": [len(row) for row in ids.input_ids],
                "labels": list(labels),
            }
        )
        params = TrainingParams(epochs=1, frozen_layers=frozen, early_stopping_patience=0)
        sides[f"Nightshift, {name}"] = lambda d=data, t=tokenization, p=params: train(
            base, d, t, p, folder
        )
    return in_turns("training, one epoch", sides, rounds, len(texts))


def train_textbook(base: Path, data: Dataset, folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=2, attention_probs_dropout_prob=0.1
    )
    arguments = TrainingArguments(
        output_dir=str(folder / "textbook"), num_train_epochs=1, per_device_train_batch_size=16,
        report_to="none", disable_tqdm=True, save_strategy="no", use_cpu=True, logging_strategy="no",
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def train(
    base: Path,
    data: Dataset,
    tokenization: TokenizationParams,
    params: TrainingParams,
    folder: Path,
) -> None:
    few = data.select(range(8))
    training.fine_tune(
        base, LABELS, data, few, tokenization, params, folder / "ours", SilentListener()
    )


if __name__ == "__main__":
    main()
