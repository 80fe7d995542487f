"""Texts, and a file of checks, that took minutes or filled the memory."""

import json

from tests.cases.case import Case, Files, Found, both, done, fails, fast_retrain, scored
from tests.cases.hostile_files import MIB
from tests.reviews import jsonl, reviews

_LONG = "a wonderful film, and the music was charming. " * (15 * MIB // 46)
_DOTS = f"a wonderful film{'.' * 40_000} and more"


def _labelled(text: str) -> Files:
    """Reviews to train with, one of which in each file is this text."""
    return {
        "train.jsonl": jsonl([*reviews(200), (text, "POSITIVE")]),
        "test.jsonl": jsonl([*reviews(60, 50), (f"{text}!", "POSITIVE")]),
    }


def _line(text: str) -> bytes:
    return json.dumps({"id": "b", "text": text}).encode() + b"\n"


def merge_keys(levels: int = 20) -> bytes:
    """A file of checks, each level of which merges the one before six times."""
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for level in range(1, levels):
        before = ", ".join([f"*a{level - 1}"] * 6)
        lines.append(f"a{level}: &a{level} {{<<: [{before}]}}")
    return "\n".join(lines).encode()


def _judged(found: Found) -> str:
    """A retraining has come to its end: the gate speaks of the version that was registered."""
    return "" if "version 1" in found.text and "Gate" in found.text else "no version is judged"


CASES = [
    Case("long", "50 s and 4.7 GB", "1 row",
         lambda: {"b.jsonl": _line(_LONG)}, both(done, scored(b=1))),
    Case("long-trained", "50 s and 4.7 GB at each reading", "a version is registered and judged",
         lambda: _labelled(_LONG), both(done, _judged), fast_retrain("{input}", "long"), 90.0),
    Case("dots", "15 s a perturbation", "1 row",
         lambda: {"b.jsonl": _line(_DOTS)}, both(done, scored(b=1))),
    Case("dots-trained", "15 s a perturbation", "a version is registered and judged",
         lambda: _labelled(_DOTS), both(done, _judged), fast_retrain("{input}", "dots"), 90.0),
    Case("merge-keys", "6 times as long with each level", "an error that names the file",
         lambda: {**{f"data/{name}": content for name, content in _labelled("good").items()},
                  "checks.yaml": merge_keys()},
         fails("checks.yaml", "merge keys"),
         [*fast_retrain("{input}data/", "merged"), "--behaviour.checks", "{input}checks.yaml"]),
]  # fmt: skip
