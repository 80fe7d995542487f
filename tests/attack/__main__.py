"""Attack `make up` and the servers of a flow, as another user of the machine and as a foreign web page: `make attack`.

    python -m tests.attack                    this code
    python -m tests.attack --base 72417a1     the code of that commit
    python -m tests.attack --only embedded    or: up, ha

Servers are started in a temporary folder on free ports, a text is laid out in each that nobody else should see, and
then all is tried that the modules beside this one list. What may be had is the list in `answers.py`; anything else is a
miss, and the exit status is 1. The table shows every miss, and the rest by numbers. It needs root, to become another
user of the machine, and says so where it is not run as root.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.attack import web_page
from tests.attack.answers import Verdict
from tests.attack.attack import attacked
from tests.attack.subjects import KINDS, Subject
from tests.commits import code_of

_LINE = "  {:<26} {:<88} {}"


def show(verdicts: list[Verdict], every: bool) -> None:
    """Print the table: each miss, then the others in groups."""
    print(_LINE.format("target", "tried", "answer -> verdict"))
    groups: dict[tuple[str, bool, str], Counter[str]] = defaultdict(Counter)
    for v in verdicts:
        if every or (v.had and not v.sweep):
            print(_LINE.format(v.target, v.tried, f"{v.answer} -> {v.why}"))
        else:
            groups[v.target, v.sweep, v.why][v.answer.split()[0].rstrip(":")] += 1
    for (target, sweep, why), answers in sorted(groups.items()):
        kind = "routes of the API, no password" if sweep else "attempts"
        told = ", ".join(f"{answer} x {n}" for answer, n in answers.most_common(5))
        print(_LINE.format(target, f"{answers.total()} {kind}", f"{told} -> {why}"))


def outcome(failed: bool, results: Sequence[str], no_browser: str) -> str:
    """The last line: what came of it, and what was not tried."""
    untried = f" (no web page tried: {no_browser})" if no_browser else ""
    return f"{'MISS' if failed else 'nobody came in'}: {'; '.join(results)}{untried}"


def main() -> int:
    """Attack; returns 1 where something was had."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack")
    parser.add_argument("--base", default="", help="commit whose code is attacked")
    parser.add_argument("--only", choices=sorted(KINDS), action="append", help="these alone")
    parser.add_argument("--no-browser", action="store_true", help="without the foreign web page")
    parser.add_argument("--every", action="store_true", help="show every attempt")
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("skipped: only root can become another user of the machine")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):  # servers are stopped, as after Ctrl+C
        signal.signal(number, signal.default_int_handler)
    no_browser = "as asked" if given.no_browser else web_page.why_not()
    results: list[str] = []
    failed = False
    with code_of(given.base) as root:
        for kind in given.only or ("embedded", "up"):
            name = KINDS[kind][0]
            started = time.perf_counter()
            print(f"\n{name}, code of {given.base or 'this folder'}", flush=True)
            with Subject(*KINDS[kind], root=root) as subject:
                verdicts = attacked(subject, not no_browser)
            show(verdicts, given.every)
            had = sum(v.had for v in verdicts)
            failed |= bool(had)
            seconds = time.perf_counter() - started
            results.append(f"{name}: {had} of {len(verdicts)} had ({seconds:.0f} s)")
    print(f"\n{outcome(failed, results, no_browser)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
