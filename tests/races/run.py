"""Holds a promotion and a scoring run before each of their requests, while others go through: `make races`.

    python -m tests.races.run --rounds 20 [--base COMMIT]

The S3 server and MLflow are real. With `--base` the same is done to the code of another commit.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.commits import ROOT, code_of

_SHARES = 2  # of the gaps of each kind: what is tried takes two cores


def main() -> None:
    """Exit 1 where a round ends wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20, help="at each gap")
    parser.add_argument("--gaps", type=int, default=0, help="the first ones only; 0: all")
    parser.add_argument("--only", default="", help="what is held: promotion, scoring, ...")
    parser.add_argument("--base", default="", help="a commit whose code is tried instead")
    given = parser.parse_args()
    if given.base:
        sys.exit(_of_commit(given.base, sys.argv[1:]))
    sys.exit(1 if races(given.rounds, given.gaps, given.only) else 0)


def races(rounds: int, most: int = 0, only: str = "") -> int:
    """Run all of it and print a table; returns how many rounds ended wrong."""
    began = time.monotonic()
    from tasks.connectors.local_servers import LocalObjectStore

    console, tried, wrong = Console(width=140), 0, 0
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
                    (what, share, rounds, most, folder, environment)
                    for what in _HELD
                    for share in range(1, _SHARES + 1)
                    if only in ("", what)
                ]
                found = sorted(row for rows in pool.map(_all_gaps, given) for row in rows)
        finally:
            server.stop()
    table = Table("held", "before request", "rounds", "violations", "the first")
    for what, gap, request, count, problems in found:
        tried, wrong = tried + count, wrong + len(problems)
        first = Counter(problems).most_common(1)[0][0] if problems else ""
        table.add_row(what, f"{gap} {request}", str(count), str(len(problems)), first)
    console.print(table)
    seconds = time.monotonic() - began
    print(f"races: {tried} rounds at {len(found)} gaps in {seconds:.0f} s, {wrong} violations")
    return wrong


def _all_gaps(given: Any) -> list[tuple[str, int, str, int, list[str]]]:
    """In a process of its own: one kind of process, held at every second of its gaps in turn."""
    what, share, rounds, most, folder, environment = given
    os.environ |= environment
    logging.disable(logging.WARNING)
    kinds, make = _HELD[what](f"{folder}/{share}")
    number = len(make(f"counted{share}").requests())
    found: list[tuple[str, int, str, int, list[str]]] = []
    for gap in range(share, min(number, most or number) + 1, _SHARES):
        subject, problems, request = make(f"gap{gap}"), list[str](), ""
        for turn in range(rounds):
            kind = kinds[turn % len(kinds)]
            asked, wrong = subject.round(gap, kind)
            request = request or asked
            problems += [f"{kind}: {wrong[0]}"] if wrong else []
        found.append((what, gap, request, rounds, problems))
        print(f"{what}, {gap} of {number}: {len(problems)} violations", file=sys.stderr, flush=True)
    return found


def _promotion(folder: str) -> tuple[Sequence[str], Any]:
    from tasks.connectors import champion
    from tasks.connectors.model_registry import ModelRegistry
    from tasks.connectors.object_store import ObjectStore
    from tests.races import promotions

    setattr(champion, "_LATE_SECONDS", 0.01)  # noqa: B010 - nobody else is about: what is held does not go on
    store = ObjectStore(os.environ["AWS_ENDPOINT_URL_S3"])
    Path(folder).mkdir()
    registry = ModelRegistry(f"sqlite:///{folder}/mlflow.db", "races")
    return promotions.KINDS, lambda name: promotions.Promotions(store, registry, f"races-{name}")


def _scoring(_: str) -> tuple[Sequence[str], Any]:
    from tasks.connect import object_store
    from tests.faults import worker
    from tests.races import successes

    worker.use_text_model()
    return successes.KINDS, lambda name: successes.Successes(object_store(), name)


_HELD = {"promotion": _promotion, "scoring": _scoring}


def _of_commit(commit: str, arguments: Sequence[str]) -> int:
    """The same in a work tree of another commit, which gets this folder and knows nothing of it otherwise."""
    with code_of(commit) as tree:
        shutil.copytree(ROOT / "tests/races", tree / "tests/races", dirs_exist_ok=True)
        shutil.copy(ROOT / "tests/commits.py", tree / "tests")
        command = [sys.executable, "-m", "tests.races.run", *arguments, "--base", ""]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


if __name__ == "__main__":
    main()
