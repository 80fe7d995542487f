"""The object store: any S3 server, through boto3. Every failure becomes a sentence with bucket and key."""

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
from tasks.connectors.storage.errors import from_client_error, may_be_of_checksums
from tasks.core.errors import (
    MissingDataError,
    OverwrittenError,
    SettingsError,
    StoreAwayError,
    StoreError,
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
    """An object as a listing shows it."""

    bucket: str
    key: str
    size: int
    etag: str

    @property
    def uri(self) -> str:
        """s3://bucket/key"""
        return f"s3://{self.bucket}/{self.key}"


# Meant for an object store, also where it is misspelt: it is neither a file nor a data set of a hub.
S3_LIKE = re.compile(r"s3[an]?:", re.IGNORECASE)


def parse_uri(uri: str, field: str = "") -> tuple[str, str]:
    """Bucket and key (or prefix) of an s3:// URI. Raises SettingsError when it is none."""
    if (found := split_uri(uri)) is None:
        raise SettingsError(f"{uri!r} is not {OF_THE_FORM}", field)
    return found


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
        """boto3's; another one after a store has refused checksums."""
        return self._clients.client

    def send(self, uri: str, write: "Callable[[S3Client], T]") -> T:
        """Let a client write something; where the store refuses checksums, once more without, as all that follow.

        Args:
            uri: of what is written.
            write: called with the client, and maybe again with another one.
        Raises:
            MissingDataError, StoreError: as every method.
        """
        with self.saying("writing", uri):
            try:
                return write(self.client)
            except (ClientError, Boto3Error) as error:
                if not may_be_of_checksums(error) or not (
                    plain := self._clients.without_checksums()
                ):
                    raise
                try:
                    answer = write(plain)
                except (ClientError, BotoCoreError, Boto3Error):
                    raise error from error.__cause__  # what it minds is something else
        self._goes_without(plain)
        return answer

    def _goes_without(self, plain: "S3Client") -> None:
        self._clients.go_on_with(plain)
        logger.info("%s takes no checksums of writes: it gets none", self.endpoint_url or "AWS")

    def list(self, uri: str) -> list[ObjectInfo]:
        """All objects below a prefix (or the one object of that key), sorted by key; folder markers are left out.

        Raises:
            MissingDataError: no such bucket, or nothing there.
            StoreError: the store refuses, or is not there.
        """
        found = sorted(self.scan(uri))
        if not found:
            raise MissingDataError("No object there", uri, "check the prefix")
        return found

    def scan(self, uri: str) -> Iterator[ObjectInfo]:
        """The same one by one, as the store lists them, which need not be sorted; nothing is no error."""
        bucket, prefix = parse_uri(uri)
        with self.saying("listing", uri):
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix
            ):
                for item in page.get("Contents", ()):
                    key, size = item.get("Key", ""), item.get("Size", 0)
                    if not key.endswith("/") and _is_below(key, prefix):
                        yield ObjectInfo(bucket, key, size, item.get("ETag", "").strip('"'))

    def ages(self, uri: str) -> dict[str, float]:
        """Every object below a prefix, and its age in seconds by the store's own clock; 0 where it has none."""
        bucket, prefix = parse_uri(uri)
        found: dict[str, float] = {}
        with self.saying("listing", uri):
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix
            ):
                date = page["ResponseMetadata"]["HTTPHeaders"].get("date")
                now = parsedate_to_datetime(date) if date else None
                for item in page.get("Contents", ()):
                    written = item.get("LastModified")
                    age = (now - written).total_seconds() if now and written else 0.0
                    found[f"s3://{bucket}/{item.get('Key', '')}"] = age
        return found

    @contextlib.contextmanager
    def open(self, item: ObjectInfo) -> Generator[IO[bytes]]:
        """An object's content as a seekable stream, from a temporary file: memory stays flat.

        Raises:
            MissingDataError: it is gone.
            OverwrittenError: it was overwritten since it was listed.
            StoreError: the store refuses, or is not there.
        """
        with tempfile.TemporaryFile(prefix="nightshift-") as stream:
            with self.saying("reading", item.uri):
                self.client.download_fileobj(item.bucket, item.key, stream)
                now = self.client.head_object(Bucket=item.bucket, Key=item.key)["ETag"].strip('"')
            if item.etag and now != item.etag:
                raise OverwrittenError(
                    "The object was overwritten after it had been listed", item.uri, "run again"
                )
            stream.seek(0)
            yield stream

    def read_bytes(self, uri: str, at_most: int | None = None) -> bytes | None:
        """A small object's content, or None where there is no such object.

        Args:
            uri: of the object.
            at_most: bytes that it may have; more are a StoreError, and are not read.
        """
        bucket, key = parse_uri(uri)
        try:
            with self.saying("reading", uri):
                found = self.client.get_object(Bucket=bucket, Key=key)
                if at_most is not None and found["ContentLength"] > at_most:
                    found["Body"].close()
                    raise StoreError(
                        f"It has {found['ContentLength']:,} bytes; at most {at_most:,} are read",
                        uri,
                    )
                return found["Body"].read()
        except MissingDataError:
            return None

    def size(self, uri: str) -> int:
        """Bytes of an object. Raises MissingDataError where there is none."""
        bucket, key = parse_uri(uri)
        with self.saying("looking at", uri):
            return self.client.head_object(Bucket=bucket, Key=key)["ContentLength"]

    def download(self, uri: str, path: Path) -> None:
        """An object to a local file."""
        bucket, key = parse_uri(uri)
        with self.saying("reading", uri):
            self.client.download_file(bucket, key, str(path))

    def upload(self, path: Path, uri: str) -> None:
        """A local file to an object; it appears whole or not at all."""
        bucket, key = parse_uri(uri)
        how = TransferConfig(max_concurrency=4)
        self.send(uri, lambda client: client.upload_file(str(path), bucket, key, Config=how))

    def write_bytes(self, content: bytes, uri: str) -> None:
        """Small content to an object."""
        bucket, key = parse_uri(uri)
        self.send(uri, lambda client: client.put_object(Bucket=bucket, Key=key, Body=content))

    def delete(self, uri: str) -> None:
        """Remove an object; nothing happens where there is none."""
        bucket, key = parse_uri(uri)
        with self.saying("deleting", uri):
            self.client.delete_object(Bucket=bucket, Key=key)

    def make_bucket(self, bucket: str) -> None:
        """Create a bucket unless it is there. For the embedded store: elsewhere buckets are made by their owner."""
        with self.saying("creating the bucket", f"s3://{bucket}"):
            if bucket not in {b.get("Name") for b in self.client.list_buckets().get("Buckets", ())}:
                self.client.create_bucket(Bucket=bucket)

    def probe(self, uri: str) -> None:
        """Write, read and delete a small object below a prefix, so that a missing right shows before any work.

        Raises:
            MissingDataError: no such bucket.
            StoreError: not reachable, or a right is missing.
        """
        place = f"{uri.rstrip('/')}/.nightshift-probe-{secrets.token_hex(8)}"
        self.write_bytes(b"probe", place)
        if not self._gives_back(b"probe", place):
            raise StoreError("The store does not give back what was written to it", place)
        self.delete(place)

    def _gives_back(self, content: bytes, uri: str) -> bool:
        """True where an object is what was written. An old store keeps a trailing checksum as part of the object."""
        if self.read_bytes(uri) == content:
            return True
        plain = self._clients.without_checksums()
        if plain is None:
            return False
        bucket, key = parse_uri(uri)
        with self.saying("writing", uri):
            plain.put_object(Bucket=bucket, Key=key, Body=content)
        if self.read_bytes(uri) != content:
            return False
        self._goes_without(plain)
        return True

    def silence(self, bucket: str) -> str:
        """Why the store does not answer, asked once; '' where it does, be it with a refusal."""
        try:
            self._clients.impatient().head_bucket(Bucket=bucket)
        except (HTTPClientError, NoConnectionError) as error:
            return first_line(error)
        except (ClientError, BotoCoreError):  # of rights, or of credentials: who uses it says so
            return ""
        return ""

    @contextlib.contextmanager
    def saying(self, doing: str, uri: str) -> Generator[None]:
        """Turn boto3's errors into ours."""
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
            raise (StoreAwayError if away else StoreError)(
                f"{doing.capitalize()} failed: {type(error).__name__}: {error}",
                uri,
                f"check that {server} is reachable and that credentials are set "
                "(AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
            ) from error


def _is_below(key: str, prefix: str) -> bool:
    """True when `prefix` names the key itself or a folder above it: `reviews` does not take in `reviews-old/`."""
    return not prefix or prefix.endswith("/") or key == prefix or key.startswith(prefix + "/")
