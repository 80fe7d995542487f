"""Kills scoring runs, the network and the store, again and again, and counts what was lost: `make faults`.

    python -m tests.faults.run --kills 200 --seed 0

Each episode delivers reviews of all formats (some large enough to be scored in parts), starts scoring runs as
processes, and breaks something: SIGKILL at random times and at every single write, two runs at once, inputs overwritten
in mid-run, a proxy that resets, cuts, loses, stalls and refuses, the store itself killed. A run that died is started
again, as Prefect or the next night would do, until it completes. Then a checker that shares no code with the writer
compares outputs with inputs.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tasks.connectors.local_servers import LocalObjectStore
from tasks.connectors.object_store import ObjectStore
from tasks.connectors.seaweedfs import free_ports
from tests.faults import worker
from tests.faults.checker import Rows, Verdict, check
from tests.faults.parts import encoded, some_rows
from tests.service.stack import ROOT

_FORK: Any = multiprocessing.get_context("fork")
_ATTEMPTS = 200
_SECONDS_A_REVIEW = 0.0005  # so that there is time to die in


@dataclass
class Episode:
    """What one scenario came to."""

    name: str
    kills: int = 0
    attempts: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    scored: int = 0  # reviews that went through the model, in all attempts
    needed: int = 0
    notes: Counter[str] = field(default_factory=Counter)


class Night:
    """Reviews below a prefix of their own, and the runs that score them."""

    def __init__(self, store: ObjectStore, name: str, seed: int) -> None:
        self.store, self.rng = store, random.Random(seed)
        self.input, self.output = (
            f"s3://nightshift/{name}-{seed}/in/",
            f"s3://nightshift/{name}-{seed}/out",
        )
        self.versions: dict[str, list[Rows]] = {}
        for number in range(24):
            self.deliver(f"{number:02}.{('jsonl', 'csv', 'parquet')[number % 3]}", 20)
        for ending in ("jsonl", "csv"):
            self.deliver(f"large.{ending}", 400)

    def deliver(self, name: str, count: int) -> None:
        """A new object, or a new version of one."""
        rows = some_rows(self.rng, count)
        self.versions.setdefault(name, []).append(rows)
        self.store.write_bytes(encoded(name, rows), f"{self.input}{name}")

    def check(self, episode: Episode, done: bool) -> None:
        """Compare outputs with inputs, by code of its own."""
        bucket, _, root = (
            worker.draft("x", self.input, self.output).root.removeprefix("s3://").partition("/")
        )
        found = check(self.store.client, bucket, root, self.versions, done)
        episode.verdict.counts += found.counts
        episode.verdict.first = episode.verdict.first or found.first
        episode.verdict.rows += found.rows
        episode.verdict.objects += found.objects

    @property
    def rows(self) -> int:
        """Rows that a model has to see."""
        return sum(bool(row["text"].strip()) for v in self.versions.values() for row in v[-1])


def attempt(night: Night, run: str, scored: Any, die: tuple[int, bool] | None = None) -> Any:
    """Start a scoring run in a process of its own."""

    def work() -> None:
        logging.disable(logging.CRITICAL)
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of its short life
        worker.small_shards()
        worker.use_text_model(_SECONDS_A_REVIEW, scored)
        if die:
            worker.die_at(*die)
        summary = worker.run_to_end(worker.draft(run, night.input, night.output))
        os._exit(0 if summary.complete else 1)

    process = _FORK.Process(target=work)
    process.start()
    return process


def until_done(
    night: Night, episode: Episode, runs: list[str], kill_after: float | None, scored: Any
) -> None:
    """Start runs again and again until all have completed; kill them at random times."""
    left = list(runs)
    for _ in range(_ATTEMPTS):
        processes = {run: attempt(night, run, scored) for run in left}
        episode.attempts += len(processes)
        if kill_after:
            time.sleep(night.rng.uniform(0.02, kill_after))
            for process in processes.values():
                if process.is_alive() and night.rng.random() < 0.9:
                    process.kill()
        for process in processes.values():
            process.join()
        episode.kills += sum(p.exitcode == -9 for p in processes.values())
        episode.notes["attempts that failed"] += sum(p.exitcode == 1 for p in processes.values())
        left = [run for run, process in processes.items() if process.exitcode != 0]
        if not left:
            return
        night.check(episode, done=False)
    raise RuntimeError(f"{episode.name}: {left} did not complete in {_ATTEMPTS} attempts")


def random_kills(store: ObjectStore, seed: int) -> Episode:
    """SIGKILL at random times until the run is through."""
    episode, night, scored = (
        Episode("SIGKILL at random times"),
        Night(store, "random", seed),
        _FORK.RawValue("i", 0),
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
        _FORK.RawValue("i", 0),
    )
    for call in range(1, _ATTEMPTS):
        process = attempt(night, "first", scored, ((call + 1) // 2, call % 2 == 1))
        process.join()
        episode.attempts += 1
        episode.kills += process.exitcode == -9
        if process.exitcode == 0:
            break
    assert episode.kills > 10, "each write was to be met"
    night.check(episode, done=True)
    episode.scored, episode.needed = scored.value, night.rows
    return episode


def overlapping(store: ObjectStore, seed: int) -> Episode:
    """Two runs over the same reviews at once, both killed now and then."""
    episode, night, scored = (
        Episode("two runs at once, killed"),
        Night(store, "overlap", seed),
        _FORK.RawValue("i", 0),
    )
    until_done(night, episode, ["one", "other"], 1.5, scored)
    night.check(episode, done=True)
    episode.scored, episode.needed = scored.value, 2 * night.rows
    return episode


def overwritten(store: ObjectStore, seed: int) -> Episode:
    """Inputs replaced while they are scored, in runs that are killed; the next run does the rest."""
    episode, night, scored = (
        Episode("inputs overwritten, killed"),
        Night(store, "overwrite", seed),
        _FORK.RawValue("i", 0),
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
        _FORK.RawValue("i", 0),
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
    """A store behind a bad network; its own account of what it did, afterwards."""
    did: list[str] = []
    command = [
        sys.executable,
        "-m",
        "tests.faults.proxy",
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
    """The store dies in mid-run and comes back."""
    episode, scored = Episode("the store killed"), _FORK.RawValue("i", 0)
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
    """One line a scenario."""
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
    """Run until so many processes were killed; the exit status is 1 when a row was lost, doubled or mixed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run")
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
