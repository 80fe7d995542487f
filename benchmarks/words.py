"""Words that a reader has to decode, in docstrings, identifiers and commit subjects. `make words`.

    python -m benchmarks.words [--base COMMIT]

Docstrings that open with a question word, identifiers whose name says nothing (`found`) or for which the field has a
standard term, and commit subjects since COMMIT that are too long. Exit status 1 if an aim is missed.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.commits import code_of
from tests.paths import ROOT

_OPENING = re.compile(r"(What|Which|How|Whether|Who)\b")
_MOST = 0.02  # of all docstrings
_LONGEST_SUBJECT = 72
_PRODUCT = ("deployments", "flows", "tasks")
_NAMES = """
    found made said told given place lessons taught teaching Way fastest_way LineToParent LineToChild Pace Gauge
    RunDiedError StoreAwayError contest face_champion what_people_said Move MoveLog settle Standing hand_back taken_back
    turn_on warmup_share kept_layers Telling LastLoss Merit EpochJudge Ranks Fate weigh_versions
"""
_UNCLEAR = frozenset(_NAMES.split())
#: Modules with records that have a field of such a name; records of other releases are read.
_STORED = {
    ("tasks.core.lineage.parts", "place"),
    ("tasks.core.records", "place"),
    ("tasks.core.scoring.plan", "place"),
    ("tasks.core.scoring.results", "place"),
    ("tasks.scoring.planning", "place"),
    ("tasks.scoring.verification", "place"),
}


@dataclass
class Words:
    """The counts of one tree of code: of docstrings, and of unclear identifiers by name and by file."""

    docstrings: int = 0
    questions: Counter[str] = field(default_factory=Counter[str])
    identifiers: Counter[str] = field(default_factory=Counter[str])
    files: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        count = self.questions.total()
        share = count / max(self.docstrings, 1)
        return (
            f"{count:,} of {self.docstrings:,} docstrings open with a question word ({share:.1%}, at most "
            f"{_MOST:.0%}); {self.identifiers.total():,} unclear identifiers (at most 0)"
        )


def words_of(root: Path) -> Words:
    """Count the words of the product in a tree of code."""
    words = Words()
    for top in _PRODUCT:
        for path in sorted((root / top).rglob("*.py")):
            tree, name = ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(root))
            texts = docstrings(tree)
            words.docstrings += len(texts)
            words.questions[name] += sum(bool(_OPENING.match(text)) for text in texts)
            module = name.removesuffix(".py").replace("/", ".")
            for identifier in bound_names(tree):
                plain = identifier.strip("_")
                if plain in _UNCLEAR and (module, identifier) not in _STORED:
                    words.identifiers[plain] += 1
                    words.files[name] += 1
    return words


def docstrings(tree: ast.Module) -> list[str]:
    """Return the docstrings of a module, its classes and its functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in texts if text]


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module gives: of variables, parameters, attributes, functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def long_subjects(since: str) -> list[str]:
    """Return subjects of commits since another one that are too long."""
    command = ["git", "-C", str(ROOT), "log", "--format=%s", f"{since}..HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if len(line) > _LONGEST_SUBJECT]


def main() -> int:
    """Print the counts; return 1 if an aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.words")
    parser.add_argument("--base", default="", help="show that commit, and look at subjects since")
    base = parser.parse_args().base
    words = words_of(ROOT)
    for name, count in (words.questions + words.files).most_common(20):
        if count:
            print(f"{count:4} {name}")
    if words.identifiers:
        print(", ".join(f"{name} {count}" for name, count in words.identifiers.most_common()))
    subjects = long_subjects(base) if base else []
    for subject in subjects:
        print(f"longer than {_LONGEST_SUBJECT} characters: {subject}")
    if base:
        with code_of(base) as root:
            print(f"at {base}: {words_of(root)}")
    print(words)
    missed = words.questions.total() > _MOST * words.docstrings or words.identifiers or subjects
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
