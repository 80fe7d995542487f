"""Isolate errors in work on many rows at once: the rows that fail get their error, the others their result."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from tasks.core.blame import may_be_the_rows, trace_of
from tasks.core.errors import ModelError

logger = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")


def each_or_error(
    work: Callable[[Sequence[A]], Sequence[T]],
    rows: Sequence[A],
    harmless: Callable[[], A],
    what: str,
) -> list[T | BaseException]:
    """Return the result of each row, or the error it raises by itself. Rows are tried apart only if the whole raises.

    Args:
        work: returns one result per row, in their order.
        rows: to work on.
        harmless: makes a row that works unless `work` is broken.
        what: name of what does the work, for the message: "The engine openvino".
    Raises:
        ModelError: the harmless row raises as well, so no row is the cause.
        BaseException: errors that no row can cause: a full disk, a cancellation.
    """
    try:
        return list(work(rows))
    except BaseException as error:
        if not may_be_the_rows(error):
            raise
        _require_working(work, harmless, what, error)
        logger.warning(
            "%s raised %s; looking for the reviews that cause it", what, type(error).__name__
        )
    return _halves(work, rows)


def _require_working(
    work: Callable[[Sequence[A]], Sequence[T]],
    harmless: Callable[[], A],
    what: str,
    first: BaseException,
) -> None:
    try:
        work([harmless()])
    except BaseException as error:
        if not may_be_the_rows(error):
            raise
        if isinstance(first, ModelError):
            raise first from None
        logger.error("%s fails:\n%s", what, trace_of(first))
        raise ModelError(
            f"{what} raises {type(first).__name__} even for a harmless review, so no review is the cause",
            "",
            "look at the trace in the log; choose another engine, or another version of the model",
        ) from None


def _halves(
    work: Callable[[Sequence[A]], Sequence[T]], rows: Sequence[A]
) -> list[T | BaseException]:
    results: list[T | BaseException] = []
    middle = max(1, len(rows) // 2)
    for half in (rows[:middle], rows[middle:]):
        if not half:
            continue
        try:
            results += work(half)
        except BaseException as error:
            if not may_be_the_rows(error):
                raise
            results += [error] if len(half) == 1 else _halves(work, half)
    return results
