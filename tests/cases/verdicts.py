"""Verdicts and figures that rest on nothing, or contradict themselves."""

import re
from collections.abc import Callable

from tests.cases.case import Case, Files, Found, both, done
from tests.cases.labelled_files import retraining, review

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
]
