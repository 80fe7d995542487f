"""How the records of a file are grouped into spans, and how encoded parts that can be laid end to end are joined."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO

from tasks.core.formats.base import Span


def grouped(
    starts: Iterable[tuple[int, int]], end: Callable[[], tuple[int, int]], part: int, whole: Span
) -> Iterator[Span]:
    """The spans of records that begin at `starts`.

    Args:
        starts: offset and line of each record, in order.
        end: called after the last one: where the file ends, and how many records it has.
        part: a span ends with the first record with which it is at least so long.
        whole: where the first span begins, and what all have in common.
    """
    span, number = whole, 0
    for number, (offset, line) in enumerate(starts, start=1):
        if number > span.first_row and offset - span.offset >= part:
            yield replace(span, rows=number - span.first_row, end=offset)
            span = replace(span, first_row=number, offset=offset, line=line)
    stop, records = end()
    yield replace(span, rows=records - span.first_row + 1, end=stop)


def concatenated(parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
    """The bytes of the parts, one after the other."""
    for part in parts:
        shutil.copyfileobj(part, stream, 1 << 20)
