"""Accuracy after the same reviews: the textbook's training and Nightshift's, several seeds, beside linear models.

    python -m tests.bench accuracy --train-sizes 4000 25000 --seeds 3 --epochs 2 --also best=best.json

Each training is written down when it is over, so that a run that was stopped goes on where it was. `--also` takes a
file with {"training": {...}, "tokenization": {...}, "epochs": ...}, as in the form of `retrain`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.connectors.hub import base_model_folder
from tasks.core import model_folders, modeling
from tasks.core.comparison import Pair
from tasks.core.digests import digest_of
from tasks.core.engine import EngineOptions
from tasks.core.engines import TORCH, open_engine
from tasks.core.tokenization import TokenizationParams
from tests.bench import data, linear, machine, results, trainings
from tests.bench.contenders import Contender
from tests.bench.trainings import DEFAULTS, TEXTBOOK, Recipe

_NAMES = (TEXTBOOK, DEFAULTS)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole of it, as it is written down."""
    base, revision = base_model_folder(given.base, None)
    longest = min(512, model_folders.longest_input(base) or 512)
    ladder = [recipe for recipe in trainings.recipes(longest) if recipe.name in _NAMES]
    ladder = ladder[:1] * given.textbook + ladder[1:]
    ladder += [also(name, path) for name, path in given.also]
    test = data.read("test", given.imdb, given.judged_rows)
    truth = np.array(test.labels)
    rows: list[dict[str, Any]] = []
    for size in given.train_sizes:
        train = data.read("train", given.imdb, size)
        right = {
            recipe.name: [_one(recipe, base, revision, train, test, seed, given) for seed in range(given.seeds)]
            for recipe in ladder
        }  # fmt: skip
        textbook = right.get(TEXTBOOK, [])
        rows += [_row(name, size, told, textbook) for name, told in right.items()]
        for name, (predict, seconds) in linear.fitted(train).items():
            correct = (predict(test.texts) == truth).tolist()
            told = [{"correct": correct, "seconds": seconds}]
            rows.append(_row(name, size, told, textbook))
    settings = {
        "judged_rows": len(truth),
        "seeds": given.seeds,
        "epochs": given.epochs,
        "reviews": test.source,
        "label": given.label,
    }
    return results.result("accuracy", settings, rows, {})


def also(name: str, path: Path) -> Recipe:
    """A recipe from a file of settings."""
    told = json.loads(path.read_text(encoding="utf-8"))
    tokens = TokenizationParams.model_validate(told.get("tokenization", {}))
    epochs = {"epochs": told["epochs"]} if "epochs" in told else {}
    return Recipe(name, tokens, told.get("training", {}) | epochs)


def _one(
    recipe: Recipe,
    base: Path,
    revision: str,
    train: data.Reviews,
    test: data.Reviews,
    seed: int,
    given: argparse.Namespace,
) -> dict[str, Any]:
    """Train once, keep the model, and answer the test set; or what is written down of that."""
    facts = {
        "recipe": recipe.settings(), "base": f"{revision} {base.name}", "rows": len(train.texts),
        "test": len(test.texts), "source": train.source, "seed": seed, "epochs": given.epochs,
        "threads": torch.get_num_threads(), "allocator": machine.allocator(),
    }  # fmt: skip
    place = given.home / "accuracy" / f"{digest_of(facts)[:24]}.json"
    if place.exists():
        return json.loads(place.read_text(encoding="utf-8"))
    ready = trainings.prepared(recipe, base, train, test.first(64))
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        classifier = trainings.run(ready, Path(name), given.epochs, seed)
        seconds = time.perf_counter() - started
        modeling.save(classifier, place.with_suffix(""))  # for `price-list --model-of`
        engine = open_engine(TORCH, classifier, Path(name), EngineOptions())
        answers = Contender(classifier.encoder, engine).answers(test.texts).argmax(axis=1)
    told = {"correct": (answers == np.array(test.labels)).tolist(), "seconds": seconds}
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(facts | told), encoding="utf-8")
    share = float(np.mean(told["correct"]))
    told_of = f"{recipe.name}, {len(train.texts):,} reviews, seed {seed}"
    print(f"{told_of}: {share:.4f} in {seconds:.0f} s", file=sys.stderr, flush=True)
    return told


def _row(
    name: str, size: int, told: Sequence[dict[str, Any]], textbook: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Mean over seeds, and how each seed does beside the textbook's of the same seed, where that was trained."""
    found = [np.array(one["correct"]) for one in told]
    pairs = [
        Pair.of(found[seed % len(found)], np.array(one["correct"]))
        for seed, one in enumerate(textbook)
    ]
    return {
        "name": name,
        "training_rows": size,
        "accuracy": round(statistics.mean(float(one.mean()) for one in found), 4),
        "seeds": [round(float(one.mean()), 4) for one in found],
        "seconds": round(statistics.median(one["seconds"] for one in told), 1),
        "difference": round(statistics.mean(p.difference for p in pairs), 4) if pairs else None,
        "mcnemar_p": [round(pair.mcnemar(), 4) for pair in pairs],
    }
