"""How far long work is, for people: lines in the log, a bar on the run's page, an estimate of the end."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tasks.reports import Progress

logger = logging.getLogger(__name__)

_SAY_SECONDS = 60.0
T = TypeVar("T")


class Pace:
    """Says now and then how much of a known whole is done, how fast it goes, and when it will be over.

    Args:
        what: it is that is done, such as "reviews".
        of: units in all; the bar and the estimate go by them.
        bar: key of the bar on the run's page; '' for none.
    """

    def __init__(self, what: str, of: int, bar: str = "") -> None:
        self._what, self._of = what, of
        self._progress = Progress(bar, f"{what} done") if bar else None
        self._began = self._spoken = time.monotonic()
        self._count = self._done = 0

    def add(self, count: int, done: int) -> None:
        """So many more, which are so many units of the whole."""
        self._count, self._done = self._count + count, self._done + done
        if self._progress:
            self._progress.at(self._done, self._of)
        if time.monotonic() - self._spoken >= _SAY_SECONDS:
            self._spoken = time.monotonic()
            logger.info(self.text())

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, counted on their way."""
        for item in items:
            self.add(1, 0)
            yield item

    def text(self) -> str:
        """One line of it."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        said = f"{self._count:,} {self._what}, {self._count / seconds:,.1f} a second"
        if not self._done or self._done >= self._of:
            return said
        left = seconds * (self._of - self._done) / self._done
        return f"{said}; {self._done / self._of:.0%} done, about {duration(left)} left"


def duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
