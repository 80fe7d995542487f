"""Try every case as a person would: `python -m tests.cases [NAME ...] [--base COMMIT]` (`make cases`).

Each case is a command in a process of its own against real servers. The table says what is expected, what was found,
how long it took and how much memory one of its processes took at most (VmHWM). With --base the same is done with the
code of another commit, under the same limits, and stands beside it.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from tests.cases.case import Case, Found
from tests.cases.hostile_files import GOOD
from tests.cases.registry import CASES
from tests.cases.servers import Bench, a_bench
from tests.commits import code_of
from tests.paths import ROOT

_MORE_MIB = 2_048  # than with good data, at most


def wrong(case: Case, found: Found, good: Found) -> str:
    """What is not as it should be; nothing if all is."""
    if found.timed_out:
        return "it does not end in time"
    if "Traceback (most recent call last)" in found.text:
        return "a stack trace"
    if said := case.wrong(found):
        return said
    if found.peak_mib > good.peak_mib + _MORE_MIB:
        return f"{found.peak_mib:,} MiB, {found.peak_mib - good.peak_mib:,} more than good data"
    if found.seconds > good.seconds + case.most_seconds:
        return f"{found.seconds:.0f} s, {found.seconds - good.seconds:.0f} more than good data"
    return ""


def tell(case: Case, side: str, found: Found, said: str) -> None:
    """Print a line of the table."""
    what = f"{found}"[:230]
    verdict = f"MISS: {said}" if said else "ok"
    size = f"{found.seconds:6.1f} s {found.peak_mib:6,} MiB"
    print(
        f"{case.name:<15} {side:<7} {size}  {verdict}\n    expected: {case.expected}\n    found: {what}",
        flush=True,
    )


def try_all(bench: Bench, cases: list[Case], sides: dict[str, Path]) -> int:
    """Returns the number of cases of the code here that are not as they should be."""
    misses, good = 0, dict[str, Found]()
    for case in [GOOD, *cases]:
        for side, code in sides.items():
            found = bench.tried(case, code, side)
            said = wrong(case, found, good.setdefault(side, found))
            misses += bool(said) and side == "here"
            tell(case, side, found, said)
    return misses


def main() -> int:
    """Exit status 1 where the code here misses a case."""
    parser = argparse.ArgumentParser(prog="python -m tests.cases")
    parser.add_argument("names", nargs="*", help="cases to try; all without any")
    parser.add_argument("--base", help="a commit to try beside it")
    parser.add_argument("--seconds", type=float, default=180.0, help="limit of a command")
    parser.add_argument("--gib", type=float, default=12.0, help="limit of a process")
    given = parser.parse_args()
    if unknown := set(given.names) - {case.name for case in CASES}:
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    cases = [case for case in CASES if not given.names or case.name in given.names]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nightshift-cases-")))
        sides = {"here": ROOT}
        if given.base:
            sides["base"] = stack.enter_context(code_of(given.base))
        bench = stack.enter_context(a_bench(folder, given.seconds, given.gib))
        bench.train(ROOT)
        misses = try_all(bench, cases, sides)
    print(
        f"cases: {len(cases) + 1 - misses} of {len(cases) + 1} as they should be"
        + (", FAILED" if misses else "")
    )
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
