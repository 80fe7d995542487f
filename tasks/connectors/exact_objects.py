"""Objects that several may write at once, some of whom die: what is read is one version, what is written is whole.

S3 has conditions for that (If-Match, If-None-Match). They are asked for, and nothing rests on them alone: old Ceph
ignores some and refuses others that hold, Swift answers 501. What an object is stands in its own metadata, so that a
writer whose reply was lost, or who comes second, finds out by looking.
"""

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from boto3.s3.transfer import TransferConfig

from tasks.connectors.object_store import ObjectInfo, ObjectStore, parse_uri
from tasks.core.errors import (
    ForbiddenDataError,
    MissingDataError,
    OverwrittenError,
    StoreAwayError,
    StoreError,
)

FINGERPRINT = "fingerprint"  # metadata: what the content is made from
_CHUNK_BYTES = 8 << 20
_BUFFER_BYTES = 64 << 10
_ONE_REQUEST_BYTES = 64 << 20  # beyond that in parts, each tried again by itself
_TRIES = 5  # of what botocore does not try again: a body that ends early
_CONDITION_FAILED = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict"}  # somebody writes at this moment: ask again
_NOT_IMPLEMENTED = {"501", "NotImplemented"}
_OUT_OF_RANGE = {"416", "InvalidRange"}
# in reading: rights, encryption with a key of the uploader's own, an archive
_THIS_OBJECT_ONLY = {"AccessDenied", "InvalidRequest", "InvalidObjectState"}
_GONE = {"404", "NoSuchKey"}  # If-Match on what somebody has deleted


@dataclass(slots=True, frozen=True)
class Head:
    """What is known of an object without reading it."""

    etag: str
    size: int
    metadata: Mapping[str, str]


class ExactObjects:
    """Reads one version of an object, and writes objects with what they are in their metadata.

    Raises:
        StoreError, StoreAwayError: from every method, when the store refuses or does not answer.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._conditional_reads = self._conditional_writes = True

    def head(self, uri: str) -> Head | None:
        """None where there is no such object."""
        bucket, key = parse_uri(uri)
        try:
            with self.store.saying("looking at", uri):
                found = self.store.client.head_object(Bucket=bucket, Key=key)
        except MissingDataError:
            return None
        return Head(found["ETag"].strip('"'), found["ContentLength"], found.get("Metadata", {}))

    def open(
        self,
        item: ObjectInfo,
        start: int = 0,
        end: int | None = None,
        *,
        small_at_once: bool = True,
    ) -> IO[bytes]:
        """The bytes [start, end) of the version that was listed, as a seekable stream.

        A small object is read at once, a large one as the stream is read, so that memory and disk stay flat.

        Args:
            item: the object, as listed.
            start, end: in bytes; to the object's end where none is given.
            small_at_once: False where many are open at a time: nothing is held before it is read, or after.
        Raises:
            OverwrittenError: another version is there now, or none; by reading from the stream as well.
            ForbiddenDataError: the store does not give it.
        """
        end = item.size if end is None else min(end, item.size)
        if start >= end:  # nothing to read, and so nothing that would tell
            self.require_unchanged(item)
            return io.BytesIO()
        if small_at_once and end - start <= _CHUNK_BYTES:
            return io.BytesIO(self.range(item, start, end))
        return io.BufferedReader(_Ranges(self, item, start, end), _BUFFER_BYTES)

    def require_unchanged(self, item: ObjectInfo) -> None:
        """Raises OverwrittenError when an object is not the version that was listed any more."""
        now = self.head(item.uri)
        if now is None or now.etag != item.etag:
            raise _overwritten(item)

    def range(self, item: ObjectInfo, start: int, end: int) -> bytes:
        """Bytes [start, end); read again where the connection breaks in the middle."""
        asked: dict[str, Any] = {"Bucket": item.bucket, "Key": item.key}
        if (start, end) != (0, item.size):
            asked["Range"] = f"bytes={start}-{end - 1}"
        for attempt in range(_TRIES):
            given = {"IfMatch": f'"{item.etag}"'} if self._conditional_reads else {}
            condition: dict[str, Any] = given
            try:
                with self.store.saying("reading", item.uri):
                    answer = self.store.client.get_object(**asked, **condition)
                    content = answer["Body"].read()
            except MissingDataError as error:
                raise _overwritten(item) from error
            except StoreError as error:
                codes = _codes(error)
                if codes & (_CONDITION_FAILED | _OUT_OF_RANGE):
                    raise _overwritten(item) from error
                if codes & _THIS_OBJECT_ONLY:
                    raise ForbiddenDataError(error.what, error.where, error.fix) from error
                if codes & _NOT_IMPLEMENTED and condition:
                    self._conditional_reads = False
                elif attempt + 1 == _TRIES or not isinstance(error, StoreAwayError):
                    raise
                continue
            if answer["ETag"].strip('"') != item.etag:
                raise _overwritten(item)
            if len(content) == end - start:
                return content
        raise StoreAwayError("Fewer bytes come than were asked for, again and again", item.uri)

    def write(
        self, content: bytes | Path, uri: str, metadata: Mapping[str, str], before: Head | None
    ) -> bool:
        """Write an object in the place of the one that was there before; it appears whole or not at all.

        Args:
            content: bytes, or a file.
            uri: of the object.
            metadata: with `FINGERPRINT`, by which a writer knows again what it wrote.
            before: what was there; None: nothing.
        Returns:
            False when somebody else has written there something made from something else meanwhile.
        """
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        if isinstance(content, Path) and size > _ONE_REQUEST_BYTES:
            return self._write_in_parts(content, uri, metadata, before)
        condition = {"IfMatch": f'"{before.etag}"'} if before else {"IfNoneMatch": "*"}
        for _ in range(_TRIES):
            if not self._conditional_writes:
                break
            try:
                self._put(content, uri, metadata, condition)
                return True
            except StoreError as error:
                codes = _codes(error)
                if codes & _NOT_IMPLEMENTED:
                    self._conditional_writes = False
                elif not codes & (_CONDITION_FAILED | _CONFLICT | _GONE):
                    raise
                elif self._is_ours(uri, metadata):  # the reply was lost, or somebody wrote the same
                    return True
                elif not self._is_as_before(uri, before):
                    return False
                elif (
                    not codes & _CONFLICT
                ):  # it holds, and is refused: Ceph 16 compares the quotes too
                    self._conditional_writes = False
        if not self._is_as_before(uri, before):
            return self._is_ours(uri, metadata)
        self._put(content, uri, metadata, {})
        return True

    def remove_unless(self, uri: str, fingerprint: str) -> None:
        """Remove an object, if there is one, that is made from something else."""
        there = self.head(uri)
        if there and there.metadata.get(FINGERPRINT) != fingerprint:
            self.store.delete(uri)

    def _write_in_parts(
        self, path: Path, uri: str, metadata: Mapping[str, str], before: Head | None
    ) -> bool:
        """boto3 uploads parts at once and tries each again, and knows no condition: look before."""
        if not self._is_as_before(uri, before):
            return self._is_ours(uri, metadata)
        bucket, key = parse_uri(uri)
        with self.store.saying("writing", uri):
            self.store.client.upload_file(
                str(path),
                bucket,
                key,
                ExtraArgs={"Metadata": dict(metadata)},
                Config=TransferConfig(multipart_chunksize=_CHUNK_BYTES, max_concurrency=4),
            )
        return True

    def _put(
        self, content: bytes | Path, uri: str, metadata: Mapping[str, str], more: dict[str, Any]
    ) -> None:
        bucket, key = parse_uri(uri)
        with contextlib.ExitStack() as stack, self.store.saying("writing", uri):
            body: Any = (
                content if isinstance(content, bytes) else stack.enter_context(content.open("rb"))
            )
            self.store.client.put_object(
                Bucket=bucket, Key=key, Body=body, Metadata=dict(metadata), **more
            )

    def _is_as_before(self, uri: str, before: Head | None) -> bool:
        now = self.head(uri)
        return (now.etag if now else None) == (before.etag if before else None)

    def _is_ours(self, uri: str, metadata: Mapping[str, str]) -> bool:
        now = self.head(uri)
        return now is not None and now.metadata.get(FINGERPRINT) == metadata[FINGERPRINT]


class _Ranges(io.RawIOBase):
    """A range of one version of an object, read chunk by chunk; a chunk is let go when it has been read to its end."""

    def __init__(self, objects: ExactObjects, item: ObjectInfo, start: int, end: int) -> None:
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
        wanted = min(len(buffer), self._end - self._at)
        if wanted <= 0:
            return 0
        if wanted >= _CHUNK_BYTES:
            content = self._objects.range(self._item, self._at, self._at + wanted)
        else:
            begin = self._at - self._held_from
            if not 0 <= begin < len(self._held):
                self._held_from, begin = self._at, 0
                end = min(self._at + _CHUNK_BYTES, self._end)
                self._held = self._objects.range(self._item, self._at, end)
            content = self._held[begin : begin + wanted]
            if begin + wanted >= len(self._held):
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


def _codes(error: StoreError) -> set[str]:
    """What the server said: its code, and the status of its answer."""
    cause: Any = error.__cause__
    response: Any = getattr(cause, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    return {code, str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))}
