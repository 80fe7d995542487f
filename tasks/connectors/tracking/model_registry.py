"""The model registry: MLflow, local or a server. Versions, and the aliases that point to them.

Models are logged as plain Hugging Face folders (an MLflow LoggedModel without a flavour), so that any transformers tool
can load what `download` returns. Aliases are resolved once and pinned: a scoring run names a version, never an alias.
MLflow never reuses a version number, and silently drops the aliases of a deleted version.
"""

import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow.exceptions import MlflowException

from tasks.connectors.tracking.run import cut
from tasks.connectors.tracking.runs import TrackedRuns
from tasks.core.errors import RegistryError
from tasks.core.readable import without_passwords
from tasks.core.records import ModelVersion
from tasks.core.tags import DELETING_TAG, ENGINE_IDENTITY_TAG, MODEL_DIGEST_TAG

logger = logging.getLogger(__name__)

_ALIAS_TRIES = 4
_SET_AT_ONCE = ("UNIQUE constraint failed", "duplicate key value")  # SQLite, PostgreSQL
_LOGGED_MODEL = re.compile(r"/(m-[0-9a-f]+)/artifacts/?$")  # location of a logged model
_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(slots=True, frozen=True)
class Registered:
    """A version with the details that are needed to delete it."""

    version: ModelVersion
    created: float  # seconds since 1970
    tags: Mapping[str, str]
    source: str  # location of its files


class ModelRegistry(TrackedRuns):
    """Registered versions and aliases, and the runs that they come from.

    Raises:
        RegistryError: from every method, if MLflow refuses or is not there.
    """

    def find_version(
        self, name: str, model_digest: str, engine: str | None = None
    ) -> ModelVersion | None:
        """Return the newest version that was registered from exactly this training and still has its files, or None.

        Args:
            name: of the model.
            model_digest: of the training.
            engine: that scores it (`EngineChoice.identity`); None for any engine.
        """
        with self._saying(f"looking up {name!r}"):
            versions = self._client.search_model_versions(
                f"name = '{name}' and tags.`{MODEL_DIGEST_TAG}` = '{model_digest}'"
            )
        ready = [v for v in versions if v.status == "READY" and DELETING_TAG not in (v.tags or {})]
        if engine is not None:
            ready = [v for v in ready if (v.tags or {}).get(ENGINE_IDENTITY_TAG) == engine]
        for version in sorted(ready, key=lambda v: int(v.version), reverse=True):
            pinned = _pinned(version)
            if "config.json" in self._files(pinned):  # a person may have removed it
                return pinned
            logger.warning("The files of %s are gone; registering it again", pinned)
        return None

    def _files(self, version: ModelVersion) -> set[str]:
        """Return the names of the files and folders at the top level of a version's folder."""
        import mlflow.artifacts

        with self._saying(f"looking at the files of {version}"):
            uri = self._client.get_model_version_download_uri(version.name, version.version)
            listed = mlflow.artifacts.list_artifacts(artifact_uri=uri, tracking_uri=self._uri)
        return {PurePosixPath(file.path).name for file in listed}

    def register(
        self, name: str, folder: Path, run_id: str, tags: Mapping[str, str], description: str
    ) -> ModelVersion:
        """Log a whole model folder and register it as a new version. Nothing is registered if a part fails."""
        with self._saying(f"registering {name!r}"):
            texts = cut(tags)
            logged = self._client.create_logged_model(
                self._experiment_id,
                name=name,
                source_run_id=run_id,
                tags=texts,
                model_type="text-classification",
            )
            with contextlib.ExitStack() as undo:
                undo.callback(self._client.finalize_logged_model, logged.model_id, "FAILED")
                self._client.log_model_artifacts(logged.model_id, str(folder))
                undo.pop_all()
            self._client.finalize_logged_model(logged.model_id, "READY")
            with contextlib.suppress(MlflowException):  # it exists already
                self._client.create_registered_model(
                    name, description="Review classifier, retrained by Nightshift."
                )
            version = self._client.create_model_version(
                name,
                source=logged.artifact_location,
                run_id=run_id,
                tags=texts,
                description=description,
                model_id=logged.model_id,
            )
        return _pinned(version)

    def resolve(self, name: str, alias_or_version: str) -> ModelVersion | None:
        """Return the version an alias points to now, or the version of that number; None if there is none."""
        with self._saying(f"looking up {name!r} {alias_or_version!r}"):
            try:
                if alias_or_version.isdigit():
                    return _pinned(self._client.get_model_version(name, alias_or_version))
                return _pinned(self._client.get_model_version_by_alias(name, alias_or_version))
            except MlflowException as error:
                if error.error_code in _GONE:
                    return None
                raise

    def aliases(self, name: str) -> dict[str, str]:
        """Map every alias of a model to the number of its current version. Empty if there is no such model."""
        with self._saying(f"looking up {name!r}"):
            try:
                aliases: Any = self._client.get_registered_model(name).aliases
            except MlflowException as error:
                if error.error_code in _GONE:
                    return {}
                raise
        return {str(alias): str(version) for alias, version in dict(aliases or {}).items()}

    def versions(self, name: str) -> list[Registered]:
        """Return all versions of a model, the oldest first."""
        versions: list[Registered] = []
        token: str | None = None
        with self._saying(f"listing the versions of {name!r}"):
            while True:
                page = self._client.search_model_versions(f"name = '{name}'", page_token=token)
                versions += map(_registered, page)
                token = page.token
                if not token:
                    return sorted(versions, key=lambda r: int(r.version.version))

    def tags_of(self, version: ModelVersion) -> dict[str, str]:
        """Return the tags that registration and promotion have set on a version."""
        with self._saying(f"looking up {version}"):
            registered: Any = self._client.get_model_version(version.name, version.version)
        return dict(registered.tags or {})

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        """Point an alias to a version. Retries, as MLflow's database refuses one of two that create it at once."""
        with self._saying(f"setting {alias!r}"):
            for tries_left in reversed(range(_ALIAS_TRIES)):
                try:
                    self._client.set_registered_model_alias(version.name, alias, version.version)
                    return
                except MlflowException as error:
                    if not tries_left or not any(words in str(error) for words in _SET_AT_ONCE):
                        raise

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias. Does nothing if it does not exist."""
        with self._saying(f"removing {alias!r}"):
            self._client.delete_registered_model_alias(name, alias)

    def remove_tag(self, version: ModelVersion, tag: str) -> None:
        """Remove a tag of a version."""
        with self._saying("describing a version"):
            self._client.delete_model_version_tag(version.name, version.version, tag)

    def delete(self, registered: Registered, with_files: bool) -> None:
        """Delete a version. An interrupted deletion leaves the version in place, so that a repeat completes it.

        Args:
            found: the version.
            with_files: also delete the model's files, if it was logged as a model; files that people registered from
                other places are kept. Pass False if another version shares the files.
        """
        with self._saying(f"deleting {registered.version}"):
            if with_files:
                self._delete_logged_model(registered.source)
            self._client.delete_model_version(registered.version.name, registered.version.version)

    def _delete_logged_model(self, source: str) -> None:
        """Delete the logged model with these files. MLflow does not record with a version which one it is."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        named = _LOGGED_MODEL.search(source)
        if named is None:
            return
        try:
            location = self._client.get_logged_model(named[1]).artifact_location
        except MlflowException as error:
            if error.error_code not in _GONE:
                raise
            return
        if location.rstrip("/") != source.rstrip("/"):
            return
        try:
            get_artifact_repository(location, tracking_uri=self._uri).delete_artifacts()
        except OSError as error:  # from requests or the disk
            raise RegistryError(
                f"The files of a model could not be deleted: {type(error).__name__}",
                location,
                "delete them by hand, or give this account permission to, and run again",
            ) from error
        self._client.delete_logged_model(named[1])

    def describe_version(
        self, version: ModelVersion, tags: Mapping[str, str], description: str | None = None
    ) -> None:
        """Set tags of a version, and its description if given."""
        with self._saying("describing a version"):
            if description is not None:
                self._client.update_model_version(version.name, version.version, description)
            for key, value in cut(tags).items():
                self._client.set_model_version_tag(version.name, version.version, key, value)

    def download(self, version: ModelVersion, into: Path) -> Path:
        """Copy a version's folder below `into` and return its path. MLflow's own copy is never returned."""
        import mlflow.artifacts

        with self._saying(f"downloading {version}"):
            uri = self._client.get_model_version_download_uri(version.name, version.version)
            try:
                folder = Path(
                    mlflow.artifacts.download_artifacts(
                        uri, dst_path=str(into), tracking_uri=self._uri
                    )
                )
            except MlflowException as error:
                if self._files(version):
                    raise
                raise RegistryError(
                    f"The files of {version} are gone",
                    without_passwords(uri),
                    "restore them from a backup, or retrain on the same data, which registers the model again",
                ) from error
        _require_inside(folder, into, version)
        return folder

    def file_of(self, version: ModelVersion, name: str, into: Path) -> Path | None:
        """Copy one file from the top level of a version's folder below `into`; None if there is none of that name."""
        import mlflow.artifacts

        with self._saying(f"downloading {name} of {version}"):
            uri = self._client.get_model_version_download_uri(version.name, version.version)
            if name not in self._files(version):
                return None
            whole = f"{uri.rstrip('/')}/{name}"
            path = Path(
                mlflow.artifacts.download_artifacts(
                    whole, dst_path=str(into), tracking_uri=self._uri
                )
            )
        _require_inside(path, into, version)
        return path


def _require_inside(download: Path, into: Path, version: ModelVersion) -> None:
    """Raise RegistryError if a download lies outside its target folder or contains links."""
    inside = download.resolve().is_relative_to(into.resolve())
    if not inside or any(path.is_symlink() for path in (download, *download.rglob("*"))):
        raise RegistryError(
            "The files of the version are links, or outside the folder they were downloaded to",
            str(version),
            "register the model again through the retrain flow",
        )


def _registered(version: Any) -> Registered:
    return Registered(
        version=_pinned(version),
        created=float(version.creation_timestamp) / 1000,
        tags=dict(version.tags or {}),
        source=str(version.source or ""),
    )


def _pinned(version: Any) -> ModelVersion:
    tags = dict(version.tags or {})
    return ModelVersion(
        name=str(version.name),
        version=str(version.version),
        model_digest=tags.get(MODEL_DIGEST_TAG, ""),
        engine=tags.get(ENGINE_IDENTITY_TAG, ""),
        run_id=str(version.run_id or ""),
    )
