"""Words that a reader has to decode: docstrings that open with a question word, and commit subjects. `make words`.

    python -m benchmarks.words [--since COMMIT]

Exit status 1 if more docstrings than the aim open with What, Which, How, Whether or Who, or if a commit subject since
COMMIT has more than 72 characters.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.paths import ROOT

_OPENING = re.compile(r"(What|Which|How|Whether|Who)\b")
_MOST = 0.02  # of all docstrings
_LONGEST_SUBJECT = 72
_PRODUCT = ("deployments", "flows", "tasks")


def docstrings(path: Path) -> list[str]:
    """The docstrings of a file: of the module, its classes and its functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in found if text]


def long_subjects(since: str) -> list[str]:
    """Subjects of commits since another one that are too long."""
    command = ["git", "-C", str(ROOT), "log", "--format=%s", f"{since}..HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if len(line) > _LONGEST_SUBJECT]


def main() -> int:
    """Print the counts; 1 if an aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.words")
    parser.add_argument("--since", default="", help="look at commit subjects since this commit")
    given = parser.parse_args()
    total, opening = 0, Counter[str]()
    for top in _PRODUCT:
        for path in sorted((ROOT / top).rglob("*.py")):
            texts = docstrings(path)
            total += len(texts)
            opening[str(path.relative_to(ROOT))] += sum(bool(_OPENING.match(t)) for t in texts)
    for name, count in opening.most_common(20):
        if count:
            print(f"{count:4} {name}")
    count = opening.total()
    print(
        f"{count:,} of {total:,} docstrings open with a question word ({count / total:.1%}), at most {_MOST:.0%}"
    )
    subjects = long_subjects(given.since) if given.since else []
    for subject in subjects:
        print(f"longer than {_LONGEST_SUBJECT} characters: {subject}")
    return 1 if count > _MOST * total or subjects else 0


if __name__ == "__main__":
    sys.exit(main())
