"""Measure the service's overhead: from pressing Run to the first training step, and relative to the bare training call.

    python -m benchmarks.overhead --rounds 3

Each round trains MiniLM on the sample reviews twice: as a person does it (Run on `retrain`, training on the pool `gpu`,
checkpoints kept), and by core's `fine_tune` alone, in a process of its own, on the same prepared data with the same
parameters. The ratio compares the wall-clock times of the two trainings, each including loading and saving the model.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.demo import demo_parameters
from tasks.connectors.storage.artifacts import PreparedStore
from tasks.core.training.records import BaseModelSummary, TokensSummary
from tasks.training.progress import BEGUN
from tests.paths import ROOT
from tests.service.stack import Service

_BARE = """
import json, sys, time
from pathlib import Path
started = time.perf_counter()
from tasks.core.models import classifier
from tasks.core.training.records import TokensSummary
from benchmarks.deaths import bare_fine_tune
folder = Path(sys.argv[1])
imported = time.perf_counter()
params = json.loads((folder / "params.json").read_text())
tokens = TokensSummary.model_validate_json((folder / "tokens.json").read_text())
trained = bare_fine_tune(folder, tokens, params)
classifier.save(trained.classifier, folder / "model")
print("SECONDS", time.perf_counter() - imported, trained.facts["seconds"])
"""


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds between two times as Prefect's API writes them."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def as_a_person(service: Service, params: dict[str, Any]) -> dict[str, Any]:
    """Press Run; return the measurements."""
    pressed = time.time()
    parent = service.press_run("retrain/retrain", params)
    assert service.until(parent, seconds=900) == "COMPLETED", service.log(parent)[-3:]
    (child,) = service.children(parent)
    question = {
        "logs": {"flow_run_id": {"any_": [child["id"]]}},
        "sort": "TIMESTAMP_ASC",
        "limit": 200,
    }
    lines = service.api("logs/filter", question)
    began = next(line["timestamp"] for line in lines if line["message"].startswith(BEGUN))
    done = next(line["timestamp"] for line in lines if "Trained " in line["message"])
    return {
        "to first step": datetime.fromisoformat(began).timestamp() - pressed,
        "training": seconds_between(child["start_time"], done),
        "all": seconds_between(service.run(parent)["start_time"], service.run(parent)["end_time"]),
        "child": child,
    }


def bare(service: Service, child: dict[str, Any], params: dict[str, Any]) -> float:
    """Run the same training without any service; return its seconds."""
    prepared = PreparedStore(service.store(), "nightshift")
    given = service.run(child["id"])["parameters"]["params"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = prepared.reference(given["tokens"], TokensSummary)
        base = prepared.reference(given["base_model"], BaseModelSummary)
        prepared.fetch(tokens.uri, folder / "tokens")
        prepared.fetch(base.uri, folder / "base")
        (folder / "tokens.json").write_text(tokens.summary.model_dump_json())
        both = {"tokenization": given["tokenization"], "training": given["training"]}
        (folder / "params.json").write_text(json.dumps(both))
        done = subprocess.run(
            [sys.executable, "-c", _BARE, name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    (line,) = (x for x in done.stdout.splitlines() if x.startswith("SECONDS"))
    return float(line.split()[1])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows: list[tuple[float, float, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="nightshift-overhead-") as name:
        service = Service(Path(name) / "home")
        print(service.up())
        try:
            for number in range(rounds):
                params = demo_parameters()[0].model_dump()
                params["training"]["seed"] = number
                seen = as_a_person(service, params)
                alone = bare(service, seen["child"], params)
                rows.append((seen["to first step"], seen["training"], alone, seen["all"]))
                print(
                    f"round {number + 1}: first step after {rows[-1][0]:.1f} s; training {rows[-1][1]:.1f} s on the "
                    f"pool, {alone:.1f} s alone; all of retrain {rows[-1][3]:.1f} s",
                    flush=True,
                )
        finally:
            service.down()
    ratios = [on_pool / alone for _, on_pool, alone, _ in rows]
    print(
        f"median of {rounds}: first training step {statistics.median(r[0] for r in rows):.1f} s after Run (the first "
        f"round prepares the data, later ones reuse it); training on the pool takes "
        f"{statistics.median(ratios):.2f} (range {min(ratios):.2f}-{max(ratios):.2f}) times as long as the bare call"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
