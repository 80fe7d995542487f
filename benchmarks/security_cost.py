"""Measure the cost of passwords and certificates: this code and another commit, in turns. `make security-cost`.

    python -m benchmarks.security_cost --base 72417a1 --rounds 2

Each round does the same with both, and the second of a pair begins the next round. Everything runs in temporary folders
on free ports. Times are only meaningful on an otherwise idle machine.

    demo        `python -m flows demo` in an empty folder, to its end
    up, down    `python -m deployments.stack.local up` in an empty folder, until it says that it is ready; then `down`
    store       the embedded object store: its start, then objects of 20 kB written and read by eight threads, and 64 MB
    S3 to S3    reviews scored from the object store to the object store (`benchmarks.nights speed`), reviews a second
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from tests.attack.subjects import environment_for
from tests.commits import code_of, module_in

_STORE = """
import importlib, json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
LocalObjectStore = importlib.import_module(sys.argv[2]).LocalObjectStore

def seconds(do):
    started = time.perf_counter()
    do()
    return time.perf_counter() - started

started = time.perf_counter()
server = LocalObjectStore(Path(sys.argv[1]))
took = {"store: start": time.perf_counter() - started}
try:
    store, names = server.store(), [f"s3://costs/{n:04}" for n in range(400)]
    store.make_bucket("costs")
    small, large = b"x" * 20_000, b"x" * 64_000_000
    with ThreadPoolExecutor(8) as pool:
        write = lambda: list(pool.map(lambda n: store.write_bytes(small, n), names))
        read = lambda: list(pool.map(store.read_bytes, names))
        took["store: write 400 objects"], took["store: read 400 objects"] = seconds(write), seconds(read)
    took["store: write 64 MB"] = seconds(lambda: store.write_bytes(large, "s3://costs/large"))
    took["store: read 64 MB"] = seconds(lambda: store.read_bytes("s3://costs/large"))
finally:
    server.stop()
print(json.dumps(took))
"""


def _ran(root: Path, folder: Path, *arguments: str) -> tuple[float, str]:
    """Return seconds and output of a command of the code in `root`. Raises CalledProcessError."""
    given = environment_for(root, folder / "home", folder)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - started, done.stdout


def demo(root: Path, folder: Path) -> dict[str, float]:
    """Measure `make demo` without creating the environment."""
    return {"demo": _ran(root, folder, "-m", "flows", "demo")[0]}


def up(root: Path, folder: Path) -> dict[str, float]:
    """Measure the first start, and the stop."""
    service = module_in(root, "deployments.stack.local")
    try:
        started = _ran(root, folder, "-m", service, "up")[0]
    finally:
        stopped = _ran(root, folder, "-m", service, "down")[0]
    return {"up": started, "down": stopped}


def store(root: Path, folder: Path) -> dict[str, float]:
    """Measure the object store alone."""
    servers = module_in(root, "tasks.connectors.servers.local_servers")
    said = _ran(root, folder, "-c", _STORE, str(folder / "store"), servers)[1]
    return {name: float(took) for name, took in json.loads(said.splitlines()[-1]).items()}


def s3_to_s3(root: Path, folder: Path) -> dict[str, float]:
    """Measure the seconds for a thousand reviews, scored by the packaged model."""
    nights = module_in(root, "benchmarks.nights")
    arguments = ["-m", nights, "speed", "--rows", "200", "--rounds", "2"]
    said = _ran(root, folder, *arguments)[1]
    speeds = re.findall(r"round \d: ([0-9.]+) reviews/s from S3 to S3", said)
    return {"S3 to S3, 1,000 reviews": 1000 / statistics.median(map(float, speeds))}


PARTS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "store": store,
    "up": up,
    "demo": demo,
    "s3": s3_to_s3,
}


def measured(
    before: Path, after: Path, rounds: int, parts: list[str]
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds by measurement, then by side, one value per round."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: {"before": [], "after": []})
    for number in range(rounds):
        sides = [("before", before), ("after", after)]
        for side, root in sides if number % 2 == 0 else reversed(sides):
            for part in parts:
                with tempfile.TemporaryDirectory(prefix="nightshift-cost-") as folder:
                    for name, seconds in PARTS[part](root, Path(folder)).items():
                        found[name][side].append(seconds)
                        print(f"round {number + 1}, {side}: {name} {seconds:.2f} s", flush=True)
    return found


def main() -> int:
    """Measure and print; the last line is the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.security_cost")
    parser.add_argument("--base", required=True, help="commit to compare with")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args()
    with code_of(given.base) as before, code_of("") as after:
        for root in (before, after):  # so that neither side compiles while it is measured
            names = ("benchmarks", "deployments", "flows", "tasks", "tests")
            folders = [str(root / name) for name in names if (root / name).exists()]
            subprocess.run([sys.executable, "-m", "compileall", "-q", *folders], check=True)
        found = measured(before, after, given.rounds, given.parts)
    print(
        f"\n  {'seconds, median of ' + str(given.rounds):<28} {'before':>8} {'after':>8} {'ratio':>7}"
    )
    told: list[str] = []
    for name, sides in found.items():
        medians = {side: statistics.median(values) for side, values in sides.items()}
        ratio = medians["after"] / medians["before"]
        print(f"  {name:<28} {medians['before']:8.2f} {medians['after']:8.2f} {ratio:7.2f}")
        told.append(f"{name} x{ratio:.2f}")
    print(f"security costs, after beside {given.base}: {', '.join(told)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
