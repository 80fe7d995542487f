"""Build and try engines in a separate process, because third-party converters and kernels can kill theirs.

`build_apart` starts it; this module, run with -m, is that process. A failing engine does not end a retraining that took
hours: the engine is left out, and torch scores.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.work_folders import owned_folder
from tasks.core.errors import ModelError, first_line
from tasks.runtime.settings import read_settings

_PROGRAM = "tasks.engines.build"
_LIMIT_SECONDS = 1_800.0  # int8 of a large model takes minutes
_JOB, _OUTCOME, _LOG = "job.json", "outcome.json", "building.log"


def build_apart(name: str, model: Path, sample: Sequence[Sequence[int]]) -> None:
    """Build an engine for a model, open it and score the sample with it, in a separate process that may die.

    Args:
        name: the engine's name; its files go to `<model>/engines/<name>`.
        model: the folder that `classifier.save` wrote.
        sample: token rows, used to calibrate int8 and to score.
    Raises:
        ModelError: it cannot be built for this model, its process died, or its process timed out.
    """
    with owned_folder("engine") as folder:
        job = {"name": name, "model": str(model), "sample": [list(row) for row in sample]}
        (folder / _JOB).write_text(json.dumps(job), encoding="utf-8")
        child = ChildProcess(
            f"The builder of {name}",
            [sys.executable, "-m", _PROGRAM, str(folder)],
            read_settings().environment_without_keys,
            folder / _LOG,
        )
        ends = time.monotonic() + _LIMIT_SECONDS
        try:
            while child.running() and time.monotonic() < ends:
                time.sleep(0.05)
            timed_out = child.running()
        finally:
            child.stop()
        if timed_out:
            raise ModelError(
                f"Building and trying the engine took longer than {_LIMIT_SECONDS / 60:g} minutes",
                name,
                "leave it out of engines.candidates; another engine scores the model",
            )
        outcome = folder / _OUTCOME
        if not outcome.is_file():
            raise ModelError(
                f"The process that builds and tries the engine died: {_last_words(folder / _LOG)}",
                name,
                "report it to the engine's project; another engine scores the model",
            )
        result = json.loads(outcome.read_text(encoding="utf-8"))
        if result["problem"]:
            raise ModelError(result["problem"], name, "choose another engine for this model")


def _last_words(log: Path) -> str:
    lines = [
        line
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    fatal = [line for line in lines if line.startswith("Fatal Python error")]
    return (fatal or lines[-1:] or ["no output"])[0]


def build_job(folder: Path) -> None:
    """Run the job of a folder in the child process. Report exceptions; a killed process reports nothing."""
    import faulthandler

    from tasks.core.engines import registry
    from tasks.core.engines.protocol import EngineOptions
    from tasks.core.models import classifier

    faulthandler.enable()
    job: dict[str, Any] = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    name, model, sample = job["name"], Path(job["model"]), job["sample"]
    engine_folder = model / registry.FOLDER / name
    engine_folder.mkdir(parents=True)
    try:
        registry.require(name).build(classifier.load(model), engine_folder, sample)
        options = EngineOptions(device="cpu")
        registry.open_engine(name, classifier.load(model), model, options).logits(sample[:8])
        problem = ""
    except Exception as error:  # converters raise anything for an architecture they do not know
        problem = first_line(error)
    (folder / _OUTCOME).write_text(json.dumps({"problem": problem}), encoding="utf-8")


if __name__ == "__main__":
    build_job(Path(sys.argv[1]))
