"""Kill scoring runs, the network and the store repeatedly, and count lost rows: `make faults`.

    python -m benchmarks.faults.run --kills 200 --seed 0

Each episode delivers reviews of all formats (some large enough to be scored in parts), starts scoring runs as
processes, and injects a fault: SIGKILL at random times and at every single write, two runs at once, inputs overwritten
during a run, a proxy that resets, cuts, loses, stalls and refuses, the store itself killed. A run that died is started
again, as Prefect or the next night would do, until it completes. Then a checker that shares no code with the writer
compares outputs with inputs.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.faults.episodes import ATTEMPTS, FORK, Episode, Night, attempt, until_done
from tasks.connectors.servers.local_servers import LocalObjectStore
from tasks.connectors.servers.seaweedfs import free_ports
from tasks.connectors.storage.object_store import ObjectStore
from tests.paths import ROOT


def random_kills(store: ObjectStore, seed: int) -> Episode:
    """SIGKILL at random times until the run is complete."""
    episode, night, scored = (
        Episode("SIGKILL at random times"),
        Night(store, "random", seed),
        FORK.RawValue("i", 0),
    )
    until_done(night, episode, ["first"], 1.2, scored)
    night.check(episode, done=True)
    episode.scored, episode.needed = scored.value, night.rows
    return episode


def kills_at_writes(store: ObjectStore, seed: int) -> Episode:
    """SIGKILL before the first write, after it, before the second of what is left, after it, and so on."""
    episode, night, scored = (
        Episode("SIGKILL at the n-th write"),
        Night(store, "writes", seed),
        FORK.RawValue("i", 0),
    )
    for call in range(1, ATTEMPTS):
        process = attempt(night, "first", scored, ((call + 1) // 2, call % 2 == 1))
        process.join()
        episode.attempts += 1
        episode.kills += process.exitcode == -9
        if process.exitcode == 0:
            break
        night.check(episode, done=False)
    assert episode.kills > 10, "each write was to be met"
    night.check(episode, done=True)
    episode.scored, episode.needed = scored.value, night.rows
    return episode


def overlapping(store: ObjectStore, seed: int) -> Episode:
    """Two runs over the same reviews at once, both killed now and then."""
    episode, night, scored = (
        Episode("two runs at once, killed"),
        Night(store, "overlap", seed),
        FORK.RawValue("i", 0),
    )
    until_done(night, episode, ["one", "other"], 1.5, scored)
    night.check(episode, done=True)
    episode.scored, episode.needed = scored.value, 2 * night.rows
    return episode


def overwritten(store: ObjectStore, seed: int) -> Episode:
    """Inputs replaced while they are scored, in runs that are killed; the next run scores the rest."""
    episode, night, scored = (
        Episode("inputs overwritten, killed"),
        Night(store, "overwrite", seed),
        FORK.RawValue("i", 0),
    )
    for number in range(6):
        process = attempt(night, "first", scored)
        time.sleep(night.rng.uniform(0.05, 0.8))
        for name in night.rng.sample(sorted(night.versions), 3):
            night.deliver(name, 400 if name.startswith("large") else 25)
            episode.notes["overwritten"] += 1
        time.sleep(night.rng.uniform(0.0, 0.4))
        process.kill() if number < 5 else None
        process.join()
        episode.attempts += 1
        episode.kills += process.exitcode == -9
        night.check(episode, done=False)
    until_done(night, episode, ["second"], None, scored)
    night.check(episode, done=True)
    episode.scored, episode.needed = scored.value, night.rows
    return episode


def broken_network(store: ObjectStore, seed: int) -> Episode:
    """Resets, lost replies, truncation, 503 and stalls."""
    episode, night, scored = (
        Episode("broken network, killed"),
        Night(store, "network", seed),
        FORK.RawValue("i", 0),
    )
    with proxied(str(store.endpoint_url), seed) as (url, did):
        os.environ["AWS_ENDPOINT_URL_S3"] = url
        try:
            until_done(night, episode, ["first"], 6.0, scored)
        finally:
            os.environ["AWS_ENDPOINT_URL_S3"] = str(store.endpoint_url)
    night.check(episode, done=True)
    episode.notes["faults: " + ", ".join(did)] += 1
    episode.scored, episode.needed = scored.value, night.rows
    return episode


@contextlib.contextmanager
def proxied(url: str, seed: int, share: float = 0.1) -> Generator[tuple[str, list[str]]]:
    """Yield the URL of a store behind a faulty network, and afterwards the proxy's own report."""
    did: list[str] = []
    command = [
        sys.executable,
        "-m",
        "benchmarks.faults.proxy",
        url.rpartition(":")[2],
        str(seed),
        str(share),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = process.stdout.readline().strip()
        try:
            yield f"http://127.0.0.1:{port}", did
        finally:
            process.terminate()
            did.append(process.stdout.read().strip())


def killed_store(
    server: LocalObjectStore, folder: Path, port: int, seed: int
) -> tuple[Episode, LocalObjectStore]:
    """The store dies during a run and comes back."""
    episode, scored = Episode("the store killed"), FORK.RawValue("i", 0)
    night = Night(server.store(), "store", seed)
    for _ in range(4):
        process = attempt(night, "first", scored)
        time.sleep(night.rng.uniform(0.2, 1.0))
        server.stop()  # SIGKILL
        episode.notes["store killed"] += 1
        time.sleep(0.5)
        server = LocalObjectStore(folder, port)
        night.store = server.store()
        process.join()
        episode.attempts += 1
        night.check(episode, done=False)
    until_done(night, episode, ["first"], None, scored)
    night.check(episode, done=True)
    episode.scored, episode.needed = scored.value, night.rows
    return episode, server


def show(console: Console, episodes: list[Episode]) -> None:
    """Print one line per scenario."""
    table = Table(
        "scenario",
        "episodes",
        "SIGKILLs",
        "rows checked",
        "lost",
        "doubled",
        "mixed",
        "other",
        "scored/needed",
    )
    for name in dict.fromkeys(e.name for e in episodes):
        same = [e for e in episodes if e.name == name]
        counts = sum((e.verdict.counts for e in same), Counter[str]())
        known = [counts.pop(kind, 0) for kind in ("lost", "doubled", "mixed")]
        ratio = statistics.median(e.scored / max(e.needed, 1) for e in same)
        figures = [
            len(same),
            sum(e.kills for e in same),
            sum(e.verdict.rows for e in same),
            *known,
            sum(counts.values()),
        ]
        table.add_row(name, *(f"{f:,}" for f in figures), f"{ratio:.2f}")
    console.print(table)
    for note, count in sum((e.notes for e in episodes), Counter[str]()).items():
        console.print(f"  {note}: {count}", markup=False, soft_wrap=True)


def main() -> int:
    """Run until enough processes were killed; return 1 if a row was lost, duplicated or mixed up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.run")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    console, episodes = Console(width=140), list[Episode]()
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="nightshift-faults-") as name:
        server = LocalObjectStore(Path(name), port)
        try:
            server.store().make_bucket("nightshift")
            os.environ |= {
                "AWS_ENDPOINT_URL_S3": server.endpoint_url,
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
            }
            seed = given.seed
            while sum(e.kills for e in episodes) < given.kills or seed == given.seed:
                store = server.store()
                for scenario in (
                    random_kills,
                    kills_at_writes,
                    overlapping,
                    overwritten,
                    broken_network,
                ):
                    episodes.append(scenario(store, seed))
                    last = episodes[-1]
                    said = dict(last.verdict.counts) or "all well"
                    console.print(f"{last.name}: {last.kills} kills, {said}")
                episode, server = killed_store(server, Path(name), port, seed)
                episodes.append(episode)
                seed += 1
        finally:
            server.stop()
    show(console, episodes)
    bad = next((e.verdict.first for e in episodes if e.verdict.counts), "")
    console.print(f"NOT WELL: {bad}" if bad else "No row was lost, doubled or mixed.")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
