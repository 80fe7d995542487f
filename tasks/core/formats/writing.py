"""Writing of files: encode a whole file, or parts of it that are joined later."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from tasks.core.formats.delimited.formulas import guarded
from tasks.core.formats.detection.compression import is_empty_member, packed, unpacked
from tasks.core.formats.detection.names import format_of
from tasks.core.formats.registry import FORMATS, SPREADSHEETS
from tasks.core.formats.values import cell


def encode(
    name: str,
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    stream: IO[bytes],
    header: bool = True,
    guard: bool = False,
    types: Mapping[str, Any] | None = None,
) -> None:
    """Write rows to a stream in the format and compression that `name` indicates. The same rows give the same bytes.

    Args:
        name: name of the future file.
        rows: each with a value for each column.
        columns: in their order.
        stream: binary; stays open.
        header: False for a part that is joined behind another.
        guard: in CSV and TSV, turn cells that a spreadsheet would run as formulas into texts (`formulas.guarded`).
        types: types of columns, if known; see `Format.encode`.
    """
    kind, compression = format_of(name)
    if guard and kind in SPREADSHEETS:
        rows, columns = _guarded(rows, columns), [guarded(column) for column in columns]
    with packed(stream, compression) as sink:
        FORMATS[kind].encode(rows, columns, sink, header, types)


def _guarded(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {guarded(column): guarded(cell(row[column])) for column in columns}


def join(name: str, parts: Sequence[IO[bytes]], stream: IO[bytes]) -> None:
    """Join parts that were encoded under the same name into one file, in their order. Deterministic.

    Args:
        name: name of the future file; it indicates format and compression, as in `encode`.
        parts: seekable streams at their start; all but the first encoded with header=False.
        stream: binary; stays open.
    """
    kind, compression = format_of(name)
    if FORMATS[kind].by_bytes:  # compressed parts become members of one file
        filled = [part for part in parts if not is_empty_member(part, compression)]
        FORMATS[kind].join(filled or parts[:1], stream)
        return
    with contextlib.ExitStack() as opened, packed(stream, compression) as sink:
        FORMATS[kind].join([_plain(part, compression, opened) for part in parts], sink)


def _plain(part: IO[bytes], compression: str | None, opened: contextlib.ExitStack) -> IO[bytes]:
    """Return the part, unpacked into a temporary file if it is compressed as a whole."""
    if compression is None:
        return part
    file: IO[bytes] = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(unpacked(part, compression), file, 1 << 20)
    file.seek(0)
    return file
