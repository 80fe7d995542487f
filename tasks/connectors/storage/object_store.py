"""The object store: any S3 server, through boto3. Every error message names bucket and key."""

import contextlib
import logging
import re
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnectionError

from tasks.connectors.storage.client import StoreClient
from tasks.connectors.storage.errors import from_client_error, may_be_checksum_error
from tasks.core.errors import (
    MissingDataError,
    OverwrittenError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
    disk_full,
    first_line,
    is_disk_full,
)
from tasks.core.parsing.uris import OF_THE_FORM, split_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True, frozen=True, order=True)
class ObjectInfo:
    """An object as returned by a listing."""

    bucket: str
    key: str
    size: int
    etag: str

    @property
    def uri(self) -> str:
        """s3://bucket/key"""
        return f"s3://{self.bucket}/{self.key}"


# Also matches misspelt S3 URIs, so that they are not taken for a file or a hub data set.
S3_LIKE = re.compile(r"s3[an]?:", re.IGNORECASE)


def parse_uri(uri: str, field: str = "") -> tuple[str, str]:
    """Split an s3:// URI into bucket and key (or prefix). Raises SettingsError if it is not such a URI."""
    if (parts := split_uri(uri)) is None:
        raise SettingsError(f"{uri!r} is not {OF_THE_FORM}", field)
    return parts


class ObjectStore:
    """Reads and writes whole objects.

    Args:
        endpoint_url: of the server; None for AWS.
        access_key, secret_key: None to let boto3 find them (environment, profile, role).
        region: None to let boto3 find it.
    """

    def __init__(
        self,
        endpoint_url: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        region: str | None = None,
    ) -> None:
        self.endpoint_url = endpoint_url
        self._clients = StoreClient(endpoint_url, access_key, secret_key, region)

    @property
    def client(self) -> "S3Client":
        """The boto3 client. It is replaced after a store has refused checksums."""
        return self._clients.client

    def send(self, uri: str, write: "Callable[[S3Client], T]") -> T:
        """Run a write. If the store refuses checksums, repeat it without them, and send none with later writes.

        Args:
            uri: of the object that is written.
            write: called with the client, and possibly again with another one.
        Raises:
            MissingDataError, StoreError: as for every method.
        """
        with self.translate_errors("writing", uri):
            try:
                return write(self.client)
            except (ClientError, Boto3Error) as error:
                if not may_be_checksum_error(error) or not (
                    plain := self._clients.without_checksums()
                ):
                    raise
                try:
                    answer = write(plain)
                except (ClientError, BotoCoreError, Boto3Error):
                    raise error from error.__cause__  # the checksum was not the cause
        self._stop_checksums(plain)
        return answer

    def _stop_checksums(self, plain: "S3Client") -> None:
        self._clients.go_on_with(plain)
        logger.info(
            "%s refuses checksums with writes; sending none with later writes",
            self.endpoint_url or "AWS",
        )

    def list(self, uri: str) -> list[ObjectInfo]:
        """List all objects below a prefix (or the one object of that key), sorted by key, without folder markers.

        Raises:
            MissingDataError: no such bucket, or nothing there.
            StoreError: the store refuses the request, or cannot be reached.
        """
        objects = sorted(self.scan(uri))
        if not objects:
            raise MissingDataError("No object there", uri, "check the prefix")
        return objects

    def scan(self, uri: str) -> Iterator[ObjectInfo]:
        """Iterate over the same objects in the store's order, which may be unsorted. An empty result is no error."""
        bucket, prefix = parse_uri(uri)
        with self.translate_errors("listing", uri):
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix
            ):
                for item in page.get("Contents", ()):
                    key, size = item.get("Key", ""), item.get("Size", 0)
                    if not key.endswith("/") and _is_below(key, prefix):
                        yield ObjectInfo(bucket, key, size, item.get("ETag", "").strip('"'))

    def ages(self, uri: str) -> dict[str, float]:
        """Map every object below a prefix to its age in seconds by the store's own clock; 0 if the age is unknown."""
        bucket, prefix = parse_uri(uri)
        ages: dict[str, float] = {}
        with self.translate_errors("listing", uri):
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix
            ):
                date = page["ResponseMetadata"]["HTTPHeaders"].get("date")
                now = parsedate_to_datetime(date) if date else None
                for item in page.get("Contents", ()):
                    written = item.get("LastModified")
                    age = (now - written).total_seconds() if now and written else 0.0
                    ages[f"s3://{bucket}/{item.get('Key', '')}"] = age
        return ages

    @contextlib.contextmanager
    def open(self, item: ObjectInfo) -> Generator[IO[bytes]]:
        """Open an object's content as a seekable stream, from a temporary file, so that memory use stays constant.

        Raises:
            MissingDataError: it is gone.
            OverwrittenError: it was overwritten after it had been listed.
            StoreError: the store refuses the request, or cannot be reached.
        """
        with tempfile.TemporaryFile(prefix="nightshift-") as stream:
            with self.translate_errors("reading", item.uri):
                self.client.download_fileobj(item.bucket, item.key, stream)
                now = self.client.head_object(Bucket=item.bucket, Key=item.key)["ETag"].strip('"')
            if item.etag and now != item.etag:
                raise OverwrittenError(
                    "The object was overwritten after it had been listed", item.uri, "run again"
                )
            stream.seek(0)
            yield stream

    def read_bytes(self, uri: str, at_most: int | None = None) -> bytes | None:
        """Return a small object's content, or None if there is no such object.

        Args:
            uri: of the object.
            at_most: limit in bytes; a larger object raises StoreError and is not read.
        """
        bucket, key = parse_uri(uri)
        try:
            with self.translate_errors("reading", uri):
                answer = self.client.get_object(Bucket=bucket, Key=key)
                if at_most is not None and answer["ContentLength"] > at_most:
                    answer["Body"].close()
                    raise StoreError(
                        f"The object has {answer['ContentLength']:,} bytes; at most {at_most:,} are read",
                        uri,
                    )
                return answer["Body"].read()
        except MissingDataError:
            return None

    def size(self, uri: str) -> int:
        """Return the size of an object in bytes. Raises MissingDataError if there is none."""
        bucket, key = parse_uri(uri)
        with self.translate_errors("checking", uri):
            return self.client.head_object(Bucket=bucket, Key=key)["ContentLength"]

    def download(self, uri: str, path: Path) -> None:
        """Download an object to a local file."""
        bucket, key = parse_uri(uri)
        with self.translate_errors("reading", uri):
            self.client.download_file(bucket, key, str(path))

    def upload(self, path: Path, uri: str) -> None:
        """Upload a local file to an object, atomically."""
        bucket, key = parse_uri(uri)
        config = TransferConfig(max_concurrency=4)
        self.send(uri, lambda client: client.upload_file(str(path), bucket, key, Config=config))

    def write_bytes(self, content: bytes, uri: str) -> None:
        """Write small content to an object."""
        bucket, key = parse_uri(uri)
        self.send(uri, lambda client: client.put_object(Bucket=bucket, Key=key, Body=content))

    def delete(self, uri: str) -> None:
        """Remove an object. Does nothing if there is none."""
        bucket, key = parse_uri(uri)
        with self.translate_errors("deleting", uri):
            self.client.delete_object(Bucket=bucket, Key=key)

    def make_bucket(self, bucket: str) -> None:
        """Create a bucket unless it exists. For the embedded store only: elsewhere, owners create their buckets."""
        with self.translate_errors("creating the bucket", f"s3://{bucket}"):
            if bucket not in {b.get("Name") for b in self.client.list_buckets().get("Buckets", ())}:
                self.client.create_bucket(Bucket=bucket)

    def probe(self, uri: str) -> None:
        """Write, read and delete a small object below a prefix, to find missing permissions before any work.

        Raises:
            MissingDataError: no such bucket.
            StoreError: not reachable, or a permission is missing.
        """
        probe_uri = f"{uri.rstrip('/')}/.nightshift-probe-{secrets.token_hex(8)}"
        self.write_bytes(b"probe", probe_uri)
        if not self._reads_back(b"probe", probe_uri):
            raise StoreError("The store does not return what was written to it", probe_uri)
        self.delete(probe_uri)

    def _reads_back(self, content: bytes, uri: str) -> bool:
        """True if an object reads back as written. Old stores save a trailing checksum as part of the object."""
        if self.read_bytes(uri) == content:
            return True
        plain = self._clients.without_checksums()
        if plain is None:
            return False
        bucket, key = parse_uri(uri)
        with self.translate_errors("writing", uri):
            plain.put_object(Bucket=bucket, Key=key, Body=content)
        if self.read_bytes(uri) != content:
            return False
        self._stop_checksums(plain)
        return True

    def unreachable_reason(self, bucket: str) -> str:
        """Return the reason why the store does not answer, or '' if it does, even with a refusal. Does not retry."""
        try:
            self._clients.impatient().head_bucket(Bucket=bucket)
        except (HTTPClientError, NoConnectionError) as error:
            return first_line(error)
        except (ClientError, BotoCoreError):  # permissions or credentials: reported on first use
            return ""
        return ""

    @contextlib.contextmanager
    def translate_errors(self, doing: str, uri: str) -> Generator[None]:
        """Translate boto3's errors into ours."""
        try:
            yield
        except ClientError as error:
            raise from_client_error(error, doing, uri) from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            if is_disk_full(error):
                raise disk_full(f"{doing} {uri}") from error
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ClientError):
                raise from_client_error(cause, doing, uri) from error
            server = self.endpoint_url or "AWS"
            away = isinstance(error, HTTPClientError | NoConnectionError | ConnectionError)
            raise (StoreUnavailableError if away else StoreError)(
                f"{doing.capitalize()} failed: {type(error).__name__}: {error}",
                uri,
                f"check that {server} is reachable and that credentials are set "
                "(AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
            ) from error


def _is_below(key: str, prefix: str) -> bool:
    """True if `prefix` is the key itself or a folder above it: `reviews` does not match `reviews-old/`."""
    return not prefix or prefix.endswith("/") or key == prefix or key.startswith(prefix + "/")
