"""Make each change in a copy of the code, run what shows that it works, and print the files it touched. `make doors`.

    python -m benchmarks.doors [NAME ...]

Exit status 1 if a change does not work, or touches other files than those named.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.doors.changes import CHANGES, Change
from tests.commits import code_of

_SECONDS = 600


def main() -> int:
    """Try the changes; return 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doors")
    parser.add_argument("names", nargs="*", help="changes to try; default: all")
    names = parser.parse_args().names
    changes = [change for change in CHANGES if not names or change.name in names]
    table = Table("change", "files touched", "shown by", "outcome", "seconds")
    failed = False
    for change in changes:
        started = time.monotonic()
        with code_of("HEAD") as root:
            touched, problem = _tried(change, root)
        files = set(change.files)
        if not problem and touched != files:
            problem = f"expected {', '.join(sorted(files)) or 'no file'}"
        failed |= bool(problem)
        table.add_row(
            change.name,
            "\n".join(sorted(touched)) or "none",
            change.shown_by,
            problem or "works",
            f"{time.monotonic() - started:.0f}",
        )
    Console(width=150).print(table)
    return 1 if failed or not changes else 0


def _tried(change: Change, root: Path) -> tuple[set[str], str]:
    """Apply a change to a copy and run its check; return the files it touched, and what went wrong."""
    change.apply(root)
    git = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=all"]
    lines = subprocess.run(git, capture_output=True, text=True, check=True).stdout.splitlines()
    touched = {line[3:] for line in lines}
    for name, content in change.check.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *change.tests],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    last = (done.stdout + done.stderr).strip().splitlines()[-15:]
    return touched, "" if done.returncode == 0 else "\n".join(last)


if __name__ == "__main__":
    sys.exit(main())
