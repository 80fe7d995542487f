"""Verdicts and figures that rest on nothing, or contradict themselves."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cases.case import Case, Files, Found, both, done, fast_retrain
from tests.cases.labelled_files import labelled, retraining, review, says
from tests.cases.servers import Bench

_SECONDS = 150.0
_INTERVAL = re.compile(r"(\w+) (-?\d+\.\d+) \[(-?\d+\.\d+), (-?\d+\.\d+)\]")


def doubtful(rows: int) -> bytes:
    """CSV in which every fourth label is wrong, so that confidence is spread over many bins."""
    lines = (f'"{review(n)}",{("neg", "pos")[(n + (n % 7 < 2)) % 2]}\n' for n in range(rows))
    return ("text,label\n" + "".join(lines)).encode()


def holds_its_estimates(found: Found) -> str:
    """Every figure of the log lies within its own interval, and the calibration error is among them."""
    figures = _INTERVAL.findall(" ".join(found.text.split()))
    outside = [
        figure for figure in figures if not float(figure[2]) <= float(figure[1]) <= float(figure[3])
    ]
    if "calibration_error" not in [name for name, *_ in figures]:
        return "the calibration error is not in the log"
    return f"outside of their intervals: {outside}" if outside else ""


_DOUBTFUL: Callable[[], Files] = lambda: {"reviews.csv": doubtful(400)}  # noqa: E731

_SOURCES: Callable[[], Files] = lambda: {  # noqa: E731
    "here/reviews.csv": labelled(["neg", "pos"], 600),
    "there/reviews.csv": labelled(["pos", "neg"], 600),  # of what is praised here
}
_ALLOWED = ("--gate.plausibility.max-overlap-fraction=1", "--no-gate.must-beat-baseline")
_NEW_TEST_SET = ("--data.split.new-test-set", "--data.split.seed=7")


def _champion_of_here(bench: Bench, code: Path, command: list[str]) -> Mapping[str, str]:
    """The same command before, of the other source."""
    ended = bench.command(code, [part.replace("/there", "/here") for part in command], 900.0)
    if ended.status:
        raise RuntimeError(f"There is no champion:\n{ended.text[-3000:]}")
    return {}


def _champion_that_knows(bench: Bench, code: Path, command: list[str]) -> Mapping[str, str]:
    """The same command before, on the first test set, allowed to know it."""
    first = [part for part in command if part not in _NEW_TEST_SET]
    return _champion_of_here(bench, code, [*first, *_ALLOWED])


CASES = [
    Case(
        "other-source",
        "champion replaced, no line says that the test set is another",
        "said in the verdict's first line, and the old test set is asked, too",
        _SOURCES,
        both(
            done,
            says(
                r"passed source and test set: both differ from the champion's: this model was trained on \S+there",
                "FAILED not worse than the champion on its own test set: .*--overrule' allows it",
            ),
        ),
        [*fast_retrain("{input}there", "other-source-{side}"), "--no-engines.measure", *_ALLOWED],
        _SECONDS,
        prepare=_champion_of_here,
    ),
    Case(
        "known-to-champion",
        "counted by exact text for the champion, by near-duplicates for the candidate",
        "one way to count, and what to type",
        lambda: {"reviews.csv": labelled(["neg", "pos"], 600)},
        both(
            done,
            says(
                r"FAILED comparable with the champion: .* have a near-duplicate in what it was trained on, "
                r"limit 0\.0500; --gate\.plausibility\.max-overlap-fraction=",
            ),
        ),
        retraining("known-{side}", *_NEW_TEST_SET),
        _SECONDS,
        prepare=_champion_that_knows,
    ),
    Case(
        "calibration-error",
        "0.0263 [0.0281, 0.0673]: outside its own interval",
        "an interval that holds its estimate",
        _DOUBTFUL,
        both(done, holds_its_estimates),
        retraining("calibration-error", "--evaluation.confidence=0.5"),
        _SECONDS,
    ),
    Case(
        "engine-few-texts",
        "int8 chosen on 167 reviews; one probability 0.379 where the model says 0.556",
        "what so few reviews show is said, and fp32 scores",
        lambda: {"reviews.csv": labelled(["neg", "pos"], 200)},
        both(
            done,
            says(
                r"The model will be scored by torch(-fp32)?:",
                r"openvino: \d+ of \d+ texts differ in label or by more than 0.05 in a probability: shows 9\d\.\d%",
                r"cannot show that another engine agrees with fp32 in 0\.999 of all reviews \(2,995 are needed\)",
            ),
        ),
        [*fast_retrain("{input}", "engine-few-texts"), "--engines.candidates", "torch,openvino"],
        _SECONDS,
    ),
]
