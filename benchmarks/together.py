"""Compare two concurrent runs on one machine with the same runs one after the other: `make together`.

    python -m benchmarks.together                     two trainings; a training and a scoring run
    python -m benchmarks.together --engines torch openvino

Each run is a process of its own that executes the training or scoring code of core on a model of MiniLM's size. It
works for some seconds on order, alone or beside another, and waits otherwise. The ratio of a pair is the sum of what
each does at once by what it does alone: 1 means that nothing is lost. It is measured with the environment that
Nightshift starts runs with and, in turns with that, with OpenMP's own default, as it was before. Exit status 1 where a
ratio is below the aim; the last line is the result.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.together_run import MODEL, TRAINING
from tasks.runtime.settings import SLEEPING_THREADS
from tests.paths import ROOT

AIM = 0.9
BEFORE, AFTER = "before", "after"
_LIMIT_SECONDS = 540.0


class Run:
    """A process with one run, which only works during the spans it is ordered to.

    Args:
        kind: "training", or the engine that scores.
        folder: the folder with the model.
        environment: its whole environment.
        given: the sizes.
    """

    def __init__(
        self, kind: str, folder: Path, environment: Mapping[str, str], given: argparse.Namespace
    ) -> None:
        self.name = TRAINING if kind == TRAINING else f"scoring by {kind}"
        command = [sys.executable, "-m", "benchmarks.together_run", kind, str(folder)]
        command += ["--seconds", str(given.seconds), "--base", given.base]
        self._log = folder / "runs.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.result()  # wait until it is ready

    def order(self, word: str) -> None:
        """Send an order. go: work, and report the speed after the span; stop: pause again."""
        assert self._process.stdin
        self._process.stdin.write(f"{word}\n")

    def result(self) -> float:
        """Return reviews per second of its last span. It works on until stopped, so that the other run is not alone."""
        assert self._process.stdout
        if line := self._process.stdout.readline():
            return float(line)
        said = self._log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{self.name} ended with {self._process.wait()}: {said[-2000:]}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def speeds(*runs: Run) -> list[float]:
    """Return the reviews per second of each run while all work at once."""
    for run in runs:
        run.order("go")
    found = [run.result() for run in runs]
    for run in runs:
        run.order("stop")
    return found


@dataclass
class Pair:
    """Two runs, and the measured rounds: reviews per second of each alone and at once."""

    first: Run
    second: Run
    alone: list[list[float]] = field(default_factory=list)
    at_once: list[list[float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.first.name} and {self.second.name}"

    def measure(self) -> None:
        """Measure one round."""
        self.alone.append(speeds(self.first) + speeds(self.second))
        self.at_once.append(speeds(self.first, self.second))

    @property
    def ratios(self) -> list[float]:
        """The throughput of both at once relative to each alone, summed, by rounds."""
        return [
            sum(t / a for t, a in zip(together, alone, strict=True))
            for together, alone in zip(self.at_once, self.alone, strict=True)
        ]

    def row(self) -> list[str]:
        """Return the medians for the table."""
        told = [
            " + ".join(f"{statistics.median(side):.1f}" for side in zip(*rounds, strict=True))
            for rounds in (self.alone, self.at_once)
        ]
        ratios = self.ratios
        return [
            *told,
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
        ]


def prepare(folder: Path, base: str, engines: Sequence[str]) -> list[str]:
    """Write the model to score with; return the engines available here."""
    from benchmarks.speed import contenders, data
    from tasks.connectors.model_hub import base_model_folder
    from tasks.core.data.params import TokenizationParams
    from tasks.core.models import classifier as modeling
    from tasks.core.models.base_model import trial

    base_folder, _ = base_model_folder(base, None)
    tokens = trial.longest_input(base_folder, 256)
    tokenization = TokenizationParams(max_length_tokens=tokens)
    classifier = modeling.load_for_training(base_folder, data.LABELS, tokenization, 0.0)
    modeling.save(classifier, folder / MODEL)
    found: list[str] = []
    for engine in engines:
        missing = contenders.build(engine, folder / MODEL, data.read("train", None, 64).texts)
        if missing:
            print(f"{engine} is left out: {missing}", file=sys.stderr)
        else:
            found.append(engine)
    return found


def measure(given: argparse.Namespace, console: Console) -> dict[str, list[Pair]]:
    """Measure both environments in turns, for the requested rounds or as many as fit into ten minutes."""
    started = time.monotonic()
    usual = {k: v for k, v in os.environ.items() if k not in SLEEPING_THREADS}
    environments = {BEFORE: usual, AFTER: SLEEPING_THREADS | os.environ}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightshift-bench-")))
        engines = prepare(folder, given.base, given.engines)
        pairs: dict[str, list[Pair]] = {}
        for name, environment in environments.items():
            kinds = [TRAINING, TRAINING, *engines]
            runs = [Run(kind, folder, environment, given) for kind in kinds]
            for run in runs:
                stack.callback(run.close)
            pairs[name] = [Pair(runs[0], other) for other in runs[1:]]
        for number in range(given.rounds):
            begun = time.monotonic()
            for name in (BEFORE, AFTER) if number % 2 else (AFTER, BEFORE):
                for pair in pairs[name]:
                    pair.measure()
            now = time.monotonic()
            console.print(f"round {number + 1} of {given.rounds}: {now - begun:.0f} s")
            if now + (now - begun) > started + _LIMIT_SECONDS:
                break
    return pairs


def verdict(pairs: Sequence[Pair]) -> tuple[int, str]:
    """Return the exit status and the last line, by the median ratio of each pair."""
    ratios = {pair.name: statistics.median(pair.ratios) for pair in pairs}
    missed = min(ratios.values()) < AIM
    told = "; ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return int(missed), f"{'MISSED' if missed else 'OK'}: at least {AIM} is wanted: {told}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a pair loses more than the aim allows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.together")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each span")
    parser.add_argument("--base", default="minilm", help="base model")
    parser.add_argument("--engines", nargs="+", default=["torch"], help="that score")
    given = parser.parse_args(arguments)
    console = Console(width=120)
    pairs = measure(given, console)
    table = Table("runs", "threads", "reviews/s alone", "reviews/s at once", "ratio", "range")
    for name, measured in pairs.items():
        for pair in measured:
            table.add_row(pair.name, name, *pair.row())
    console.print(table)
    status, line = verdict(pairs[AFTER])
    console.print(line, soft_wrap=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
