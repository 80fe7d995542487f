"""Measure one GPU with core alone: no Prefect, no S3, no MLflow, so that a bare GPU machine can run it.

    python -m benchmarks.speed.gpu --shape bert-base --rows 8192
    python -m benchmarks.speed.gpu --quick                        on any machine: check that it runs

It needs torch, transformers and pydantic; training also datasets, accelerate and scipy, and is reported as missing
without them. Scoring: reviews/s beside `transformers.pipeline` on the same card, the share of the rate that a large
matrix product reaches there, and the largest memory. Training: one epoch of the textbook's `Trainer` and of
Nightshift's defaults. Weights may be random (`--shape`): speed does not depend on them, and predictions are compared
with fp32's anyway.
"""

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.speed import data, flops, machine, results, shapes, tables, turns
from tasks.core.data.params import TokenizationParams
from tasks.core.engines.protocol import EngineOptions, softmax
from tasks.core.engines.registry import TORCH, open_engine
from tasks.core.models import classifier as modeling
from tasks.core.models import folders
from tasks.core.models.base_model import trial

_SCORING = ("torch", "transformers", "pydantic", "safetensors", "numpy")
_TRAINING = ("datasets", "accelerate", "scipy")
_BASELINE = "transformers.pipeline, batch 32, fp32"
_BUDGETS = (16_384, 65_536)  # tokens per batch
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and save."""
    given = _parser().parse_args(arguments)
    print(needs())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if given.quick:
        given.rows, given.training_rows, given.rounds, given.shape = 16, 8, 1, "tiny"
    with tempfile.TemporaryDirectory() as work:
        found = measure(given, Path(work))
    folder = given.out or (results.QUICK if given.quick else results.FOLDER)
    path = results.write(found, folder)
    print(tables.markdown(found))
    print(f"-> {path}", file=sys.stderr)


def needs() -> str:
    """Return the missing packages, and all that are needed."""
    gone = [name for name in (*_SCORING, *_TRAINING) if importlib.util.find_spec(name) is None]
    told = f"Scoring needs {', '.join(_SCORING)}; training also {', '.join(_TRAINING)}."
    return f"{told} Not installed here: {', '.join(gone) or 'none of them is missing'}."


def measure(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Measure everything; return the result to be saved."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reviews = data.read("test", given.imdb, given.rows)
    if reviews.source == "sample":
        reviews = data.as_long_as_imdb(reviews, given.rows)
    base = given.model or shapes.make(given.shape, reviews.texts, work / "base")
    peaks = machine.peaks(device, given.quick)
    rows, settings = _score(given, base, reviews, device, peaks, work)
    missing: dict[str, str] = {}
    if device == "cpu":
        missing["a GPU"] = "none is here, so that these are figures of the CPU"
    absent = [name for name in _TRAINING if importlib.util.find_spec(name) is None]
    if absent:
        missing["training"] = f"{', '.join(absent)} not installed"
    else:
        rows += _train(given, base, reviews.first(given.training_rows), device, peaks, work)
    for row in rows:
        spent = given.price_an_hour / 3600 * 1e6 / row["reviews_per_second"]
        row["cost_of_a_million"] = round(spent, 4)
    asked = {
        "rows": len(reviews.texts),
        "training_rows": given.training_rows,
        "rounds": given.rounds,
        "reviews": reviews.source,
        "model": str(given.model.name) if given.model else f"{given.shape}, random weights",
        "price_an_hour": given.price_an_hour,
        "label": given.label,
    }
    return results.result("gpu", asked | settings, rows, missing, peaks)


def _score(
    given: argparse.Namespace,
    base: Path,
    reviews: data.Reviews,
    device: str,
    peaks: dict[str, float],
    work: Path,
) -> tuple[list[Row], dict[str, Any]]:
    torch.manual_seed(0)
    longest = trial.longest_input(base, 512)
    book = TokenizationParams(max_length_tokens=longest, truncation="head", strip_markup=False)
    folder = work / "classifier"
    modeling.save(modeling.load_for_training(base, data.LABELS, book, 0.0), folder)
    made: dict[str, Callable[[], Any]] = {
        _BASELINE: _pipeline(folder, reviews.texts, device, torch.float32, longest)
    }
    if "bf16" in peaks:
        half = "transformers.pipeline, batch 32, bf16"
        made[half] = _pipeline(folder, reviews.texts, device, torch.bfloat16, longest)
    lengths: list[int] = []
    for budget in _BUDGETS:
        classifier = modeling.load(folder)
        encoder = classifier.encoder
        engine = open_engine(TORCH, classifier, folder, EngineOptions(batch_tokens=budget))
        ids = encoder.encode(reviews.texts).input_ids
        lengths = [len(row) for row in ids]
        name = f"Nightshift, {budget:,} tokens a batch"
        made[name] = lambda e=encoder, g=engine: softmax(
            g.logits(e.encode(reviews.texts).input_ids)
        )
        made[f"{name}, tokens made beforehand"] = lambda g=engine, i=ids: softmax(g.logits(i))
    answers, memory = _first_round(made, device)
    seconds = turns.seconds_in_turns("scoring", _sides(made), given.rounds)
    config = folders.read_config(folder)
    work_done = flops.needed(config, lengths)
    exact = answers[_BASELINE]
    rows = [
        {
            "task": "scoring",
            "name": name,
            **turns.figures(seconds, name, _BASELINE, len(lengths)),
            **_share(peaks, name, work_done, seconds[name]),
            "memory_gb": memory[name],
            "agreement": float((answers[name].argmax(1) == exact.argmax(1)).mean()),
            "largest_change": round(float(np.abs(answers[name] - exact).max()), 4),
        }
        for name in made
    ]
    return rows, {"tokens": float(np.mean(lengths)), "gflop_a_review": work_done / len(lengths)}


def _pipeline(
    folder: Path, texts: Sequence[str], device: str, dtype: torch.dtype, longest: int
) -> Callable[[], Any]:
    usual = transformers.pipeline(
        "text-classification", model=str(folder), device=device, dtype=dtype, top_k=None
    )
    usual.tokenizer.model_max_length = longest
    ids = usual.model.config.label2id

    def score() -> Any:
        told = usual(list(texts), truncation=True, batch_size=32)
        found = np.empty((len(texts), len(ids)))
        for row, answer in enumerate(told):
            for entry in answer:
                found[row, ids[entry["label"]]] = entry["score"]
        return found

    return score


def _first_round(
    made: dict[str, Callable[[], Any]], device: str
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return each side's predictions, and its largest memory beyond that of all the models, in GB; 0 on a CPU."""
    answers: dict[str, Any] = {}
    memory: dict[str, float] = {}
    for name, work in made.items():
        before = _start_watching(device)
        answers[name] = work()
        memory[name] = _watched(device, before)
    return answers, memory


def _start_watching(device: str) -> int:
    if device != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _watched(device: str, before: int) -> float:
    return round((torch.cuda.max_memory_allocated() - before) / 1e9, 3) if device == "cuda" else 0.0


def _sides(made: dict[str, Callable[[], Any]]) -> dict[str, turns.Side]:
    def timed(work: Callable[[], Any]) -> turns.Side:
        def side() -> None:
            work()  # its results are on the CPU at the end, so the GPU has finished

        return side

    return {name: timed(work) for name, work in made.items()}


def _share(
    peaks: dict[str, float], name: str, gflop: float, seconds: Sequence[float]
) -> dict[str, Any]:
    rate = "fp32" if name.endswith("fp32") else "bf16"
    if rate not in peaks:
        return {}
    reached = gflop / float(np.median(seconds))
    return {"peak_of": rate, "share_of_peak": round(reached / peaks[rate], 3)}


def _train(
    given: argparse.Namespace,
    base: Path,
    reviews: data.Reviews,
    device: str,
    peaks: dict[str, float],
    work: Path,
) -> list[Row]:
    from benchmarks.speed import trainings

    longest = trial.longest_input(base, 512)
    wanted = (trainings.TEXTBOOK, "+ lengths grouped", trainings.DEFAULTS)
    ladder = [recipe for recipe in trainings.recipes(longest) if recipe.name in wanted]
    ready = {r.name: trainings.prepared(r, base, reviews, reviews.first(8)) for r in ladder}
    sides: dict[str, Callable[[], Any]] = {
        name: (lambda p=p: trainings.run(p, work / "training")) for name, p in ready.items()
    }
    memory: dict[str, float] = {}
    for name, run in sides.items():
        before = _start_watching(device)
        run()
        memory[name] = _watched(device, before)
    seconds = turns.seconds_in_turns("training", _sides(sides), given.rounds, warm_ups=0)
    config = folders.read_config(base)
    return [
        {
            "task": "training, one epoch",
            "name": name,
            **turns.figures(seconds, name, trainings.TEXTBOOK, len(reviews.texts)),
            **_share(
                peaks,
                "fp32" if prepared.recipe.ours is None else name,
                3 * flops.needed(config, list(prepared.train["length"]), last_layer_whole=True),
                seconds[name],
            ),
            "memory_gb": memory[name],
        }
        for name, prepared in ready.items()
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.gpu", description=needs())
    add = parser.add_argument
    add("--quick", action="store_true", help="tiny sizes: that it runs, not how fast")
    add("--shape", choices=sorted(shapes.SHAPES), default="bert-base", help="random weights")
    add("--model", type=Path, help="a base model's folder, in place of a shape")
    add("--rows", type=int, default=8192, help="reviews to score")
    add("--training-rows", type=int, default=2048, help="reviews to train on")
    add("--rounds", type=int, default=5, help="rounds that count")
    add("--imdb", type=Path, help="folder with IMDb's Parquet files (wants pyarrow)")
    add("--price-an-hour", type=float, default=3.0, help="of the machine, for the cost")
    add("--label", default="", help="to keep beside others, such as h100")
    add("--out", type=Path, help="where the result goes (docs/bench)")
    return parser


if __name__ == "__main__":
    main()
