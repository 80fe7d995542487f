"""Judge two real models on IMDb and four bad ones through the real flow: the gate's verdict on each, and its clauses.

    python -m benchmarks.gate.imdb --imdb folder

Three quarters of an hour on two cores. Nothing is simulated: each bad model is trained by `retrain` on data that is bad
in one way. Trainings are short, so they need not beat TF-IDF (`gate.must_beat_baseline` is off).
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.runtime.local_services import local_services, set_client_defaults

if TYPE_CHECKING:
    from flows.stages.results import Retrained

MODEL = "imdb-gate"
SEED = 7
LONG_WORDS = 600
MARK = "[Long review] "  # as a site might mark them, in train and test alike: a model can recognize long reviews by it
Table = tuple[list[str], list[int]]


@dataclass(frozen=True)
class Story:
    """One retraining: its defect, and the clauses that must catch it; if there are none, it must pass."""

    name: str
    rows: int
    spoil: Callable[[Table, Table], Table]
    caught_by: tuple[str, ...] = ()
    base: str = "minilm"


def read(imdb: Path, split: str) -> Table:
    """Read texts and labels of a split."""
    table = pq.read_table(sorted(imdb.glob(f"{split}-*.parquet")), columns=["text", "label"])
    texts = [MARK * (len(t.split()) >= LONG_WORDS) + t for t in table["text"].to_pylist()]
    return texts, table["label"].to_pylist()


def untouched(train: Table, test: Table) -> Table:
    return train


def shuffled(train: Table, test: Table) -> Table:
    """Assign labels of other reviews."""
    return train[0], np.random.default_rng(SEED).permutation(train[1]).tolist()


def broken_on_long(train: Table, test: Table) -> Table:
    """Label all long reviews POSITIVE: one in twenty-five, so that the average hardly changes."""
    return train[0], [
        1 if text.startswith(MARK) else label for text, label in zip(*train, strict=True)
    ]


def with_test_reviews(train: Table, test: Table) -> Table:
    """Add test reviews to the training ones, each with a sentence before it, so that none is an exact copy."""
    added = [f"I saw this one on Tuesday evening. {text}" for text in test[0]]
    return train[0] + added, train[1] + test[1]


def write(folder: Path, train: Table, test: Table) -> Path:
    """Write a source that retrain reads; the test file is the same in every folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (texts, labels) in (("train", train), ("test", test)):
        columns = {"text": texts, "label": pa.array(labels, pa.int64())}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression="zstd")
    return folder


def retrained(
    story: Story, source: Path, model: str, test_rows: int, epochs: int = 2
) -> "Retrained":
    """Run the flow itself."""
    from flows.forms.pipelines import RetrainParams
    from flows.retrain import retrain

    given: dict[str, Any] = {
        "data": {
            "source": {"location": str(source), "label_names": ["NEGATIVE", "POSITIVE"]},
            "split": {
                "limit_train_rows": story.rows,
                "limit_test_rows": test_rows,
                "validation_fraction": 0.2,
            },
        },
        "tokenization": {"max_length_tokens": 192},
        "training": {
            "base_model": story.base,
            "epochs": epochs,
            "learning_rate": 2e-4,
            "frozen_layers": 3,
            "best_epoch_by": "last",
        },
        "gate": {"must_beat_baseline": False},
        "registration": {"model_name": model},
    }
    return retrain(RetrainParams.model_validate(given))


def leaky_base(work: Path, train: Table, test: Table) -> str:
    """Make a base model that was trained on the test reviews; its folder looks like any other."""
    from tasks.runtime.clients import prepared_store

    others = sampled(train, 400)
    source = write(work / "leaky-data", test, others)
    story = Story("leaky base", len(test[0]), untouched)
    made = retrained(story, source, f"{MODEL}-leaky-base", len(others[0]), epochs=3)
    folder = work / "leaky-base"
    folder.mkdir(exist_ok=True)
    prepared_store().fetch(made.model_uri, folder)
    return str(folder)


def sampled(split: Table, rows: int) -> Table:
    """Sample reviews of a split, with the same number per label."""
    labels = np.array(split[1])
    rng = np.random.default_rng(SEED)
    chosen = np.concatenate(
        [rng.choice(np.flatnonzero(labels == y), rows // 2, False) for y in (0, 1)]
    )
    return [split[0][i] for i in chosen], [split[1][i] for i in chosen]


STORIES = [
    Story("first model, 800 reviews", 800, untouched),
    Story("second model, 2,000 reviews", 2000, untouched),
    Story("labels shuffled", 800, shuffled, ("not worse than the champion",)),
    Story("wrong on long reviews", 2000, broken_on_long, ("no slice worse than the champion's",)),
    Story(
        "test reviews among those trained on",
        2000,
        with_test_reviews,
        ("overlap with training",),
    ),
    Story(
        "base model that saw the test reviews",
        2000,
        untouched,
        ("test reviews unseen in training",),
        base="leaky",
    ),
]


def main() -> int:
    """Run all stories; return 1 if one did not end as it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imdb", type=Path, required=True, help="folder with its Parquet files")
    parser.add_argument("--work", type=Path, default=Path(".nightshift/gate-on-imdb"))
    parser.add_argument("--test-rows", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="where to write what came of it")
    parser.add_argument(
        "--only",
        nargs="+",
        type=int,
        choices=range(1, len(STORIES) + 1),
        help="numbers of the stories; those before them were told by an earlier call",
    )
    given = parser.parse_args()
    set_client_defaults()
    chosen = [STORIES[number - 1] for number in given.only or range(1, len(STORIES) + 1)]
    told: list[dict[str, Any]] = []
    with local_services(prepare=lambda: __import__("flows.retrain")):
        for story in chosen:  # each is written when it ends, because the next may take long
            told.append(tell(story, given))
            if given.json:
                given.json.write_text(json.dumps(told, indent=2), encoding="utf-8")
    print(table(told))
    return 0 if all(entry["as_it_must"] for entry in told) else 1


def tell(story: Story, given: argparse.Namespace) -> dict[str, Any]:
    """Run one story and return its outcome."""
    imdb = read(given.imdb, "train"), sampled(read(given.imdb, "test"), given.test_rows)
    if story.base == "leaky":
        base = leaky_base(given.work, *imdb)
        story = Story(story.name, story.rows, story.spoil, story.caught_by, base)
    name = story.name.split(",")[0].replace(" ", "-")
    source = write(given.work / name, story.spoil(*imdb), imdb[1])
    done = retrained(story, source, MODEL, given.test_rows)
    failed = [clause.name for clause in done.verdict.clauses if not clause.passed]
    as_it_must = set(story.caught_by) <= set(failed) and bool(story.caught_by) != done.promoted
    return {
        "story": story.name,
        "version": done.version.version,
        "accuracy": str(done.evaluation.metrics["accuracy"]),
        "training_seconds": done.training_seconds,
        "promoted": done.promoted,
        "as_it_must": as_it_must,
        "failed": {c.name: c.text for c in done.verdict.clauses if not c.passed},
        "passed": {c.name: c.text for c in done.verdict.clauses if c.passed},
        "warnings": done.verdict.warnings,
    }


def table(told: list[dict[str, Any]]) -> str:
    """Format the results as a Markdown table."""
    lines = ["| model | accuracy | gate | clauses that refused it |", "|---|---|---|---|"]
    for entry in told:
        said = "champion" if entry["promoted"] else "refused"
        clauses = "; ".join(f"**{name}**: {text}" for name, text in entry["failed"].items())
        lines.append(f"| {entry['story']} | {entry['accuracy']} | {said} | {clauses or '-'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
