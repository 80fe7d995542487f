"""Measure accuracy on the same reviews: the textbook's training, Nightshift's, and linear models, with several seeds.

    python -m benchmarks.speed accuracy --train-sizes 4000 25000 --seeds 3 --epochs 2 --recipes best \
        --also mine=mine.json

Each training is saved when it ends, so that an interrupted benchmark can resume. `--recipes` are those of the form,
without their limits of rows; `--also` takes a file with {"training": {...}, "tokenization": {...},
"epochs": ...}, as in the form of `retrain`.
"""

import argparse
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.speed import data, linear, results, trainings
from benchmarks.speed.judged import Judged, row_of
from benchmarks.speed.trainings import DEFAULTS, TEXTBOOK, Recipe
from flows.forms.recipes import RECIPES
from tasks.connectors.model_hub import base_model_folder
from tasks.core.data.params import TokenizationParams
from tasks.core.models.base_model import trial

_NAMES = (TEXTBOOK, DEFAULTS)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the result to be saved."""
    base, revision = base_model_folder(given.base, None)
    longest = trial.longest_input(base, 512)
    ladder = [recipe for recipe in trainings.recipes(longest) if recipe.name in _NAMES]
    ladder = ladder[:1] * given.textbook + ladder[1:]
    ladder += [way_of(f"recipe {name}", RECIPES[name]) for name in given.recipes]
    ladder += [way_of(name, json.loads(path.read_text("utf-8"))) for name, path in given.also]
    test = data.read("test", given.imdb, given.judged_rows)
    truth = np.array(test.labels)
    rows: list[dict[str, Any]] = []
    for size in given.train_sizes:
        train = data.read("train", given.imdb, size)
        trials = Judged(base, revision, train, test, given.epochs, given.home / "accuracy", True)
        right = {
            recipe.name: [trials.trained(recipe, seed) for seed in range(given.seeds)]
            for recipe in ladder
        }  # fmt: skip
        textbook = right.get(TEXTBOOK, [])
        rows += [row_of(name, size, told, textbook) for name, told in right.items()]
        for name, (predict, seconds) in linear.fitted(train).items():
            correct = (predict(test.texts) == truth).tolist()
            told = [{"correct": correct, "seconds": seconds}]
            rows.append(row_of(name, size, told, textbook))
    settings = {
        "judged_rows": len(truth),
        "seeds": given.seeds,
        "epochs": given.epochs,
        "reviews": test.source,
        "label": given.label,
    }
    return results.result("accuracy", settings, rows, {})


def way_of(name: str, told: Mapping[str, Any]) -> Recipe:
    """Make a recipe from groups of the form."""
    tokens = TokenizationParams.model_validate(told.get("tokenization", {}))
    epochs = {"epochs": told["epochs"]} if "epochs" in told else {}
    return Recipe(name, tokens, told.get("training", {}) | epochs)
