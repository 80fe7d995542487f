"""Small labelled files that were read wrongly, and without a word."""

import re
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from tests.cases.case import Case, Files, Found, both, done, fails, fast_retrain
from tests.cases.hostile_files import table
from tests.reviews import jsonl, reviews

_POSITIVE = ("a fine film number {}", "great fun, take {}", "I loved part {}", "wonderful scene {}")
_NEGATIVE = ("a dull film number {}", "no fun, take {}", "I hated part {}", "terrible scene {}")
_SECONDS = 150.0  # of a retraining, beyond the scoring of good data


def review(number: int) -> str:
    """Every second one is positive."""
    return (_POSITIVE if number % 2 else _NEGATIVE)[number % 4].format(number)


def labelled(labels: Sequence[str], rows: int = 100, begin: int = 0) -> bytes:
    """CSV with as many rows, whose labels come in turns."""
    lines = (f'"{review(n)}",{labels[n % len(labels)]}\n' for n in range(begin, begin + rows))
    return ("text,label\n" + "".join(lines)).encode()


def rare(rows: int, begin: int = 0) -> bytes:
    """More lines of the same CSV, of a third class."""
    lines = (f'"rare question {n}",abbreviation\n' for n in range(begin, begin + rows))
    return "".join(lines).encode()


def chance(rows: int = 600) -> bytes:
    """CSV whose labels have nothing to do with the texts; four of five are of one class."""
    return labelled(["neg", "neg", "neg", "pos", "neg"], rows)


def lists() -> bytes:
    """Parquet with a list of labels in each row."""
    labels = pa.array([[0], [1], [0, 1]] * 20)
    return table({"text": [review(n) for n in range(60)], "label": labels})


def retraining(name: str, *options: str) -> list[str]:
    """A retraining of the case's files."""
    return [*fast_retrain("{input}", name), "--no-engines.measure", *options]


def says(*patterns: str) -> Callable[[Found], str]:
    """The log has all of these."""

    def wrong(found: Found) -> str:
        flat = " ".join(found.text.split())
        missing = [pattern for pattern in patterns if not re.search(pattern, flat)]
        return f"{missing} is not in the log" if missing else ""

    return wrong


def _minus_one() -> Iterator[Case]:
    """-1 without a word about it, and named as a class in both ways of typing it."""
    files: Callable[[], Files] = lambda: {"reviews.csv": labelled(["-1", "1"])}  # noqa: E731
    advice = "--data.source.label-names=-1,1"
    yield Case(
        "minus-one",
        "-1 was taken for unlabelled: all rows of one class, and not a word about -1",
        "an error that says so, and how to name it as a class",
        files,
        fails("the label -1, which is read as unlabelled", advice),
        retraining("minus-one"),
        _SECONDS,
    )
    for name, options in {"typed": [advice], "apart": advice.split("=", 1)}.items():
        yield Case(
            f"minus-one-{name}",
            "the advice could not be typed",
            "two classes, -1 and 1",
            files,
            both(done, says(r"train: -1 \d+, 1 \d+")),
            retraining(f"minus-one-{name}", *options),
            _SECONDS,
        )


def challenger(name: str, seen: str, files: Callable[[], Files], *clauses: str) -> Case:
    """A first model that the gate refuses by these clauses, in these words."""
    return Case(
        name,
        seen,
        f"it stays challenger: {'; '.join(clauses)}",
        files,
        both(done, says(*(f"FAILED {clause}" for clause in clauses), f"{name} version 1 stays")),
        retraining(name, "--no-gate.must-beat-baseline"),
        _SECONDS,
    )


FIRST_CHAMPIONS = [
    challenger(
        "never-predicted",
        "champion, though one class was never predicted",
        lambda: {"reviews.csv": labelled(["neg", "pos"], 600) + rare(20)},
        "enough test reviews of each class: each needs 10: abbreviation has 4, 6 are missing",
    ),
    challenger(
        "few-test-rows",
        "champion on 12 test reviews",
        lambda: {"reviews.jsonl": jsonl(reviews(60))},
        "enough test reviews: 12, and a first champion needs 100: 88 are missing",
        "enough test reviews of each class: each needs 10: NEGATIVE has 6, 4 are missing",
    ),
    challenger(
        "small-class",
        "champion, though of one class there were 8 test reviews",
        lambda: {
            "train.csv": labelled(["neg", "pos"], 400) + rare(100),
            "test.csv": labelled(["neg", "pos"], 120, 1000) + rare(8, 1000),
        },
        "enough test reviews of each class: each needs 10: abbreviation has 8, 2 are missing",
    ),
    challenger(
        "no-better",
        "champion, though it was no better than one answer to all",
        lambda: {"reviews.csv": chance()},
        "better than the largest class: 0.[78]",
        "every class recognized: pos in none of 24 reviews",
    ),
    Case(
        "first-champion",
        "champion on whatever there was",
        "champion: 100 test reviews, 50 of each class, and it knows both",
        lambda: {"reviews.jsonl": jsonl(reviews(500))},
        both(
            done,
            says(
                "passed enough test reviews: 100, ",
                "passed better than the largest class: ",
                "first-champion version 1 is the champion",
            ),
        ),
        retraining("first-champion", "--no-gate.must-beat-baseline"),
        _SECONDS,
    ),
]
CASES = [
    *FIRST_CHAMPIONS,
    Case(
        "float-labels",
        "four classes, 0, 0.0, 1 and 1.0, and a champion",
        "two classes",
        lambda: {
            "2024.csv": labelled(["0", "1"]),
            "2025.csv": labelled(["0.0", "1.0"], begin=100),
        },
        both(done, says(r"train: 0 \d+, 1 \d+ ", r"test: 0 \d+, 1 \d+ ")),
        retraining("float-labels"),
        _SECONDS,
    ),
    *_minus_one(),
    Case(
        "browser-name",
        "the test file was trained on",
        "it is the test split, and the log names each file's split",
        lambda: {
            "train.csv": labelled(["neg", "pos"]),
            "test (1).csv": labelled(["neg", "pos"], 40, 200),
        },
        both(
            done,
            says(
                r"Files of test: test \(1\)\.csv ",
                r"Files of train: train\.csv ",
                r"test: neg 20, pos 20",
            ),
        ),
        retraining("browser-name"),
        _SECONDS,
    ),
    Case(
        "list-labels",
        "three classes, [0], [1] and [0, 1]",
        "a clear error: a label is one text, number or boolean",
        lambda: {"reviews.parquet": lists()},
        fails("A label must be one text, number or boolean", "a list", "reviews.parquet row 1"),
        retraining("list-labels"),
        _SECONDS,
    ),
    Case(
        "after-split",
        "passed a limit of 8 rows a class, though train then had 7, and validation one",
        "counted after the split",
        lambda: {"reviews.csv": labelled(["neg", "pos"], 20)},
        fails("train: after the split it has 7 of neg, 7 of pos", "needs 8"),
        retraining("after-split", "--data.validation.min-rows-a-class=8"),
        _SECONDS,
    ),
    Case(
        "stars",
        "stars could not be made classes of",
        "1 and 2 are one class, 4 and 5 the other, and 3 is left out and counted",
        lambda: {"reviews.csv": labelled(["1", "5", "2", "4", "3"], 200)},
        both(
            done,
            says(
                r"40 rows are left out by data.source.label_map",
                r"train: NEGATIVE \d+, POSITIVE \d+ ",
            ),
        ),
        retraining(
            "stars",
            "--data.source.label-map",
            "1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=-",
        ),
        _SECONDS,
    ),
]
