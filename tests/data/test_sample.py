"""The reviews that come with the project: enough, balanced, varied, and no two of them alike."""

import json
import re
from collections import Counter
from itertools import combinations

import pytest

from tasks.core.data.texts import matching_form
from tests.paths import ROOT

FOLDER = ROOT / "tasks" / "sample"


def load(split: str) -> list[dict[str, str]]:
    lines = (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


TRAIN, TEST = load("train"), load("test")
EVERYTHING = TRAIN + TEST


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", matching_form(text))


def shingles(text: str, size: int) -> set[tuple[str, ...]]:
    tokens = words(text)
    return {tuple(tokens[i : i + size]) for i in range(max(1, len(tokens) - size + 1))}


@pytest.mark.parametrize(("rows", "least"), [(TRAIN, 400), (TEST, 200)], ids=["train", "test"])
def test_enough_and_balanced(rows: list[dict[str, str]], least: int) -> None:
    labels = Counter(r["label"] for r in rows)
    assert len(rows) >= least and set(labels) == {"NEGATIVE", "POSITIVE"}
    assert labels["NEGATIVE"] == labels["POSITIVE"]
    domains = Counter(r["domain"] for r in rows)
    assert domains["film"] > len(rows) / 2 and all(
        domains[d] >= 10 for d in ("book", "hotel", "gadget")
    )


def test_of_all_lengths() -> None:
    lengths = sorted(len(r["text"].split()) for r in EVERYTHING)
    assert lengths[0] >= 4 and lengths[-1] <= 260
    assert sum(n < 20 for n in lengths) >= 60 and sum(n > 120 for n in lengths) >= 30


def test_no_two_alike() -> None:
    """Word-pair sets overlap by less than a fifth everywhere, and no eight words running are shared."""
    pairs = [shingles(r["text"], 2) for r in EVERYTHING]
    for (i, a), (j, b) in combinations(enumerate(pairs), 2):
        assert len(a & b) < 0.2 * min(len(a), len(b)) + 2, (
            EVERYTHING[i]["text"],
            EVERYTHING[j]["text"],
        )
    runs = Counter(
        run for r in EVERYTHING if len(words(r["text"])) >= 8 for run in shingles(r["text"], 8)
    )
    assert [run for run, count in runs.items() if count > 1] == []


def test_train_and_test_do_not_overlap() -> None:
    assert not {matching_form(r["text"]) for r in TRAIN} & {matching_form(r["text"]) for r in TEST}


def test_not_from_templates() -> None:
    openings = Counter(tuple(words(r["text"])[:3]) for r in EVERYTHING)
    assert openings.most_common(1)[0][1] <= 6


@pytest.mark.parametrize(
    "pattern",
    [
        r"<br ?/?>",
        r"&\w+;",
        r"[\U0001F300-\U0001FAFF]",
        r"\bnot\b",
        r"\b\d+ ?/ ?10\b",
        r"\b[A-Z]{4,}\b",
    ],
    ids=["markup", "entities", "emoji", "negation", "scores", "capitals"],
)
def test_what_people_really_write_is_there(pattern: str) -> None:
    for label in ("NEGATIVE", "POSITIVE"):
        assert (
            sum(bool(re.search(pattern, r["text"])) for r in EVERYTHING if r["label"] == label) >= 3
        )
