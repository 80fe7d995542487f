"""Hold a promotion and a scoring run before each of their requests, while others go through: `make races`.

    python -m benchmarks.races.run [--minutes 9] [--base COMMIT]

Each gap gets a round of each kind, repeatedly, up to --rounds; with --minutes it ends sooner, and the last lines say
how many rounds there were. The S3 server and MLflow are real. --base tests the code of another commit, whose modules
must have the names of this one.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.commits import code_of
from tests.paths import ROOT

_SHARES = 2  # processes at a time, for two cores; each with every second gap of a kind


def main() -> None:
    """Exit with 1 if a round ends wrong, or if a process never reached the request before which it was to be held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20, help="of each kind at each gap")
    parser.add_argument("--minutes", type=float, default=0, help="fewer rounds; 0: all")
    parser.add_argument("--gaps", type=int, default=0, help="the first ones only; 0: all")
    parser.add_argument("--only", default="", help="what is held: promotion, scoring, ...")
    parser.add_argument("--base", default="", help="a commit whose code is tried instead")
    given = parser.parse_args()
    if given.base:
        sys.exit(_of_commit(given.base, sys.argv[1:]))
    sys.exit(1 if races(given.rounds, given.minutes, given.gaps, given.only) else 0)


@dataclass
class Gap:
    """All rounds of one kind before one request.

    Args:
        held: the held process: a promotion or a scoring run.
        kind: the event in the meantime.
        number: the number of the request, from 1.
        request: its name.
        rounds: the number of rounds in which it was made.
        missed: the number of rounds in which it was not made, which tested nothing.
        problems: one sentence for each round that ended wrong.
    """

    held: str
    kind: str
    number: int
    request: str = ""
    rounds: int = 0
    missed: int = 0
    problems: list[str] = field(default_factory=list[str])


def races(rounds: int, minutes: float = 0, most: int = 0, only: str = "") -> int:
    """Run all rounds and print a table; return how many rounds ended wrong or did not reach their request."""
    began, seconds = time.monotonic(), minutes * 60 / len(_HELD)
    from tasks.connectors.servers.local_servers import LocalObjectStore

    with tempfile.TemporaryDirectory(prefix="nightshift-races-") as folder:
        server = LocalObjectStore(Path(folder) / "s3")
        try:
            server.store().make_bucket("nightshift")
            environment = {
                "AWS_ENDPOINT_URL_S3": server.endpoint_url,
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
            }
            with ProcessPoolExecutor(_SHARES) as pool:
                given = [
                    (held, share, rounds, seconds, most, folder, environment)
                    for held in _HELD
                    for share in range(1, _SHARES + 1)
                    if only in ("", held)
                ]
                found = [gap for gaps in pool.map(_all_gaps, given) for gap in gaps]
        finally:
            server.stop()
    return _show(found, time.monotonic() - began)


def _show(found: list[Gap], seconds: float) -> int:
    table = Table("held", "before request", "kinds", "rounds", "not reached", "violations", "first")
    of_gaps = defaultdict[tuple[str, int], list[Gap]](list)
    for gap in found:
        of_gaps[gap.held, gap.number].append(gap)
    for (held, number), gaps in sorted(of_gaps.items()):
        requests = sorted({gap.request for gap in gaps if gap.request})
        problems = Counter(f"{gap.kind}: {said}" for gap in gaps for said in gap.problems)
        table.add_row(
            held,
            f"{number} {' or '.join(requests)}",
            str(len(gaps)),
            str(sum(gap.rounds for gap in gaps)),
            str(sum(gap.missed for gap in gaps)),
            str(problems.total()),
            problems.most_common(1)[0][0] if problems else "",
        )
    Console(width=160).print(table)
    tried, missed = sum(gap.rounds for gap in found), sum(gap.missed for gap in found)
    wrong = sum(len(gap.problems) for gap in found)
    for held in sorted({gap.held for gap in found}):
        gaps = {gap.number for gap in found if gap.held == held}
        kinds = {gap.kind for gap in found if gap.held == held}
        rounds = min(gap.rounds for gap in found if gap.held == held)
        print(
            f"{held}: {len(gaps)} gaps, {len(kinds)} kinds, {rounds} rounds of each kind at each gap"
        )
    print(
        f"races: {tried} rounds at {len(of_gaps)} gaps in {seconds:.0f} s, {missed} not reached, {wrong} violations"
    )
    return wrong + missed


def _all_gaps(given: Any) -> list[Gap]:
    """Run every second gap of one kind of process, a round of each in turn, in a process of its own."""
    held, share, rounds, seconds, most, folder, environment = given
    os.environ |= environment
    logging.disable(logging.WARNING)
    kinds, make = _HELD[held](f"{folder}/{share}")
    began, found = time.monotonic(), list[tuple[Any, Gap]]()
    for place, kind in enumerate(kinds):
        subject = make(f"{share}-{place}")
        number = len(subject.requests(kind))
        for gap in range(share, min(number, most or number) + 1, _SHARES):
            found.append((subject, Gap(held, kind, gap)))
    for turn in range(1, rounds + 1):
        for subject, gap in found:
            _round(subject, gap)
        wrong, passed = sum(len(gap.problems) for _, gap in found), time.monotonic() - began
        print(f"{held}, {turn} of {rounds} rounds: {wrong} violations", file=sys.stderr, flush=True)
        if seconds and passed * (turn + 1) / turn > seconds:
            break
    return [gap for _, gap in found]


def _round(subject: Any, gap: Gap) -> None:
    request, wrong = subject.round(gap.number, gap.kind)
    gap.request = gap.request or request
    gap.rounds, gap.missed = gap.rounds + bool(request), gap.missed + (not request)
    gap.problems += wrong[:1]


def _promotion(folder: str) -> tuple[Sequence[str], Any]:
    from benchmarks.races import promotions
    from tasks.connectors.storage.object_store import ObjectStore
    from tasks.connectors.tracking import champion
    from tasks.connectors.tracking.model_registry import ModelRegistry

    setattr(champion, "_LATE_SECONDS", 0.01)  # noqa: B010 - nobody else is about: what is held does not go on
    store = ObjectStore(os.environ["AWS_ENDPOINT_URL_S3"])
    Path(folder).mkdir()
    registry = ModelRegistry(f"sqlite:///{folder}/mlflow.db", "races")
    return promotions.KINDS, lambda name: promotions.Promotions(store, registry, f"races-{name}")


def _scoring(_: str) -> tuple[Sequence[str], Any]:
    from benchmarks.faults import worker
    from benchmarks.races import successes
    from tasks.runtime.clients import object_store

    worker.use_text_model()
    return successes.KINDS, lambda name: successes.Successes(object_store(), name)


_HELD = {"promotion": _promotion, "scoring": _scoring}


def _of_commit(commit: str, arguments: Sequence[str]) -> int:
    """Run in a work tree of another commit, with only this package copied into it."""
    with code_of(commit) as tree:
        shutil.copytree(ROOT / "benchmarks/races", tree / "benchmarks/races", dirs_exist_ok=True)
        for name in ("commits.py", "paths.py"):
            shutil.copy(ROOT / "tests" / name, tree / "tests")
        command = [sys.executable, "-m", "benchmarks.races.run", *arguments, "--base", ""]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


if __name__ == "__main__":
    main()
