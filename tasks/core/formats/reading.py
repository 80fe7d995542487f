"""Reading of files: decode a whole file or a span of it, or cut a file into spans."""

import contextlib
import functools
import itertools
import logging
from collections.abc import Generator, Iterator, Sequence
from typing import IO

import pyarrow as pa

from tasks.core.errors import UnreadableDataError
from tasks.core.formats.base import Row, Span, UnfitError
from tasks.core.formats.detection.compression import unpacked
from tasks.core.formats.detection.content import HEAD_BYTES, SEPARATORS, detect
from tasks.core.formats.detection.text_encodings import UTF8, recoded
from tasks.core.formats.registry import FORMATS, format_for

logger = logging.getLogger(__name__)

_CHUNK = 1024 * 1024


def decode(
    name: str,
    stream: IO[bytes],
    span: Span | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = UTF8,
) -> Iterator[Row]:
    """Yield the rows of a file, in order; an unreadable row has a `problem` instead of values.

    Args:
        name: file name or key.
        stream: seekable binary stream at its start: of the whole file, or of `span.byte_range` if that is not None.
        span: only these rows, as `cut` returned them.
        columns: names or dotted paths to decode. Other columns are not decoded if the format allows it, so that
            nothing in them can fail. None: all.
        encoding: of a text that has no byte order mark and is not UTF-8; a span has its own.
    Raises:
        UnreadableDataError: the file as a whole cannot be read (truncated, not of its format, no header), or holds
            fewer rows than the span says.
    """
    whole = span or _kind(name, stream, encoding)
    reader = format_for(whole)
    with _naming_the_file(name, whole):
        content = recoded(unpacked(stream, whole.compression), whole.encoding)
        if span is None:
            yield from reader.decode(content, None, columns)
            return
        if reader.by_bytes and not whole.alone:
            _pass_over(content, span.offset)
        count = 0
        for row in itertools.islice(reader.decode(content, span, columns), span.rows):
            count += 1
            yield row
        if span.rows is not None and count < span.rows:
            raise UnfitError(
                f"it has {count} rows here, but had {span.rows} when it was split", "run again"
            )


def cut(name: str, stream: IO[bytes], part_bytes: int, encoding: str = UTF8) -> list[Span]:
    """Cut a file into one or more spans, on record boundaries as `decode` sees them.

    This reads the whole file once, and so also checks that it is complete.

    Args:
        name: file name or key.
        stream: seekable binary stream of the whole file, at its start.
        part_bytes: approximate bytes of unpacked content per span; row groups of Parquet are not cut.
        encoding: see `decode`.
    Raises:
        UnreadableDataError: see `decode`.
    """
    whole = _kind(name, stream, encoding)
    with _naming_the_file(name, whole):
        content = recoded(unpacked(stream, whole.compression), whole.encoding)
        return list(format_for(whole).cut(content, part_bytes, whole))


def _kind(name: str, stream: IO[bytes], encoding: str) -> Span:
    """Detect the kind of a file by its content and name, and return the whole file as one span."""
    begin = stream.tell()
    kind = detect(name, stream.read(HEAD_BYTES), encoding)
    stream.seek(begin)
    is_recoded = kind.encoding != UTF8
    _log_how(
        name, kind.name_format or kind.format, kind.delimiter, kind.encoding if is_recoded else ""
    )
    alone = FORMATS[kind.format].by_bytes and kind.compression is None and not is_recoded
    return Span(
        kind.format,
        kind.compression,
        alone=alone,
        delimiter=kind.delimiter,
        encoding=kind.encoding,
    )


@functools.lru_cache(maxsize=10_000)  # a file is opened several times, but logged once
def _log_how(name: str, name_format: str, delimiter: str, encoding: str) -> None:
    if delimiter:
        separators = SEPARATORS[delimiter.encode()]
        logger.info(
            "%s: %s separate its fields (its name says %s)", name, separators, name_format.upper()
        )
    if encoding:
        logger.info("%s: reading it as %s unless it is UTF-8", name, encoding)


def _pass_over(content: IO[bytes], size: int) -> None:
    while size > 0:
        passed = len(content.read(min(size, _CHUNK)))
        if not passed:
            raise EOFError("it ends before the span begins")
        size -= passed


@contextlib.contextmanager
def _naming_the_file(name: str, whole: Span) -> Generator[None]:
    """Turn library errors into UnreadableDataError; let disk and network errors through."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        packed = f" ({whole.compression})" if whole.compression else ""
        raise UnreadableDataError(
            f"Not readable as {whole.format}{packed}: {' '.join(str(error).split())}",
            name,
            error.fix
            if isinstance(error, UnfitError)
            else "check that the file is complete and matches its extension",
        ) from error
