"""Compare the defaults of rate, schedule and dropout with other values: one setting at a time, several seeds.

    python -m benchmarks.speed sweep --train-sizes 2000 --epochs 2 --seeds 2 --trainings "rate 5e-5" "rate 2e-4"

Evaluated on training reviews that no row was trained on: the test set has no part in the choice. Each training is
saved when it ends, so that an interrupted benchmark can resume.
"""

import argparse
from typing import Any

from benchmarks.speed import data, results, trainings
from benchmarks.speed.judged import Judged, row_of
from benchmarks.speed.trainings import DEFAULTS, Recipe
from tasks.connectors.model_hub import base_model_folder
from tasks.core.models.base_model import trial

#: The settings that differ from the defaults, by the name of the row.
_OTHERWISE: dict[str, dict[str, Any]] = {
    "rate 5e-5": {"learning_rate": 5e-5},
    "rate 2e-4": {"learning_rate": 2e-4},
    "rate 4e-4": {"learning_rate": 4e-4},
    "cosine": {"lr_scheduler_type": "cosine"},
    "constant": {"lr_scheduler_type": "constant"},
    "no warm-up": {"warmup_ratio": 0.0},
    "batches of 32 at 2e-4": {"batch_size": 32, "learning_rate": 2e-4},
    "layer decay 0.9": {"layerwise_lr_decay": 0.9},
    "layer decay 0.9 at 2e-4": {"layerwise_lr_decay": 0.9, "learning_rate": 2e-4},
    "all dropout 0": {"hidden_dropout": 0.0},
    "attention dropout 0.1": {"attention_dropout": 0.1},
}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the result to be saved."""
    base, revision = base_model_folder(given.base, None)
    longest = trial.longest_input(base, 512)
    defaults = next(recipe for recipe in trainings.recipes(longest) if recipe.name == DEFAULTS)
    ways = [defaults] + [
        Recipe(name, defaults.tokenization, settings)
        for name, settings in _OTHERWISE.items()
        if not given.trainings or name in given.trainings
    ]
    if unknown := set(given.trainings) - set(_OTHERWISE):
        raise SystemExit(f"No such row: {', '.join(unknown)}; there are {', '.join(_OTHERWISE)}")
    largest = max(given.train_sizes)
    reviews = data.read("train", given.imdb, largest + given.judged_rows)
    others = reviews.after(largest)  # the same reviews for all sizes, in no training set
    if not others.texts:
        raise SystemExit(f"{len(reviews.texts)} training reviews: fewer are to be trained on")
    rows: list[dict[str, Any]] = []
    for size in given.train_sizes:
        train = reviews.first(size)
        trials = Judged(base, revision, train, others, given.epochs, given.home / "sweep")
        told = {way.name: [] for way in ways}
        # Complete one seed first, so that an interrupted run has compared all.
        for seed in range(given.seeds):
            for way in ways:
                told[way.name].append(trials.trained(way, seed))
        rows += [row_of(name, size, found, told[DEFAULTS]) for name, found in told.items()]
    settings = {
        "judged_rows": len(others.texts),
        "seeds": given.seeds,
        "epochs": given.epochs,
        "reviews": f"{reviews.source}, training set",
        "label": given.label,
    }
    return results.result("sweep", settings, rows, {})
