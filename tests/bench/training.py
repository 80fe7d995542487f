"""Training, side by side: one epoch from the pretrained weights, the textbook's `Trainer` first.

    python -m tests.bench training --training-rows 128 --rounds 3
    LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4 python -m tests.bench training --label tcmalloc

All run in this process, as all are transformers' `Trainer`, of the same version: what differs is what is set. The
textbook depends on the memory allocator, so that each result names the one it had.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tasks.connectors.hub import base_model_folder
from tasks.core import modeling
from tests.bench import data, flops, machine, results, trainings, turns
from tests.bench.trainings import TEXTBOOK, Prepared


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The whole of it, as it is written down."""
    base, _ = base_model_folder(given.base, None)
    longest = modeling.longest_input(base) or 512
    reviews = data.read("train", given.imdb, given.training_rows)
    few = reviews.first(8)
    ready = {
        recipe.name: trainings.prepared(recipe, base, reviews, few)
        for recipe in trainings.recipes(min(512, longest))
    }
    with tempfile.TemporaryDirectory() as name:
        sides: dict[str, turns.Side] = {
            side: _timed(prepared, Path(name)) for side, prepared in ready.items()
        }
        seconds = turns.seconds_in_turns("training", sides, given.rounds)
    peaks = machine.peaks(quick=given.quick)
    rows = [
        {
            "name": side,
            **turns.figures(seconds, side, TEXTBOOK, len(reviews.texts)),
            **_share(ready[side], peaks, float(np.median(seconds[side]))),
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


def _timed(prepared: Prepared, folder: Path) -> turns.Side:
    def work() -> None:
        trainings.run(prepared, folder / "work")
        shutil.rmtree(folder / "work", ignore_errors=True)

    return work


def _share(prepared: Prepared, peaks: dict[str, float], seconds: float) -> dict[str, Any]:
    """Of the matrix rate: forward, and twice that backward (a little less where layers are frozen)."""
    ours = prepared.recipe.ours
    auto = modeling.resolve_precision("auto", modeling.resolve_device("auto"))
    rate = "fp32" if ours is None or ours.get("precision") == "fp32" else auto
    frozen = bool(ours and ours.get("frozen_layers"))
    if rate not in peaks or frozen:
        return {}
    lengths = list(prepared.train["length"])  # before padding
    config = modeling.read_config(prepared.base)
    work = 3 * flops.needed(config, lengths, last_layer_whole=True)
    return {"peak_of": rate, "share_of_peak": round(work / seconds / peaks[rate], 3)}
