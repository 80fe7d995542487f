"""Measure the throughput of engines, in turns."""

from collections.abc import Callable, Mapping
from statistics import median

from tasks.core.engines.protocol import Engine
from tasks.core.engines.selection.texts import TokenRows

Clock = Callable[[], float]


def rows_per_second(
    opened: Mapping[str, Engine], rows: TokenRows, rounds: int, clock: Clock
) -> dict[str, float]:
    """Return the throughput of each engine in rows per second: the median of several alternating rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(rounds):
        for name, engine in opened.items():
            started = clock()
            engine.logits(rows.input_ids)
            seconds[name].append(clock() - started)
    return {name: len(rows.input_ids) / max(median(s), 1e-9) for name, s in seconds.items()}
