"""Prepared folders: the output of a step, kept in the object store under the digest of all it depends on.

    s3://<bucket>/prepared/<kind>/<digest>/<attempt>/<files...>
    s3://<bucket>/prepared/<kind>/<digest>/manifest.json      written last: the commit record, which names the attempt

A step asks `find` first; what is there is not made again, on whichever machine. A folder without a manifest does not
exist. Two workers may make the same folder at once: each writes an attempt of its own, and the later manifest holds.
"""

import contextlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from tasks.connectors.object_store import ObjectStore
from tasks.core.digests import canonical_json, digest_of, file_digest
from tasks.core.errors import MissingDataError, StoreError
from tasks.core.records import Manifest, Reference, StoredFile

MANIFEST = "manifest.json"
SummaryT = TypeVar("SummaryT", bound=BaseModel)


class PreparedStore:
    """Finds, commits and fetches prepared folders below one bucket."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self.store = store
        self._root = f"s3://{bucket}/prepared"

    def uri(self, kind: str, digest: str) -> str:
        """Where a folder lies."""
        return f"{self._root}/{kind}/{digest}"

    def find(self, kind: str, inputs: Mapping[str, Any]) -> Manifest | None:
        """The manifest of the folder made from exactly these inputs, or None."""
        return self.read(self.uri(kind, digest_of(inputs)))

    def read(self, uri: str) -> Manifest | None:
        """The manifest of the folder at a URI, or None. Raises StoreError when it is not one."""
        content = self.store.read_bytes(f"{uri}/{MANIFEST}")
        if content is None:
            return None
        try:
            return Manifest.model_validate_json(content)
        except PydanticError as error:
            raise StoreError(
                f"Not a manifest of this version: {error.error_count()} fields differ",
                f"{uri}/{MANIFEST}",
                "delete the folder; it is made again",
            ) from error

    def reference(self, uri: str, summary_type: type[SummaryT]) -> Reference[SummaryT]:
        """What a step needs to know of the folder at a URI.

        Raises:
            MissingDataError: there is none.
            StoreError: it is of another kind, or of another version.
        """
        manifest = self.read(uri)
        if manifest is None:
            raise MissingDataError("No prepared folder there", uri, "run retrain; it makes it")
        try:
            summary = summary_type.model_validate(manifest.summary)
        except PydanticError as error:
            raise StoreError(
                f"A folder of the kind {manifest.kind!r}, which is not the one wanted", uri
            ) from error
        return Reference[SummaryT](
            kind=manifest.kind, uri=uri, digest=manifest.digest, summary=summary, reused=True
        )

    def commit(
        self, kind: str, inputs: Mapping[str, Any], folder: Path, summary: BaseModel
    ) -> Manifest:
        """Upload all files of a local folder, then the manifest. On failure what was uploaded is taken back."""
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
        uploaded: list[str] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self._take_back, uploaded)
            for name, path in paths.items():
                uploaded.append(f"{uri}/{manifest.attempt}/{name}")
                self.store.upload(path, uploaded[-1])
            record = canonical_json(manifest.model_dump()).encode()
            self.store.write_bytes(record, f"{uri}/{MANIFEST}")
            undo.pop_all()
        return manifest

    def all(self, kind: str) -> list[Manifest]:
        """The manifests of every folder of a kind."""
        try:
            found = self.store.list(f"{self._root}/{kind}/")
        except MissingDataError:
            return []
        folders = [o.uri.removesuffix(f"/{MANIFEST}") for o in found if o.uri.endswith(MANIFEST)]
        return [manifest for manifest in map(self.read, folders) if manifest]

    def remove(self, manifest: Manifest) -> None:
        """Delete a folder, its manifest first: half of a folder does not exist."""
        uri = self.uri(manifest.kind, manifest.digest)
        self.store.delete(f"{uri}/{MANIFEST}")
        for name in manifest.files:
            self.store.delete(f"{uri}/{manifest.attempt}/{name}")

    def fetch(self, uri: str, into: Path, *names: str) -> Manifest:
        """Download a folder's files (all, or those named), checking each against the manifest.

        Raises:
            StoreError: no such folder, or a file is not what the manifest says.
        """
        manifest = self.read(uri)
        if manifest is None:
            raise StoreError(
                "The prepared folder is gone", uri, "run the flow again; it is made anew"
            )
        for name in names or tuple(manifest.files):
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            place = f"{uri}/{manifest.attempt}/{name}"
            again = f"delete {uri}/{MANIFEST}; the folder is made again"
            try:
                self.store.download(place, path)
            except MissingDataError as error:
                raise StoreError("A file of a prepared folder is gone", place, again) from error
            if file_digest(path) != manifest.files[name].sha256:
                path.unlink()
                raise StoreError("The content is not what the manifest says", place, again)
        return manifest

    def _take_back(self, uris: list[str]) -> None:
        try:
            for uri in uris:
                self.store.delete(uri)
        except StoreError:
            return  # the store is away; without a manifest the rest does not exist


def free_bytes(folder: Path) -> int:
    """Room left on the disk that holds a folder."""
    return shutil.disk_usage(folder).free
