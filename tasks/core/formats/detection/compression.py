"""Compression of whole files, detected by the first bytes, not by the name. A file may have several members."""

import bz2
import contextlib
import io
from collections.abc import Generator
from typing import IO, Any

import pyarrow as pa

from tasks.core.formats.base import LeftOpen, UnfitError, require_plausible

COMPRESSIONS = {"gz": "gzip", "zst": "zstd", "zstd": "zstd", "bz2": "bz2"}
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([skippable]) + b"\x2a\x4d\x18": "zstd" for skippable in range(0x50, 0x60)},
    **{b"BZh%d" % level: "bz2" for level in range(1, 10)},
}
_CHUNK = 1 << 20
_NOT_A_MEMBER = (  # error texts of the libraries for bytes that begin no member
    "incorrect header check",
    "unknown compression method",
    "Unknown frame descriptor",
    "Invalid data stream",
)
_EMPTY_BZ2_BYTES = 14


def compression_of(head: bytes) -> str | None:
    """Return the compression of a file that begins with `head`, or None."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def unpacked(stream: IO[bytes], compression: str | None) -> IO[bytes]:
    """Return the unpacked content of a stream that is at its start.

    Reading it raises OSError if a member is truncated or damaged (EOFError if a bz2 member is truncated), and
    UnfitError if it unpacks to far too much or if other bytes stand between or after its members.
    """
    if compression is None:
        return stream
    return io.BufferedReader(_Unpacked(stream, compression), 1 << 20)


def stored_bytes(content: IO[bytes]) -> int:
    """Return the size of the stored file in bytes; for a stream from `unpacked`, its packed size."""
    raw = getattr(content, "raw", None)
    return raw.packed_bytes if isinstance(raw, _Unpacked) else _bytes_left(content)


def _bytes_left(stream: IO[bytes]) -> int:
    begin = stream.tell()
    size = stream.seek(0, io.SEEK_END) - begin
    stream.seek(begin)
    return size


class _Unpacked(io.RawIOBase):
    """An unpacking stream that refuses a file made to fill the disk or the memory."""

    def __init__(self, stream: IO[bytes], compression: str) -> None:
        self._bytes = 0
        self._compression = compression
        self.packed_bytes = _bytes_left(stream)
        self._source = _source(stream, compression)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._source.readinto(buffer)
        except OSError as error:
            if not error.errno and str(error).endswith(_NOT_A_MEMBER):
                raise UnfitError(
                    f"not all of it is compressed with {self._compression}: other bytes come between or after",
                    "check that the file is complete, and that nothing was appended to it",
                ) from error
            raise
        self._bytes += count
        require_plausible(self._bytes, self.packed_bytes)
        return count


def _source(stream: IO[bytes], compression: str) -> Any:
    if compression == "bz2":
        return _Bz2Members(stream)
    return pa.CompressedInputStream(pa.PythonFile(LeftOpen(stream), "r"), compression)


class _Bz2Members:
    """All members of a bz2 file. pyarrow fails on empty members, which parallel compressors write."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._member = stream, bz2.BZ2Decompressor()

    def readinto(self, buffer: Any) -> int:
        piece = b""
        while not piece:
            chunk = b""
            if self._member.eof:
                chunk = self._member.unused_data or self._stream.read(_CHUNK)
                if not chunk:
                    return 0
                self._member = bz2.BZ2Decompressor()
            elif self._member.needs_input and not (chunk := self._stream.read(_CHUNK)):
                raise EOFError("Truncated compressed stream")
            piece = self._member.decompress(chunk, len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def unpacked_head(head: bytes, compression: str | None, size: int) -> bytes:
    """Return the first bytes of the content, as far as the first bytes of the file contain them."""
    if compression is None:
        return head[:size]
    source: Any = pa.CompressedInputStream(pa.BufferReader(head), compression)
    content = b""
    with contextlib.suppress(pa.ArrowException, OSError):  # the head ends within the content
        while len(content) < size and (piece := source.read(1024)):
            content += piece
    return content


@contextlib.contextmanager
def packed(stream: IO[bytes], compression: str | None) -> Generator[IO[bytes]]:
    """Yield a stream whose content is written compressed into `stream`, as one member."""
    if compression is None:
        yield stream
        return
    with pa.CompressedOutputStream(pa.PythonFile(LeftOpen(stream), "w"), compression) as sink:
        yield sink


def is_empty_member(part: IO[bytes], compression: str | None) -> bool:
    """True if a part is a bz2 member without content, which may not stand among others."""
    return compression == "bz2" and _bytes_left(part) == _EMPTY_BZ2_BYTES
