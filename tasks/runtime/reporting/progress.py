"""How far long work is, for people: lines in the log, a bar on the run's page, an estimate of the end."""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tasks.runtime.reporting.artifacts import Progress

logger = logging.getLogger(__name__)

_SAY_SECONDS = 60.0
_MARK_EVERY = 64  # items
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
        self._count = self._done = self._skipped = 0

    def add(self, count: int, done: int) -> None:
        """So many more, which are so many units of the whole."""
        self._count, self._done = self._count + count, self._done + done
        if self._progress:
            self._progress.at(self._done, self._of)
        if time.monotonic() - self._spoken >= _SAY_SECONDS:
            self._spoken = time.monotonic()
            logger.info(self.text())

    def skip(self, done: int) -> None:
        """So many units need no work: they say nothing of how long the others take."""
        self._skipped += done
        self.add(0, done)

    @contextmanager
    def or_undone(self) -> Generator[None]:
        """What was added meanwhile is taken back when it ends with an error: it will be done again."""
        before = self._count, self._done, self._skipped
        try:
            yield
        except BaseException:
            self._count, self._done, self._skipped = before
            raise

    def text(self) -> str:
        """One line of it."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        said = f"{self._count:,} {self._what}, {self._count / seconds:,.1f} a second"
        worked = self._done - self._skipped
        if worked <= 0 or self._done >= self._of:
            return said
        left = seconds * (self._of - self._done) / worked
        return f"{said}; {self._done / self._of:.0%} done, about {duration(left)} left"


_under_way: ContextVar[Pace | None] = ContextVar("pace", default=None)


@contextmanager
def paced(pace: Pace) -> Generator[Pace]:
    """Steps that are called meanwhile add to this pace, so that its bar moves while they work."""
    token = _under_way.set(pace)
    try:
        yield pace
    finally:
        _under_way.reset(token)


def pace_of(what: str, of: int) -> Pace:
    """The pace that is under way; else one of its own, without a bar."""
    return _under_way.get() or Pace(what, of)


class Gauge:
    """Tells a pace what comes out of work whose reader is far ahead: only the reader knows what an item comes to.

    Args:
        pace: to add to.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._marks: deque[tuple[int, int]] = deque()  # filled by one thread, emptied by another
        self._read = self._passed = self._before = self._done = 0

    def reading(self, items: Iterable[T], units: int, share: Callable[[T], float]) -> Iterator[T]:
        """The same items, on the reader's side.

        Args:
            items: of one input.
            units: that all of it comes to.
            share: what part of the input is read with an item, from 0 to 1.
        """
        try:
            for item in items:
                self._read += 1
                if self._read % _MARK_EVERY == 0:
                    self._mark(self._before + int(units * min(share(item), 1.0)))
                yield item
        finally:
            self.unread(units)

    def unread(self, units: int) -> None:
        """An input is over, or cannot be read."""
        self._before += units
        self._mark(self._before)

    def _mark(self, done: int) -> None:
        self._marks.append((self._read, done))

    def passed(self) -> None:
        """One item more came out."""
        self._passed += 1
        done = self._done
        while self._marks and self._marks[0][0] <= self._passed:
            done = max(done, self._marks.popleft()[1])
        self._pace.add(1, done - self._done)
        self._done = done

    def over(self) -> None:
        """All of it came out; what is left are inputs that hold no item."""
        self._pace.add(0, self._before - self._done)
        self._done = self._before


def duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
