"""Progress of long work: lines in the log, a bar on the run's page, an estimate of the remaining time."""

import logging
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tasks.core.readable import duration
from tasks.runtime.reporting.artifacts import Progress
from tasks.runtime.reporting.silence import PROGRESS_SECONDS

logger = logging.getLogger(__name__)

_MARK_EVERY = 64  # items
# If the rest is done at 3/4 to 4/3 of the measured rate, estimate and truth are within a third of each other.
_SLOWEST, _FASTEST = 3 / 4, 4 / 3
_LEAST_SECONDS = 10.0
# In each quarter: with fewer, one item more or less at its edge changes its rate by more than a quarter.
_LEAST_MARKS = 4
_MOST_MARKS = 256
_MARK_SECONDS = 0.1
T = TypeVar("T")


class _Rate:
    """Rate of work in the later half of the time so far, which leaves out loading, compiling and first batches.

    It is known once both quarters of that half agree well enough for an estimate that is within a third, and while the
    work goes on.
    """

    def __init__(self) -> None:
        self._began, self._apart = time.monotonic(), _MARK_SECONDS
        self._marks = [(0.0, 0)]  # seconds, and units done by then

    def mark(self, units: int) -> None:
        """Note that so many units are done now. Marks are thinned out as they grow many."""
        seconds = time.monotonic() - self._began
        if seconds - self._marks[-1][0] >= self._apart:
            self._marks.append((seconds, units))
        if len(self._marks) > _MOST_MARKS:
            del self._marks[1::2]
            self._apart *= 2

    def back_to(self, units: int) -> None:
        """Forget marks of work that was undone."""
        self._marks = [mark for mark in self._marks if mark[1] <= units]

    def rate(self) -> float | None:
        """Return units a second, or None if it is not known well enough."""
        last, seconds = len(self._marks) - 1, self._marks[-1][0]
        half, late = (bisect_left(self._marks, (seconds * part, 0)) for part in (0.5, 0.75))
        if seconds < _LEAST_SECONDS or min(late - half, last - late) < _LEAST_MARKS:
            return None
        if (
            time.monotonic() - self._began - seconds > seconds / 8
        ):  # it has slowed down or stands still
            return None
        rate = self._between(half, last)
        quarters = self._between(half, late), self._between(late, last)
        steady = all(_SLOWEST * rate <= quarter <= _FASTEST * rate for quarter in quarters)
        return rate if steady and rate > 0 else None

    def _between(self, first: int, last: int) -> float:
        (began, before), (ended, after) = self._marks[first], self._marks[last]
        return (after - before) / (ended - began)


class ProgressMeter:
    """Logs progress at intervals: how much of a known total is done, the throughput, and the remaining time.

    The remaining time is left out until it can be expected to be within a third.

    Args:
        what: name of the items, such as "reviews".
        of: units in total; the bar and the estimate are based on them. May be set later.
        bar: key of the bar on the run's page; '' for none.
    """

    def __init__(self, what: str, of: int, bar: str = "") -> None:
        self._what, self.of = what, of
        self._progress = Progress(bar, f"{what} done") if bar else None
        self._start()
        self._count = self.done = self._skipped = 0

    def _start(self) -> None:
        self._began = self._logged = time.monotonic()
        self._rate = _Rate()

    def add(self, count: int, done: int) -> None:
        """Add `count` items, which account for `done` units of the total."""
        self._count, self.done = self._count + count, self.done + done
        if done:
            self._rate.mark(self.done - self._skipped)
        if self._progress:
            self._progress.at(self.done, self.of)
        if time.monotonic() - self._logged >= PROGRESS_SECONDS:
            self._logged = time.monotonic()
            logger.info(self.text())

    def skip(self, done: int) -> None:
        """Count units that need no work. They are left out of the throughput and of the estimate."""
        if not self._count:
            self._start()
        self._skipped += done
        self.add(0, done)

    @contextmanager
    def or_undone(self) -> Generator[None]:
        """Undo what was added in the block if it ends with an error, because that work will be repeated."""
        before = self._count, self.done, self._skipped
        try:
            yield
        except BaseException:
            self._count, self.done, self._skipped = before
            self._rate.back_to(self.done - self._skipped)
            raise

    def text(self) -> str:
        """Return the progress as one line of text."""
        per_second = self._count / max(time.monotonic() - self._began, 1e-9)
        digits = ",.1f" if per_second >= 1 or not self._count else ".2g"
        text = f"{self.amount()}, {per_second:{digits}} a second"
        if self.done <= self._skipped or self.done >= self.of:
            return text
        left = self.seconds_left()
        about = "" if left is None else f", about {duration(left)} left"
        return f"{text}; {self.done / self.of:.0%} done{about}"

    def amount(self) -> str:
        """Return the number of items in words."""
        return f"{self._count:,} {self._what}"

    def seconds_left(self) -> float | None:
        """Return an estimate of the remaining time, or None while it may be off by more than a third."""
        rate = self._rate.rate()
        return (self.of - self.done) / rate if rate else None


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
            fraction: of the input that has been read with an item, from 0 to 1.
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
