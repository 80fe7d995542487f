"""Atomic writes of objects that several processes may write at once, and in which any of them may die.

S3 has conditional requests for this (If-Match, If-None-Match), but not every store honours them: old Ceph ignores some
and refuses others whose condition holds, and Swift answers 501. So the metadata of each object also holds a fingerprint
of its content. A writer that lost the reply, or came second, reads it to find out whose content is stored.
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
_ONE_REQUEST_BYTES = 64 << 20  # larger files are uploaded in parts, each retried by itself
_TRIES = 5  # of a write while others write the same object


class ExactObjects(ExactReads):
    """Reads exact versions of objects, and writes objects whose metadata identifies their content.

    Raises:
        StoreError, StoreUnavailableError: from every method, if the store refuses or does not answer.
    """

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._conditional_writes: bool | None = None  # unknown until probed
        self._probe_lock = threading.Lock()

    def write(
        self, content: bytes | Path, uri: str, metadata: Mapping[str, str], before: Head | None
    ) -> str | None:
        """Replace an object, atomically, if it is still the expected version.

        Args:
            content: bytes, or the path of a file.
            uri: of the object.
            metadata: includes `FINGERPRINT`, by which a writer recognizes its content.
            before: the version to replace; None to create the object.
        Returns:
            The new ETag; None if another writer came first, with a different fingerprint.
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
                own_etag = self._own_etag(uri, metadata)
                if own_etag or not self._is_unchanged(uri, before):
                    return own_etag  # the reply was lost, or another writer came first
        if not self._is_unchanged(uri, before):
            return self._own_etag(uri, metadata)
        self._put(content, uri, metadata, {})
        return self._own_etag(uri, metadata)

    def remove(self, uri: str, etag: str) -> None:
        """Remove an object if it still has this ETag. Does nothing on a store without conditional writes."""
        bucket, key = parse_uri(uri)
        if not self._keeps_conditions(uri):
            return
        try:
            with self.store.translate_errors("deleting", uri):
                self.store.client.delete_object(Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        except MissingDataError:
            return  # already removed by another process
        except StoreError as error:
            if not codes_of(error) & (CONDITION_FAILED | GONE | NOT_IMPLEMENTED):
                raise

    def _keeps_conditions(self, uri: str) -> bool:
        """True if the store honours conditional writes. Tried once, on a temporary object.

        Swift answers 501. Old Ceph ignores some conditions, and refuses every If-Match because it compares the quotes
        as well.
        """
        if self._conditional_writes is None:
            with self._probe_lock:
                if self._conditional_writes is None:
                    self._conditional_writes = self._try_conditions(uri)
        return self._conditional_writes

    def _try_conditions(self, uri: str) -> bool:
        probe_uri = f"{uri.rpartition('/')[0]}/.nightshift-probe-{secrets.token_hex(8)}"

        def is_accepted(**condition: str) -> bool:
            try:
                self._put(b"probe", probe_uri, {}, condition)
            except StoreError as error:
                if not codes_of(error) & (CONDITION_FAILED | GONE | NOT_IMPLEMENTED):
                    raise
                return False
            return True

        etag = self._put(b"probe", probe_uri, {}, {})
        try:
            return (
                not is_accepted(IfNoneMatch="*")
                and not is_accepted(IfMatch='"0"')
                and is_accepted(IfMatch=f'"{etag}"')
            )
        finally:
            self.store.delete(probe_uri)

    def _write_in_parts(
        self,
        path: Path,
        uri: str,
        metadata: Mapping[str, str],
        before: Head | None,
        condition: dict[str, Any],
    ) -> str | None:
        """Upload in parts, each retried by itself. Ceph ignores conditions here, so check just before completing."""
        bucket, key = parse_uri(uri)

        def put(client: Any) -> None:
            where: dict[str, Any] = {"Bucket": bucket, "Key": key}
            checksums = _checksums(client)
            with contextlib.ExitStack() as cleanup:
                upload = client.create_multipart_upload(
                    **where, Metadata=dict(metadata), **checksums
                )
                where["UploadId"] = upload["UploadId"]
                cleanup.callback(_abort, client, dict(where))
                parts = _sent_parts(client, where | checksums, path)
                if not self._is_unchanged(uri, before):
                    return
                if self._keeps_conditions(uri):
                    where |= condition
                client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
                cleanup.pop_all()  # the upload is complete: do not abort it

        try:
            self.store.send(uri, put)
        except StoreError as error:
            if not codes_of(error) & (CONDITION_FAILED | GONE):
                raise
        return self._own_etag(uri, metadata)

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

    def _is_unchanged(self, uri: str, before: Head | None) -> bool:
        now = self.head(uri)
        return (now.etag if now else None) == (before.etag if before else None)

    def _own_etag(self, uri: str, metadata: Mapping[str, str]) -> str | None:
        """Return the ETag of the stored object if it has this fingerprint; else None."""
        now = self.head(uri)
        return now.etag if now and now.metadata.get(FINGERPRINT) == metadata[FINGERPRINT] else None


def _checksums(client: Any) -> dict[str, str]:
    """Return the checksum argument of a multipart upload, which is required if boto3 adds checksums to its parts."""
    config = client.meta.config
    with_checksum = config.request_checksum_calculation == "when_supported"
    return {"ChecksumAlgorithm": "CRC32"} if with_checksum else {}


def _sent_parts(client: Any, where: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Upload a file in parts. Returns the list of parts, for completing the upload."""
    parts: list[dict[str, Any]] = []
    with path.open("rb") as stream:
        while part := stream.read(_PART_BYTES):
            number = len(parts) + 1
            sent = client.upload_part(**where, PartNumber=number, Body=part)
            tags = {name: sent[name] for name in ("ETag", "ChecksumCRC32") if name in sent}
            parts.append({"PartNumber": number, **tags})
    return parts


def _abort(client: Any, where: dict[str, Any]) -> None:
    """Abort an upload, because stores charge for the parts of unfinished ones. Errors are ignored."""
    with contextlib.suppress(Exception):
        client.abort_multipart_upload(**where)
