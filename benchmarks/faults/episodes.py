"""One episode of a scenario: a night, the runs that score it as processes that may be killed, and the result."""

import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults import worker
from benchmarks.faults.checker import Verdict
from benchmarks.faults.delivered import Delivered
from tasks.connectors.storage.object_store import ObjectStore

FORK: Any = multiprocessing.get_context("fork")
ATTEMPTS = 200
_SECONDS_A_REVIEW = 0.0005  # slow enough to be killed in the middle


@dataclass
class Episode:
    """The result of one scenario."""

    name: str
    kills: int = 0
    attempts: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    scored: int = 0  # reviews that the model scored, over all attempts
    needed: int = 0
    notes: Counter[str] = field(default_factory=Counter)


class Night(Delivered):
    """Small objects and large ones."""

    def __init__(self, store: ObjectStore, name: str, seed: int) -> None:
        super().__init__(store, f"s3://nightshift/{name}-{seed}", seed)
        for number in range(24):
            self.deliver(f"{number:02}.{('jsonl', 'csv', 'parquet')[number % 3]}", 20)
        for ending in ("jsonl", "csv"):
            self.deliver(f"large.{ending}", 400)

    def check(self, episode: Episode, done: bool) -> None:
        """Compare outputs with inputs, and add the violations."""
        found = self.verdict(done)
        episode.verdict.counts += found.counts
        episode.verdict.first = episode.verdict.first or found.first
        episode.verdict.rows += found.rows
        episode.verdict.objects += found.objects

    @property
    def rows(self) -> int:
        """The number of rows that the model has to score."""
        return sum(bool(row["text"].strip()) for v in self.versions.values() for row in v[-1])


def attempt(night: Night, run: str, scored: Any, die: tuple[int, bool] | None = None) -> Any:
    """Start a scoring run in a process of its own."""

    def work() -> None:
        logging.disable(logging.CRITICAL)
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of its short life
        worker.be_on_a_machine_that_is_lost()
        worker.small_shards()
        worker.be_impatient()
        worker.use_text_model(_SECONDS_A_REVIEW, scored)
        if die:
            worker.die_at(*die)
        summary = worker.run_to_end(night.draft(run))
        os._exit(0 if summary.complete else 1)

    process = FORK.Process(target=work)
    process.start()
    return process


def until_done(
    night: Night, episode: Episode, runs: list[str], kill_after: float | None, scored: Any
) -> None:
    """Start runs until all have completed; kill them at random times."""
    left = list(runs)
    for _ in range(ATTEMPTS):
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
    raise RuntimeError(f"{episode.name}: {left} did not complete in {ATTEMPTS} attempts")
