"""Reads of exactly one version of an object that others may overwrite, and checks of its identity by metadata."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from tasks.connectors.storage.errors import (
    CONDITION_FAILED,
    NOT_IMPLEMENTED,
    OUT_OF_RANGE,
    codes_of,
    is_of_one_object,
)
from tasks.connectors.storage.object_store import ObjectInfo, ObjectStore, parse_uri
from tasks.core.errors import (
    ForbiddenDataError,
    MissingDataError,
    OverwrittenError,
    StoreError,
    StoreUnavailableError,
)

FINGERPRINT = "fingerprint"  # metadata: what the content is made from
LENGTH = "length"  # metadata: bytes that were sent
_CHUNK_BYTES = 8 << 20
_BUFFER_BYTES = 64 << 10
_TRIES = 5  # for what botocore does not retry: a body that ends early


@dataclass(slots=True, frozen=True)
class Head:
    """The properties of an object that are known without reading it."""

    etag: str
    size: int
    metadata: Mapping[str, str]
    whole: bool = True  # False: the start of an upload whose client died, kept by the server; it has no fingerprint


class ExactReads:
    """Reads exactly the version of an object that was listed.

    Raises:
        StoreError, StoreUnavailableError: from every method, if the store refuses or does not answer.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._conditional_reads = True

    def head(self, uri: str) -> Head | None:
        """Return the metadata of an object; None if there is no such object."""
        bucket, key = parse_uri(uri)
        try:
            with self.store.translate_errors("checking", uri):
                answer = self.store.client.head_object(Bucket=bucket, Key=key)
        except MissingDataError:
            return None
        etag, size, metadata = (
            answer["ETag"].strip('"'),
            answer["ContentLength"],
            answer["Metadata"],
        )
        if metadata.get(LENGTH, str(size)) == str(size):
            return Head(etag, size, metadata)
        return Head(
            etag, size, {k: v for k, v in metadata.items() if k != FINGERPRINT}, whole=False
        )

    def is_made_of(self, uri: str, fingerprint: str) -> bool:
        """True if an object exists, is complete, and has this fingerprint."""
        head = self.head(uri)
        return head is not None and head.metadata.get(FINGERPRINT) == fingerprint

    def open(
        self,
        item: ObjectInfo,
        start: int = 0,
        end: int | None = None,
        *,
        small_at_once: bool = True,
    ) -> IO[bytes]:
        """Open the bytes [start, end) of the listed version as a seekable stream.

        A small object is read at once, a large one as the stream is read, so that memory and disk use stay constant.

        Args:
            item: the object, as listed.
            start, end: in bytes; the end defaults to the object's end.
            small_at_once: pass False if many are open at a time: then nothing is buffered before or after reading.
        Raises:
            OverwrittenError: the object was overwritten or removed; reading from the stream raises it too.
            ForbiddenDataError: the store refuses to read this object.
        """
        end = item.size if end is None else min(end, item.size)
        if start >= end:  # nothing to read, so no read would notice a change
            self.require_unchanged(item)
            return io.BytesIO()
        if small_at_once and end - start <= _CHUNK_BYTES:
            return io.BytesIO(self.range(item, start, end))
        return io.BufferedReader(_Ranges(self, item, start, end), _BUFFER_BYTES)

    def require_unchanged(self, item: ObjectInfo) -> None:
        """Raise OverwrittenError if an object is no longer the version that was listed."""
        now = self.head(item.uri)
        if now is None or now.etag != item.etag:
            raise _overwritten(item)

    def range(self, item: ObjectInfo, start: int, end: int) -> bytes:
        """Read the bytes [start, end). Retries if the connection breaks in the middle."""
        request: dict[str, Any] = {"Bucket": item.bucket, "Key": item.key}
        if (start, end) != (0, item.size):
            request["Range"] = f"bytes={start}-{end - 1}"
        for attempt in range(_TRIES):
            condition: dict[str, Any] = {}
            if self._conditional_reads:
                condition = {"IfMatch": f'"{item.etag}"'}
            try:
                with self.store.translate_errors("reading", item.uri):
                    answer = self.store.client.get_object(**request, **condition)
                    content = answer["Body"].read()
            except MissingDataError as error:
                if "NoSuchBucket" in codes_of(error):
                    raise
                raise _overwritten(item) from error
            except StoreError as error:
                codes = codes_of(error)
                if codes & (CONDITION_FAILED | OUT_OF_RANGE):
                    self.require_unchanged(item)
                    # Unchanged: the store was wrong to refuse the condition.
                    self._conditional_reads = False
                    continue
                if is_of_one_object(error):
                    raise ForbiddenDataError(error.what, error.where, error.fix) from error
                if codes & NOT_IMPLEMENTED and condition:
                    self._conditional_reads = False
                elif attempt + 1 == _TRIES or not isinstance(error, StoreUnavailableError):
                    raise
                continue
            if answer["ETag"].strip('"') != item.etag:
                self.require_unchanged(item)
                continue
            if len(content) == end - start:
                return content
        raise StoreUnavailableError(
            "The store repeatedly returned fewer bytes than requested", item.uri
        )


class _Ranges(io.RawIOBase):
    """A range of one version of an object, read chunk by chunk. A chunk is freed once it has been read to its end."""

    def __init__(self, objects: ExactReads, item: ObjectInfo, start: int, end: int) -> None:
        self._objects, self._item, self._start, self._end = objects, item, start, end
        self._at = self._held_from = start
        self._held = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: self._start, io.SEEK_CUR: self._at, io.SEEK_END: self._end}
        self._at = max(self._start, origin[whence] + offset)
        return self.tell()

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._end - self._at)
        if length <= 0:
            return 0
        if length >= _CHUNK_BYTES:
            content = self._objects.range(self._item, self._at, self._at + length)
        else:
            begin = self._at - self._held_from
            if not 0 <= begin < len(self._held):
                self._held_from, begin = self._at, 0
                end = min(self._at + _CHUNK_BYTES, self._end)
                self._held = self._objects.range(self._item, self._at, end)
            content = self._held[begin : begin + length]
            if begin + length >= len(self._held):
                self._held = b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def _overwritten(item: ObjectInfo) -> OverwrittenError:
    return OverwrittenError(
        "The object was overwritten or removed after it had been listed",
        item.uri,
        "nothing; the next run scores what is there then",
    )
