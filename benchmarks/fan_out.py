"""Score one run with 1, 2 and 4 workers, by a Prefect pool, Ray or Dask: `make bench-nights` (without Dask).

    python -m benchmarks.fan_out pool ray dask --seconds 240

The model only takes time, the same for each review, like a GPU per worker. So the benchmark measures the cost of
sharing: starting runs in other processes, taking shards, waiting for the slowest. With one worker the run is not
shared. The rest is real: an object store, a Prefect server, a worker of a process pool.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.nights import some_reviews
from tasks.connectors.servers.child_process import ChildProcess
from tasks.connectors.servers.local_servers import LocalObjectStore, LocalPrefectServer
from tests.paths import ROOT

_OBJECTS, _REVIEWS = 64, 125  # eight objects per shard
_WORKERS = (1, 2, 4)
_LOGIN = f"nightshift:{secrets.token_hex(24)}"
_INPUT = "s3://nightshift/in/"


class Rig:
    """An object store with reviews, a Prefect server, and a worker of its pool.

    Args:
        folder: the folder for all of them.
        seconds: the time the model takes for all reviews.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._store = LocalObjectStore(folder / "s3")
        self._prefect = LocalPrefectServer(folder / "prefect", _LOGIN)
        self._environment = os.environ | {
            "NIGHTSHIFT_HOME": str(folder / "home"),
            "BENCH_SECONDS_A_REVIEW": str(seconds / (_OBJECTS * _REVIEWS)),
            "NIGHTSHIFT_SCORING_DEPLOYMENT": "score-shards/score-shards",
            "AWS_ENDPOINT_URL_S3": self._store.endpoint_url,
            "AWS_ACCESS_KEY_ID": self._store.access_key,
            "AWS_SECRET_ACCESS_KEY": self._store.secret_key,
            "PREFECT_API_URL": self._prefect.api_url,
            "PREFECT_API_AUTH_STRING": _LOGIN,
            "PREFECT_HOME": str(folder / "client"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",  # as `make up` has it
            "PYTHONPATH": f"{ROOT / 'benchmarks' / 'fixed_cost'}:{ROOT}",
        }
        store = self._store.store()
        store.make_bucket("nightshift")
        for number in range(_OBJECTS):
            lines = b"".join(some_reviews(_REVIEWS, seed=number))
            store.write_bytes(lines, f"{_INPUT}{number:03}.jsonl")
        self._prefect.wait()
        self._python("-m", "deployments.apply")
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "cpu"]
        self._worker = ChildProcess(
            "worker", [*command, "--limit", str(max(_WORKERS))], self._environment, folder / "log"
        )

    def _python(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self._environment | environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    def night(self, way: str, workers: int) -> float:
        """Return the seconds of scoring, from the frozen plan to the last shard."""
        runner = "none" if way == "pool" else way
        told = self._python(
            "-m", "benchmarks.fan_out", "--night", f"{way}-{workers}", "--workers", str(workers),
            NIGHTSHIFT_TASK_RUNNER=runner,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(told.splitlines()[-1])
        assert answer["rows"] == _OBJECTS * _REVIEWS, "nobody has lost any"
        return float(answer["seconds"])

    def close(self) -> None:
        """Stop everything."""
        self._worker.stop()
        self._prefect.stop()
        self._store.stop()


def score_a_night(name: str, workers: int) -> None:
    """Plan a run, share it, and print how long it took; runs in a process of its own."""
    from prefect import flow

    from benchmarks.faults import worker
    from flows.score_shards import score_together
    from tasks.scoring.finishing import finish_scoring
    from tasks.scoring.planning import plan_scoring

    worker.small_shards()

    @flow(name="bench")
    def night() -> dict[str, float]:
        planned = plan_scoring(worker.draft(name, _INPUT, f"s3://nightshift/out-{name}"))
        started = time.perf_counter()
        score_together(planned, worker.ENGINE, workers)
        seconds = time.perf_counter() - started
        summary = finish_scoring(planned.place, time.time())
        return {"seconds": seconds, "rows": summary.counts.rows_in}

    print(json.dumps(night()))


def main() -> None:
    """Run the requested measurements."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fan_out")
    parser.add_argument("ways", nargs="*", default=["pool", "ray"], help="pool, ray, dask")
    parser.add_argument("--seconds", type=float, default=240, help="of the model, in all")
    parser.add_argument("--night", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.night:
        score_a_night(given.night, given.workers)
        return
    console = Console()
    table = Table("way", "workers", "s", "times as fast", "of linear")
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as name:
        rig = Rig(Path(name), given.seconds)
        try:
            for way in given.ways:
                alone = 0.0
                for workers in _WORKERS:
                    seconds = rig.night(way, workers)
                    alone = alone or seconds
                    figures = [f"{seconds:.0f}", f"{alone / seconds:.2f}"]
                    figures.append(f"{alone / seconds / workers:.2f}")
                    table.add_row(way, str(workers), *figures)
                    console.print(way, workers, *figures)
        finally:
            rig.close()
    console.print(table)


if __name__ == "__main__":
    main()
