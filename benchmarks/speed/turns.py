"""Run sides in turns: every round runs each side once, so that a noisy machine affects all alike.

Ratios are computed per round, and reported as median and range: each compares runs of the same minute.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Side = Callable[[], float | None]


def seconds_in_turns(
    name: str, sides: Mapping[str, Side], rounds: int, warm_ups: int = 1
) -> dict[str, list[float]]:
    """Measure the seconds of each side in each round.

    Args:
        name: the measurement's name, for the log.
        sides: name to work; work that is timed elsewhere (in another process) returns its seconds.
        rounds: the number of rounds that count.
        warm_ups: the number of rounds before them, which do not.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(warm_ups + rounds):
        # Reverse every other round, so that no side always runs after the same one.
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for side in order:
            started = time.perf_counter()
            told = sides[side]()
            spent = time.perf_counter() - started if told is None else told
            if number >= warm_ups:
                seconds[side].append(spent)
        print(f"{name}: round {number + 1} of {warm_ups + rounds}", file=sys.stderr, flush=True)
    return seconds


def figures(
    seconds: Mapping[str, list[float]], side: str, baseline: str, rows: int
) -> dict[str, Any]:
    """Return reviews/s by the median, the ratio to a baseline by rounds, and its range."""
    ratios = sorted(b / s for b, s in zip(seconds[baseline], seconds[side], strict=True))
    return {
        "reviews_per_second": round(rows / statistics.median(seconds[side]), 2),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "seconds": [round(s, 3) for s in seconds[side]],
    }
