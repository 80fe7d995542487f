"""Objects that several may write at once, some of whom die: what is read is one version, what is written is whole.

S3 has conditions for that (If-Match, If-None-Match). They are asked for, and nothing rests on them alone: old Ceph
ignores some and refuses others that hold, Swift answers 501. What an object is stands in its own metadata, so that a
writer whose reply was lost, or who comes second, finds out by looking.
"""

import contextlib
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.connectors.storage.conditional_reads import FINGERPRINT, LENGTH, ExactReads, Head
from tasks.connectors.storage.errors import (
    CONDITION_FAILED,
    CONFLICT,
    GONE,
    NOT_IMPLEMENTED,
    codes_of,
)
from tasks.connectors.storage.object_store import ObjectStore, parse_uri
from tasks.core.errors import MissingDataError, StoreError

_PART_BYTES = 16 << 20
_ONE_REQUEST_BYTES = 64 << 20  # beyond that in parts, each tried again by itself
_TRIES = 5  # while others write at the same moment


class ExactObjects(ExactReads):
    """Reads one version of an object, and writes objects with what they are in their metadata.

    Raises:
        StoreError, StoreAwayError: from every method, when the store refuses or does not answer.
    """

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._conditional_writes: bool | None = None  # not known before it is tried
        self._trying = threading.Lock()

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
        metadata = {**metadata, LENGTH: str(size)}
        condition = {"IfMatch": f'"{before.etag}"'} if before else {"IfNoneMatch": "*"}
        if isinstance(content, Path) and size > _ONE_REQUEST_BYTES:
            return self._write_in_parts(content, uri, metadata, before, condition)
        for _ in range(_TRIES if self._keeps_conditions(uri) else 0):
            try:
                return self._put(content, uri, metadata, condition)
            except StoreError as error:
                codes = codes_of(error)
                if not codes & (CONDITION_FAILED | CONFLICT | GONE):
                    raise
                if (ours := self._ours(uri, metadata)) or not self._is_as_before(uri, before):
                    return ours  # the reply was lost, or somebody was here
        if not self._is_as_before(uri, before):
            return self._ours(uri, metadata)
        self._put(content, uri, metadata, {})
        return self._ours(uri, metadata)

    def remove(self, uri: str, etag: str) -> None:
        """Remove an object if it is still the one of that ETag; on a store that keeps no conditions it stays."""
        bucket, key = parse_uri(uri)
        if not self._keeps_conditions(uri):
            return
        try:
            with self.store.saying("deleting", uri):
                self.store.client.delete_object(Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        except MissingDataError:
            return  # somebody else has removed it
        except StoreError as error:
            if not codes_of(error) & (CONDITION_FAILED | GONE | NOT_IMPLEMENTED):
                raise

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
                if not codes_of(error) & (CONDITION_FAILED | GONE | NOT_IMPLEMENTED):
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

        def put(client: Any) -> None:
            where: dict[str, Any] = {"Bucket": bucket, "Key": key}
            checksums = _checksums(client)
            with contextlib.ExitStack() as undo:
                given = client.create_multipart_upload(
                    **where, Metadata=dict(metadata), **checksums
                )
                where["UploadId"] = given["UploadId"]
                undo.callback(_abort, client, dict(where))
                parts = _sent_parts(client, where | checksums, path)
                if not self._is_as_before(uri, before):
                    return
                if self._keeps_conditions(uri):
                    where |= condition
                client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
                undo.pop_all()

        try:
            self.store.send(uri, put)
        except StoreError as error:
            if not codes_of(error) & (CONDITION_FAILED | GONE):
                raise
        return self._ours(uri, metadata)

    def _put(
        self, content: bytes | Path, uri: str, metadata: Mapping[str, str], more: dict[str, Any]
    ) -> str:
        bucket, key = parse_uri(uri)

        def put(client: Any) -> str:
            with contextlib.ExitStack() as stack:
                body: Any = (
                    content
                    if isinstance(content, bytes)
                    else stack.enter_context(content.open("rb"))
                )
                answer = client.put_object(
                    Bucket=bucket, Key=key, Body=body, Metadata=dict(metadata), **more
                )
                return answer["ETag"].strip('"')

        return self.store.send(uri, put)

    def _is_as_before(self, uri: str, before: Head | None) -> bool:
        now = self.head(uri)
        return (now.etag if now else None) == (before.etag if before else None)

    def _ours(self, uri: str, metadata: Mapping[str, str]) -> str | None:
        """The ETag of what is there, when it is made from the same."""
        now = self.head(uri)
        return now.etag if now and now.metadata.get(FINGERPRINT) == metadata[FINGERPRINT] else None


def _checksums(client: Any) -> dict[str, str]:
    """What an upload in parts is begun with where boto3 sends a checksum with each part: it must be told before."""
    config = client.meta.config
    wanted = config.request_checksum_calculation == "when_supported"
    return {"ChecksumAlgorithm": "CRC32"} if wanted else {}


def _sent_parts(client: Any, where: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Upload a file's parts; returns what the upload is completed with."""
    parts: list[dict[str, Any]] = []
    with path.open("rb") as stream:
        while part := stream.read(_PART_BYTES):
            number = len(parts) + 1
            sent = client.upload_part(**where, PartNumber=number, Body=part)
            kept = {name: sent[name] for name in ("ETag", "ChecksumCRC32") if name in sent}
            parts.append({"PartNumber": number, **kept})
    return parts


def _abort(client: Any, where: dict[str, Any]) -> None:
    """Parts of an upload that nobody finishes cost money. What is left of it is no reason to fail."""
    with contextlib.suppress(Exception):
        client.abort_multipart_upload(**where)
