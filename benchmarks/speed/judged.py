"""Trainings to be compared by their predictions. Each is saved when it ends, so an interrupted benchmark can resume."""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed import data, machine, trainings
from benchmarks.speed.contenders import Contender
from benchmarks.speed.trainings import Recipe
from tasks.core.digests import digest_of
from tasks.core.engines.protocol import EngineOptions
from tasks.core.engines.registry import TORCH, open_engine
from tasks.core.evaluation.comparison import Pair
from tasks.core.models import classifier as modeling

Told = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """Trainings on the same reviews, whose predictions for the same other reviews are compared."""

    base: Path  # the pretrained model
    revision: str
    train: data.Reviews
    test: data.Reviews
    epochs: int
    home: Path  # where results are saved
    keep_models: bool = False  # with the results

    def trained(self, recipe: Recipe, seed: int) -> Told:
        """Train once and predict, or load the saved result: which predictions are `correct`, and `seconds`."""
        facts = {
            "recipe": recipe.settings(), "base": f"{self.revision} {self.base.name}", "rows": len(self.train.texts),
            "test": len(self.test.texts), "source": self.train.source, "seed": seed, "epochs": self.epochs,
            "threads": torch.get_num_threads(), "allocator": machine.allocator(),
        }  # fmt: skip
        place = self.home / f"{digest_of(facts)[:24]}.json"
        if place.exists():
            return json.loads(place.read_text(encoding="utf-8"))
        ready = trainings.prepared(recipe, self.base, self.train, self.test.first(64))
        with tempfile.TemporaryDirectory() as name:
            started = time.perf_counter()
            classifier = trainings.run(ready, Path(name), self.epochs, seed)
            seconds = time.perf_counter() - started
            if self.keep_models:
                modeling.save(classifier, place.with_suffix(""))  # for `price-list --model-of`
            engine = open_engine(TORCH, classifier, Path(name), EngineOptions())
            answers = Contender(classifier.encoder, engine).answers(self.test.texts).argmax(axis=1)
        told = {"correct": (answers == np.array(self.test.labels)).tolist(), "seconds": seconds}
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(facts | told), encoding="utf-8")
        share = float(np.mean(told["correct"]))
        told_of = f"{recipe.name}, {len(self.train.texts):,} reviews, seed {seed}"
        print(f"{told_of}: {share:.4f} in {seconds:.0f} s", file=sys.stderr, flush=True)
        return told


def row_of(name: str, size: int, told: Sequence[Told], baseline: Sequence[Told]) -> dict[str, Any]:
    """Return the mean over seeds, and each seed compared with the baseline of the same seed, if that was trained."""
    found = [np.array(one["correct"]) for one in told]
    pairs = [
        Pair.of(found[seed % len(found)], np.array(one["correct"]))
        for seed, one in enumerate(baseline)
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
