"""Measure training side by side: one epoch from the pretrained weights, the textbook's `Trainer` first.

    python -m benchmarks.speed training --training-rows 128 --rounds 3
    LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4 python -m benchmarks.speed training --label tcmalloc

All run in this process, because all use the same version of transformers' `Trainer` and differ only in settings. The
textbook's speed depends on the memory allocator, so each result names the one it used.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import data, flops, machine, results, trainings, turns
from benchmarks.speed.trainings import TEXTBOOK, Prepared
from tasks.connectors.model_hub import base_model_folder
from tasks.core.models import devices, folders
from tasks.core.models.base_model import trial


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the result to be saved."""
    base, _ = base_model_folder(given.base, None)
    longest = trial.longest_input(base, 512)
    recipes = [
        recipe
        for recipe in trainings.recipes(min(512, longest))
        if recipe.name == TEXTBOOK or not given.trainings or recipe.name in given.trainings
    ]
    most = given.training_rows * max(recipe.times for recipe in recipes)
    everything = data.read("train", given.imdb, most)
    reviews, few = everything.first(given.training_rows), everything.first(8)
    ready = {
        recipe.name: trainings.prepared(
            recipe, base, everything.first(given.training_rows * recipe.times), few
        )
        for recipe in recipes
    }
    with tempfile.TemporaryDirectory() as name:
        sides: dict[str, turns.Side] = {
            side: _timed(prepared, Path(name), len(reviews.texts))
            for side, prepared in ready.items()
        }
        seconds = turns.seconds_in_turns("training", sides, given.rounds)
    peaks = machine.peaks(quick=given.quick)
    rows = [
        {
            "name": side,
            **turns.figures(seconds, side, TEXTBOOK, len(reviews.texts)),
            "timed_on": len(ready[side].train),
            **_share(ready[side], peaks, len(reviews.texts) / float(np.median(seconds[side]))),
        }
        for side in sides
    ]
    settings = {
        "rows": len(reviews.texts),
        "rounds": given.rounds,
        "reviews": f"{reviews.source}, training set",
        "base": given.base,
        "label": given.label,
    }
    return results.result("training", settings, rows, {}, peaks)


def _timed(prepared: Prepared, folder: Path, rows: int) -> turns.Side:
    """Return a side that trains on at least `rows` reviews, and scales its seconds to that number."""

    def work() -> float:
        started = time.perf_counter()
        trainings.run(prepared, folder / "work")
        spent = time.perf_counter() - started
        shutil.rmtree(folder / "work", ignore_errors=True)
        return spent * rows / len(prepared.train)

    return work


def _share(prepared: Prepared, peaks: dict[str, float], speed: float) -> dict[str, Any]:
    """Return the share of the matrix rate: forward, and twice that backward (a little less with frozen layers)."""
    ours = prepared.recipe.ours
    auto = devices.resolve_precision("auto", devices.resolve_device("auto"))
    rate = "fp32" if ours is None or ours.get("precision") == "fp32" else auto
    frozen = bool(ours and ours.get("frozen_layers"))
    if rate not in peaks or frozen:
        return {}
    lengths = list(prepared.train["length"])  # before padding
    config = folders.read_config(prepared.base)
    work = 3 * flops.needed(config, lengths, last_layer_whole=True)
    reached = work / len(lengths) * speed
    return {"peak_of": rate, "share_of_peak": round(reached / peaks[rate], 3)}
