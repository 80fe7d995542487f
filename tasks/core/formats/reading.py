"""Files read: whole, a span of them, or only as far as is needed to cut them into spans."""

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from typing import IO

import pyarrow as pa

from tasks.core.errors import UnreadableDataError
from tasks.core.formats.base import Row, Span, UnfitError
from tasks.core.formats.compression import unpacked
from tasks.core.formats.detection import HEAD_BYTES, detect
from tasks.core.formats.registry import FORMATS

_CHUNK = 1024 * 1024


def decode(
    name: str,
    stream: IO[bytes],
    span: Span | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[Row]:
    """The rows of a file, in order; a row that cannot be read comes with its `problem` instead of values.

    Args:
        name: file name or key.
        stream: seekable binary stream at its start: of the whole file, or of `span.byte_range` where that is not None.
        span: only these rows, as `cut` gave them.
        columns: names or dotted paths that are asked for. Others are not decoded where the format allows it, so that
            nothing in them can be in the way. None: all.
    Raises:
        UnreadableDataError: the file as a whole cannot be read (truncated, not of its format, no header), or holds
            fewer rows than the span says.
    """
    whole = span or _kind(name, stream)
    reader = FORMATS[whole.format]
    with _saying(name, whole):
        content = unpacked(stream, whole.compression)
        if span is None:
            yield from reader.decode(content, None, columns)
            return
        if whole.compression and reader.by_bytes:
            _pass_over(content, span.offset)
        count = 0
        for row in itertools.islice(reader.decode(content, span, columns), span.rows):
            count += 1
            yield row
        if span.rows is not None and count < span.rows:
            raise UnfitError(
                f"{count} rows where there were {span.rows} when it was cut", "run again"
            )


def cut(name: str, stream: IO[bytes], part_bytes: int) -> list[Span]:
    """The spans of a file, on record boundaries as `decode` sees them; together they are the file. At least one.

    The whole file is read once, so it is also known to be whole then.

    Args:
        name: file name or key.
        stream: seekable binary stream of the whole file, at its start.
        part_bytes: about so many bytes of unpacked content are in a span; row groups of Parquet are not cut.
    Raises:
        UnreadableDataError: as `decode`.
    """
    whole = _kind(name, stream)
    with _saying(name, whole):
        content = unpacked(stream, whole.compression)
        return list(FORMATS[whole.format].cut(content, part_bytes, whole))


def _kind(name: str, stream: IO[bytes]) -> Span:
    """The whole file as one span, of the kind that its content and its name tell."""
    begin = stream.tell()
    kind = detect(name, stream.read(HEAD_BYTES))
    stream.seek(begin)
    alone = FORMATS[kind.format].by_bytes and kind.compression is None
    return Span(kind.format, kind.compression, alone=alone)


def _pass_over(content: IO[bytes], size: int) -> None:
    while size > 0:
        passed = len(content.read(min(size, _CHUNK)))
        if not passed:
            raise EOFError("it ends before the span begins")
        size -= passed


@contextlib.contextmanager
def _saying(name: str, whole: Span) -> Generator[None]:
    """Errors of the libraries as one of ours; those of the disk or the network are let through."""
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
            else "check that the file is whole and is what its extension says",
        ) from error
