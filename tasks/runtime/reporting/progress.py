"""Progress of long work: lines in the log, a bar on the run's page, an estimate of the remaining time."""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tasks.runtime.reporting.artifacts import Progress

logger = logging.getLogger(__name__)

_LOG_SECONDS = 60.0
_MARK_EVERY = 64  # items
T = TypeVar("T")


class ProgressMeter:
    """Logs progress at intervals: how much of a known total is done, the throughput, and the remaining time.

    Args:
        what: name of the items, such as "reviews".
        of: units in total; the bar and the estimate are based on them.
        bar: key of the bar on the run's page; '' for none.
    """

    def __init__(self, what: str, of: int, bar: str = "") -> None:
        self._what, self._of = what, of
        self._progress = Progress(bar, f"{what} done") if bar else None
        self._began = self._logged = time.monotonic()
        self._count = self._done = self._skipped = 0

    def add(self, count: int, done: int) -> None:
        """Add `count` items, which account for `done` units of the total."""
        self._count, self._done = self._count + count, self._done + done
        if self._progress:
            self._progress.at(self._done, self._of)
        if time.monotonic() - self._logged >= _LOG_SECONDS:
            self._logged = time.monotonic()
            logger.info(self.text())

    def skip(self, done: int) -> None:
        """Count units that need no work. They are left out of the estimate of the remaining time."""
        self._skipped += done
        self.add(0, done)

    @contextmanager
    def or_undone(self) -> Generator[None]:
        """Undo what was added in the block if it ends with an error, because that work will be repeated."""
        before = self._count, self._done, self._skipped
        try:
            yield
        except BaseException:
            self._count, self._done, self._skipped = before
            raise

    def text(self) -> str:
        """Return the progress as one line of text."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        text = f"{self._count:,} {self._what}, {self._count / seconds:,.1f} a second"
        worked = self._done - self._skipped
        if worked <= 0 or self._done >= self._of:
            return text
        remaining = seconds * (self._of - self._done) / worked
        return f"{text}; {self._done / self._of:.0%} done, about {duration(remaining)} left"


_under_way: ContextVar[ProgressMeter | None] = ContextVar("progress_meter", default=None)


@contextmanager
def use_meter(meter: ProgressMeter) -> Generator[ProgressMeter]:
    """Make this the current meter: steps called in the block add to it, so its bar moves while they work."""
    token = _under_way.set(meter)
    try:
        yield meter
    finally:
        _under_way.reset(token)


def current_meter(what: str, of: int) -> ProgressMeter:
    """Return the current meter, or else a new one without a bar."""
    return _under_way.get() or ProgressMeter(what, of)


class ReadAheadMeter:
    """Reports finished items to a meter when the reader is far ahead: only the reader knows an item's share.

    Args:
        meter: to add to.
    """

    def __init__(self, meter: ProgressMeter) -> None:
        self._meter = meter
        self._marks: deque[tuple[int, int]] = deque()  # filled by one thread, emptied by another
        self._read = self._passed = self._before = self._done = 0

    def reading(
        self, items: Iterable[T], units: int, fraction: Callable[[T], float]
    ) -> Iterator[T]:
        """Pass the items through on the reader's side, and note their share of the units.

        Args:
            items: of one input.
            units: of the whole input.
            share: the fraction of the input that has been read with an item, from 0 to 1.
        """
        try:
            for item in items:
                self._read += 1
                if self._read % _MARK_EVERY == 0:
                    self._mark(self._before + int(units * min(fraction(item), 1.0)))
                yield item
        finally:
            self.unread(units)

    def unread(self, units: int) -> None:
        """Note that an input has ended, or cannot be read."""
        self._before += units
        self._mark(self._before)

    def _mark(self, done: int) -> None:
        self._marks.append((self._read, done))

    def passed(self) -> None:
        """Count one more finished item."""
        self._passed += 1
        done = self._done
        while self._marks and self._marks[0][0] <= self._passed:
            done = max(done, self._marks.popleft()[1])
        self._meter.add(1, done - self._done)
        self._done = done

    def over(self) -> None:
        """Report the rest: all items are finished, and the remaining units belong to inputs without items."""
        self._meter.add(0, self._before - self._done)
        self._done = self._before


def duration(seconds: float) -> str:
    """Format a duration for people: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
