"""Sides in turns: every round runs each side once, so that a noisy machine hurts all alike.

Ratios are taken round by round and their median is told with its range: each compares what ran within the same minute.
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
    """Seconds of each side in each round.

    Args:
        name: of the measurement, for the log.
        sides: name to work; work that is timed elsewhere (in another process) returns its seconds.
        rounds: that count.
        warm_ups: rounds before that, which do not.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(warm_ups + rounds):
        # every other round backwards: no side always runs behind the same one
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
    """reviews/s by the median, the ratio to a baseline by rounds, and its range."""
    ratios = sorted(b / s for b, s in zip(seconds[baseline], seconds[side], strict=True))
    return {
        "reviews_per_second": round(rows / statistics.median(seconds[side]), 2),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "seconds": [round(s, 3) for s in seconds[side]],
    }
