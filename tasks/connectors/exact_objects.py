"""Objects that several may write at once, some of whom die: what is read is one version, what is written is whole.

S3 has conditions for that (If-Match, If-None-Match). They are asked for, and nothing rests on them alone: old Ceph
ignores some and refuses others that hold, Swift answers 501. What an object is stands in its own metadata, so that a
writer whose reply was lost, or who comes second, finds out by looking.
"""

import contextlib
import io
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tasks.connectors.object_store import ObjectInfo, ObjectStore, parse_uri
from tasks.core.errors import (
    ForbiddenDataError,
    MissingDataError,
    NightshiftError,
    OverwrittenError,
    StoreAwayError,
    StoreError,
)

FINGERPRINT = "fingerprint"  # metadata: what the content is made from
_LENGTH = "length"  # metadata: bytes that were sent
_CHUNK_BYTES = 8 << 20
_PART_BYTES = 16 << 20
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
    whole: bool = True  # False: a server has kept the begin of an upload whose client died; it has no fingerprint


class ExactObjects:
    """Reads one version of an object, and writes objects with what they are in their metadata.

    Raises:
        StoreError, StoreAwayError: from every method, when the store refuses or does not answer.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._conditional_reads = True
        self._conditional_writes: bool | None = None  # not known before it is tried
        self._trying = threading.Lock()

    def head(self, uri: str) -> Head | None:
        """None where there is no such object."""
        bucket, key = parse_uri(uri)
        try:
            with self.store.saying("looking at", uri):
                found = self.store.client.head_object(Bucket=bucket, Key=key)
        except MissingDataError:
            return None
        etag, size, kept = found["ETag"].strip('"'), found["ContentLength"], found["Metadata"]
        if kept.get(_LENGTH, str(size)) == str(size):
            return Head(etag, size, kept)
        return Head(etag, size, {k: v for k, v in kept.items() if k != FINGERPRINT}, whole=False)

    def is_made_of(self, uri: str, fingerprint: str) -> bool:
        """Whether an object is there, whole, and made from this."""
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
                if "NoSuchBucket" in _codes(error):
                    raise
                raise _overwritten(item) from error
            except StoreError as error:
                codes = _codes(error)
                if codes & (_CONDITION_FAILED | _OUT_OF_RANGE):
                    self.require_unchanged(item)
                    self._conditional_reads = False  # it is as it was, and the condition holds
                    continue
                if codes & _THIS_OBJECT_ONLY:
                    raise ForbiddenDataError(error.what, error.where, error.fix) from error
                if codes & _NOT_IMPLEMENTED and condition:
                    self._conditional_reads = False
                elif attempt + 1 == _TRIES or not isinstance(error, StoreAwayError):
                    raise
                continue
            if answer["ETag"].strip('"') != item.etag:
                self.require_unchanged(item)
                continue
            if len(content) == end - start:
                return content
        raise StoreAwayError("Fewer bytes come than were asked for, again and again", item.uri)

    def write(
        self, content: bytes | Path, uri: str, metadata: Mapping[str, str], before: Head | None
    ) -> str | None:
        """Write an object in the place of the one that was there before; it appears whole or not at all.

        Args:
            content: bytes, or a file.
            uri: of the object.
            metadata: with `FINGERPRINT`, by which a writer knows again what it wrote.
            before: what was there; None: nothing.
        Returns:
            Its ETag; None when somebody else has written there something made from something else meanwhile.
        """
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        metadata = {**metadata, _LENGTH: str(size)}
        condition = {"IfMatch": f'"{before.etag}"'} if before else {"IfNoneMatch": "*"}
        if isinstance(content, Path) and size > _ONE_REQUEST_BYTES:
            return self._write_in_parts(content, uri, metadata, before, condition)
        for _ in range(_TRIES if self._keeps_conditions(uri) else 0):
            try:
                return self._put(content, uri, metadata, condition)
            except StoreError as error:
                codes = _codes(error)
                if not codes & (_CONDITION_FAILED | _CONFLICT | _GONE):
                    raise
                if (ours := self._ours(uri, metadata)) or not self._is_as_before(uri, before):
                    return ours  # the reply was lost, or somebody was here
        if not self._is_as_before(uri, before):
            return self._ours(uri, metadata)
        self._put(content, uri, metadata, {})
        return self._ours(uri, metadata)

    def _keeps_conditions(self, uri: str) -> bool:
        """Whether this store keeps conditions of writes; tried once, on an object of its own.

        Swift says 501; old Ceph ignores some, and refuses every If-Match because it compares the quotes too.
        """
        if self._conditional_writes is None:
            with self._trying:
                if self._conditional_writes is None:
                    self._conditional_writes = self._try_conditions(uri)
        return self._conditional_writes

    def _try_conditions(self, uri: str) -> bool:
        place = f"{uri.rpartition('/')[0]}/.nightshift-probe-{secrets.token_hex(8)}"

        def takes(**condition: str) -> bool:
            try:
                self._put(b"probe", place, {}, condition)
            except StoreError as error:
                if not _codes(error) & (_CONDITION_FAILED | _GONE | _NOT_IMPLEMENTED):
                    raise
                return False
            return True

        etag = self._put(b"probe", place, {}, {})
        try:
            return (
                not takes(IfNoneMatch="*")
                and not takes(IfMatch='"0"')
                and takes(IfMatch=f'"{etag}"')
            )
        finally:
            self.store.delete(place)

    def _write_in_parts(
        self,
        path: Path,
        uri: str,
        metadata: Mapping[str, str],
        before: Head | None,
        condition: dict[str, Any],
    ) -> str | None:
        """Each part is tried again by itself. Ceph ignores conditions here: look right before the parts are joined."""
        bucket, key = parse_uri(uri)
        where: dict[str, Any] = {"Bucket": bucket, "Key": key}
        client = self.store.client
        try:
            with self.store.saying("writing", uri), contextlib.ExitStack() as undo:
                given = client.create_multipart_upload(**where, Metadata=dict(metadata))
                where["UploadId"] = given["UploadId"]
                undo.callback(_abort, client, dict(where))
                parts: list[Any] = []
                with path.open("rb") as stream:
                    while part := stream.read(_PART_BYTES):
                        number = len(parts) + 1
                        sent = client.upload_part(**where, PartNumber=number, Body=part)
                        parts.append({"PartNumber": number, "ETag": sent["ETag"]})
                if not self._is_as_before(uri, before):
                    return self._ours(uri, metadata)
                if self._keeps_conditions(uri):
                    where |= condition
                client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
                undo.pop_all()
        except StoreError as error:
            if not _codes(error) & (_CONDITION_FAILED | _CONFLICT | _GONE):
                raise
        return self._ours(uri, metadata)

    def _put(
        self, content: bytes | Path, uri: str, metadata: Mapping[str, str], more: dict[str, Any]
    ) -> str:
        bucket, key = parse_uri(uri)
        with contextlib.ExitStack() as stack, self.store.saying("writing", uri):
            body: Any = (
                content if isinstance(content, bytes) else stack.enter_context(content.open("rb"))
            )
            answer = self.store.client.put_object(
                Bucket=bucket, Key=key, Body=body, Metadata=dict(metadata), **more
            )
            return answer["ETag"].strip('"')

    def _is_as_before(self, uri: str, before: Head | None) -> bool:
        now = self.head(uri)
        return (now.etag if now else None) == (before.etag if before else None)

    def _ours(self, uri: str, metadata: Mapping[str, str]) -> str | None:
        """The ETag of what is there, when it is made from the same."""
        now = self.head(uri)
        return now.etag if now and now.metadata.get(FINGERPRINT) == metadata[FINGERPRINT] else None


def _abort(client: Any, where: dict[str, Any]) -> None:
    """Parts of an upload that nobody finishes cost money. What is left of it is no reason to fail."""
    with contextlib.suppress(Exception):
        client.abort_multipart_upload(**where)


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


def _codes(error: NightshiftError) -> set[str]:
    """What the server said: its code, and the status of its answer."""
    cause: Any = error.__cause__
    response: Any = getattr(cause, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    return {code, str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))}
