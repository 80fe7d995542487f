"""Prepared folders: the output of a step, stored in the object store under the digest of its inputs.

    s3://<bucket>/prepared/<kind>/<digest>/<attempt>/<files...>
    s3://<bucket>/prepared/<kind>/<digest>/manifest.json      written last: the commit record, which names the attempt

A step calls `find` first, so any machine reuses an existing folder. A folder without a manifest does not exist. Two
workers may make the same folder at once: each writes its own attempt, and the first manifest wins.

Other workers write here too, and may be hostile. A manifest is valid only at the address that is the digest of its
inputs, below this installation's own bucket, and with file names that stay inside a folder. A reference pins the
digests of the files, so that nobody can replace what was evaluated before it is used.
"""

import contextlib
import logging
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from tasks.connectors.local_paths import path_below, require_names
from tasks.connectors.storage.manifests import MADE_AGAIN, parse_manifest
from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.digests import canonical_json, digest_of, file_digest
from tasks.core.errors import MissingDataError, StoreError, StoreUnavailableError
from tasks.core.records import Manifest, Reference, StoredFile

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
_LONGEST_MANIFEST = 16 << 20  # bytes; a folder of ten thousand files needs two million
_FOLDER = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)/([0-9a-f]{32})")
SummaryT = TypeVar("SummaryT", bound=BaseModel)


class PreparedStore:
    """Finds, commits and fetches prepared folders below one bucket."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self.store = store
        self._root = f"s3://{bucket}/prepared"

    def uri(self, kind: str, digest: str) -> str:
        """Return the URI of a folder."""
        return f"{self._root}/{kind}/{digest}"

    def find(self, kind: str, inputs: Mapping[str, Any]) -> Manifest | None:
        """Return the manifest of the folder made from exactly these inputs; None if absent or if files are missing."""
        return self._whole(self.uri(kind, digest_of(inputs)))

    def _whole(self, uri: str) -> Manifest | None:
        """Return the manifest of a folder if all of its files are present: a person may have removed some."""
        manifest = self.read(uri)
        if manifest is None:
            return None
        for name, file in manifest.files.items():
            file_uri = f"{uri}/{manifest.attempt}/{name}"
            try:
                if self.store.size(file_uri) == file.bytes:
                    continue
            except MissingDataError:
                pass
            logger.warning("A file of a prepared folder is missing or has changed: %s", file_uri)
            return None
        return manifest

    def read(self, uri: str) -> Manifest | None:
        """Return the manifest of the folder at a URI, or None.

        Raises:
            StoreError: this version did not write it for that address, or the URI is not the address of a folder here.
        """
        kind, digest = self._address(uri)
        manifest_uri = f"{uri}/{MANIFEST}"
        content = self.store.read_bytes(manifest_uri, at_most=_LONGEST_MANIFEST)
        if content is None:
            return None
        manifest, inputs = parse_manifest(content, manifest_uri)
        if (manifest.kind, manifest.digest, inputs) != (kind, digest, digest):
            raise StoreError("The manifest belongs to another address", manifest_uri, MADE_AGAIN)
        return manifest

    def reference(self, uri: str, summary_type: type[SummaryT]) -> Reference[SummaryT]:
        """Return a reference to the folder at a URI.

        Raises:
            MissingDataError: there is none, or some of its files are missing.
            StoreError: it is of another kind or version.
        """
        manifest = self._whole(uri)
        if manifest is None:
            raise MissingDataError(
                "No complete prepared folder", uri, "run retrain, which creates it"
            )
        return self.refer(manifest, summary_type, reused=True)

    def refer(
        self, manifest: Manifest, summary_type: type[SummaryT], reused: bool
    ) -> Reference[SummaryT]:
        """Return the reference to the folder of a manifest. Raises StoreError if it is of another kind or version."""
        uri = self.uri(manifest.kind, manifest.digest)
        try:
            summary = summary_type.model_validate(manifest.summary)
        except PydanticError as error:
            raise StoreError(
                f"The prepared folder has another kind or version: {manifest.kind!r}", uri
            ) from error
        return Reference[SummaryT](
            kind=manifest.kind,
            uri=uri,
            digest=manifest.digest,
            content=manifest.content,
            summary=summary,
            reused=reused,
        )

    def manifest_of(self, reference: Reference[Any]) -> Manifest:
        """Return the manifest that a reference pins.

        Raises:
            StoreError: it is gone, the reference does not point to a folder here, or the files have changed since.
        """
        uri = reference.uri
        if uri != self.uri(reference.kind, reference.digest):
            raise StoreError("The reference does not match its digest", uri)
        manifest = self._present(uri)
        if manifest.content != reference.content:
            raise StoreError(
                "The files of the prepared folder have changed since they were referenced",
                uri,
                "run again, which uses the current files; if it happens again, find out who writes there",
            )
        return manifest

    def commit(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        folder: Path,
        summary: BaseModel,
        replace: bool = False,
    ) -> Manifest:
        """Upload all files of a local folder, then the manifest. Returns the manifest that is in force.

        If this fails, or another worker was first, the uploaded files are deleted again.

        Args:
            kind, inputs: identify the folder.
            folder: with the files.
            summary: small facts about them.
            replace: overwrite an existing manifest, which may belong to damaged files.
        Raises:
            StoreError: the store refuses, or a file name is unsafe as a local path.
        """
        digest = digest_of(inputs)
        uri = self.uri(kind, digest)
        paths = {
            p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()
        }
        manifest = Manifest(
            kind=kind,
            digest=digest,
            inputs=dict(inputs),
            attempt=secrets.token_hex(8),
            files={
                name: StoredFile(bytes=path.stat().st_size, sha256=file_digest(path))
                for name, path in paths.items()
            },
            summary=summary.model_dump(),
        )
        require_names(manifest.files, uri)
        uploaded: list[str] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self._take_back, uploaded)
            for name, path in paths.items():
                uploaded.append(f"{uri}/{manifest.attempt}/{name}")
                self.store.upload(path, uploaded[-1])
            first = None if replace else self._whole(uri)
            if first is not None:
                return first
            record = canonical_json(manifest.model_dump()).encode()
            self.store.write_bytes(record, f"{uri}/{MANIFEST}")
            undo.pop_all()
        return manifest

    def all(self, kind: str) -> list[Manifest]:
        """Return the manifests of all folders of a kind. Those that cannot be trusted are skipped with a warning."""
        return [manifest for manifest in map(self._read_if_good, self._folders(kind)) if manifest]

    def _read_if_good(self, uri: str) -> Manifest | None:
        try:
            return self.read(uri)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            logger.warning("Skipped a prepared folder: %s", error)
            return None

    def _folders(self, kind: str) -> list[str]:
        try:
            objects = self.store.list(f"{self._root}/{kind}/")
        except MissingDataError:
            return []
        folders = (o.uri.removesuffix(f"/{MANIFEST}") for o in objects if o.uri.endswith(MANIFEST))
        return [folder for folder in folders if self.is_address(folder)]

    def remove(self, manifest: Manifest) -> None:
        """Delete a folder, its manifest first: without it, a partly deleted folder does not exist."""
        uri = self.uri(manifest.kind, manifest.digest)
        self.store.delete(f"{uri}/{MANIFEST}")
        for name in manifest.files:
            self.store.delete(f"{uri}/{manifest.attempt}/{name}")

    def fetch(self, source: str | Reference[Any], into: Path, *names: str) -> Manifest:
        """Download a folder's files (all, or those named), checking each against the manifest.

        Args:
            source: a reference, which pins the files, or the URI of a folder.
            into: local folder; nothing is written outside it.
            names: of the files to download.
        Raises:
            StoreError: no such folder, or a file is not what the manifest says.
        """
        pinned = isinstance(source, Reference)
        manifest = self.manifest_of(source) if pinned else self._present(source)
        uri = self.uri(manifest.kind, manifest.digest)
        for name in names or tuple(manifest.files):
            self._fetch_file(f"{uri}/{manifest.attempt}/{name}", manifest, name, into)
        return manifest

    def _fetch_file(self, file_uri: str, manifest: Manifest, name: str, into: Path) -> None:
        again = f"delete {self.uri(manifest.kind, manifest.digest)}/{MANIFEST}; the next run creates the folder again"
        if (stored := manifest.files.get(name)) is None:
            raise StoreError("The prepared folder holds no such file", file_uri, again)
        path = path_below(into, name, file_uri)
        try:
            size = self.store.size(file_uri)
            if size == stored.bytes:  # a larger one would only fill the disk
                self.store.download(file_uri, path)
        except MissingDataError as error:
            raise StoreError("A file of a prepared folder is gone", file_uri, again) from error
        if size != stored.bytes or file_digest(path) != stored.sha256:
            path.unlink(missing_ok=True)
            raise StoreError("The file differs from its manifest", file_uri, again)

    def _present(self, uri: str) -> Manifest:
        manifest = self.read(uri)
        if manifest is None:
            raise StoreError(
                "The prepared folder is gone", uri, "run the flow again, which creates it"
            )
        return manifest

    def is_address(self, uri: str) -> bool:
        """True if the URI is the address of a prepared folder of this installation."""
        below = uri.removeprefix(f"{self._root}/")
        return below != uri and _FOLDER.fullmatch(below) is not None

    def _address(self, uri: str) -> tuple[str, str]:
        """Split a folder's URI into kind and digest. Raises StoreError if it points elsewhere."""
        if not self.is_address(uri):
            raise StoreError(
                f"Not a prepared folder of this installation; its URI must be {self._root}/<kind>/<digest>",
                uri,
                "check NIGHTSHIFT_BUCKET, and copy the URI from the log of a run",
            )
        kind, digest = uri.removeprefix(f"{self._root}/").split("/")
        return kind, digest

    def _take_back(self, uris: list[str]) -> None:
        try:
            for uri in uris:
                self.store.delete(uri)
        except StoreError:
            return  # the store is unavailable; without a manifest the rest does not exist


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk that holds a folder."""
    return shutil.disk_usage(folder).free
