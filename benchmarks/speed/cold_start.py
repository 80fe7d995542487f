"""Cold start: the time from the start of a process to its first prediction, by step.

    python -m benchmarks.speed cold-start --rounds 5

A fresh process each time, in turns: one for each engine, which fetches the model from an S3 server of its own on this
machine, and `transformers.pipeline` on a folder. Files are in the page cache, as on a machine that has scored before.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import contenders, data, peers, results, subject
from benchmarks.speed.first_prediction import TEXT

_PIPELINE = f"""
import time; begun = time.time()
import json, sys
seconds = {{"interpreter": begun - float(sys.argv[1])}}
from transformers import pipeline
now = time.time(); seconds["import transformers"] = now - begun
usual = pipeline("text-classification", model=sys.argv[2], device="cpu")
loaded = time.time(); seconds["load"] = loaded - now
usual({TEXT!r}, truncation=True)
seconds["first prediction"] = time.time() - loaded
print(json.dumps(seconds))
"""
PIPELINE = "transformers.pipeline, from a folder"


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the result to be saved."""
    from benchmarks.nights import a_store

    model = given.model or subject.of(given)
    sample = data.read("train", given.imdb, given.sample_rows, seed=1).texts
    python = peers.environment(given.peers)
    missing = {} if python else {PIPELINE: "there is no environment with the peers"}
    with a_store() as store:
        commands: dict[str, list[str]] = {}
        for name in given.engines or contenders.WANTED:
            row = f"Nightshift, {name}"
            if reason := contenders.build(name, model, sample):
                missing[row] = reason
                continue
            uri = f"s3://nightshift/cold/{name}/"
            for path in _files_for(name, model):
                store.upload(path, f"{uri}{path.relative_to(model).as_posix()}")
            commands[row] = [
                sys.executable,
                "-m",
                "benchmarks.speed.first_prediction",
                "{}",
                name,
                uri,
            ]
        if python:
            commands[PIPELINE] = [str(python), "-c", _PIPELINE, "{}", str(model)]
        laps: dict[str, list[dict[str, float]]] = {}
        for (
            name,
            command,
        ) in commands.items():  # one run to fill the page cache, and to check that it works
            try:
                _first(command)
                laps[name] = []
            except RuntimeError as error:
                missing[name] = str(error)
        for _ in range(given.rounds):
            for name, told in laps.items():
                told.append(_first(commands[name]))
    rows = [_row(name, told) for name, told in laps.items()]
    settings = {"rounds": given.rounds, "label": given.label, "model": _megabytes(model)}
    return results.result("cold-start", settings, rows, missing)


def _files_for(engine: str, model: Path) -> list[Path]:
    """Return the model's own files and those of one engine."""
    of_others = [p for p in (model / "engines").glob("*") if p.name not in _used(engine)]
    files = [p for p in model.rglob("*") if p.is_file()]
    return [p for p in files if not any(p.is_relative_to(other) for other in of_others)]


def _used(engine: str) -> Sequence[str]:
    """Return the engines that an engine uses: a cascade opens others."""
    return contenders.WANTED if engine.startswith("cascade") else [engine]


def _first(command: Sequence[str]) -> dict[str, float]:
    started = time.time()
    filled = [part.replace("{}", repr(started)) if part == "{}" else part for part in command]
    done = subprocess.run(filled, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def _row(name: str, told: Sequence[dict[str, float]]) -> dict[str, Any]:
    steps = {step: statistics.median(one[step] for one in told) for step in told[0]}
    return {
        "name": name,
        "seconds": round(statistics.median(sum(one.values()) for one in told), 2),
        "steps": {step: round(seconds, 3) for step, seconds in steps.items()},
    }


def _megabytes(model: Path) -> str:
    size = sum(p.stat().st_size for p in model.glob("*") if p.is_file())
    return f"{size / 1e6:.0f} MB"
