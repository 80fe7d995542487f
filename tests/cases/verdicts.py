"""Verdicts and figures that rest on nothing, or contradict themselves."""

import re
from collections.abc import Callable

from tests.cases.case import Case, Files, Found, both, done, fast_retrain
from tests.cases.labelled_files import labelled, retraining, review, says

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

CASES = [
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
                r"It will be scored by torch(-fp32)?:",
                r"openvino: \d+ of \d+ texts differ in label or by more than 0.05 in a probability: shows 9\d\.\d%",
                "cannot show that another engine agrees with fp32 in 0.999 of all reviews, which 2,995 would show",
            ),
        ),
        [*fast_retrain("{input}", "engine-few-texts"), "--engines.candidates", "torch,openvino"],
        _SECONDS,
    ),
]
