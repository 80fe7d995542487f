"""Grouping of a file's records into spans, and concatenation of encoded parts."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO

from tasks.core.formats.base import Span


def grouped(
    starts: Iterable[tuple[int, int]], end: Callable[[], tuple[int, int]], part: int, whole: Span
) -> Iterator[Span]:
    """Group the records that begin at `starts` into spans.

    Args:
        starts: offset and line of each record, in order.
        end: called after the last record; returns the offset of the file's end and the number of records.
        part: least length of a span; it ends with the first record that reaches it.
        whole: the start of the first span, and the fields that all spans share.
    """
    span, number = whole, 0
    for number, (offset, line) in enumerate(starts, start=1):
        if number > span.first_row and offset - span.offset >= part:
            yield replace(span, rows=number - span.first_row, end=offset)
            span = replace(span, first_row=number, offset=offset, line=line)
    stop, records = end()
    yield replace(span, rows=records - span.first_row + 1, end=stop)


def concatenated(parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
    """Write the bytes of the parts one after the other."""
    for part in parts:
        shutil.copyfileobj(part, stream, 1 << 20)
