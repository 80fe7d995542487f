"""Sources of labelled reviews: one file and one rule in `open_source` each. All pass the same contract test."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from tasks.connectors.local_paths import local_path
from tasks.connectors.sources.base import Source, SourceColumns
from tasks.connectors.sources.files import LocalFiles, StoredObjects
from tasks.connectors.sources.hub import HubDataset
from tasks.connectors.sources.params import SAMPLE, SourceParams
from tasks.connectors.storage.object_store import S3_LIKE, ObjectStore, parse_uri
from tasks.core.errors import MissingDataError, SettingsError
from tasks.core.parsing.pairs import parse_pairs

# A name with a dot in its second part is more likely a file. The hub refuses all other forms.
_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w-]*", re.ASCII)

__all__ = [
    "SAMPLE",
    "Source",
    "SourceColumns",
    "SourceParams",
    "open_source",
    "open_unlabelled",
]


def open_source(
    params: SourceParams,
    which: Literal["location", "test_location"],
    store: Callable[[], ObjectStore],
) -> Source:
    """Open the source that a location names.

    Raises:
        MissingDataError: nothing is there.
        SettingsError: the location is of a kind that is not supported.
        StoreError: S3 refuses.
    """
    location = params.location if which == "location" else params.test_location or ""
    columns = SourceColumns(
        params.text_column, params.label_column, tuple(params.slice_columns), params.encoding
    )
    splits = parse_pairs(params.splits) if which == "location" else {}
    return _opened(location, columns, params, f"data.source.{which}", store, splits)


def open_unlabelled(location: str, text_column: str, store: Callable[[], ObjectStore]) -> Source:
    """Open a source of which only the text is read: the rows of every split but "test" have no label.

    Raises:
        MissingDataError: nothing is there.
        StoreError: S3 refuses.
    """
    setting = "pretraining.location"
    try:
        columns = SourceColumns(text_column, label="")
        return _opened(location, columns, SourceParams(), setting, store, {})
    except MissingDataError as error:
        raise MissingDataError(error.what, error.where, f"check {setting}") from error


def _opened(
    location: str,
    columns: SourceColumns,
    hub: SourceParams,
    setting: str,
    store: Callable[[], ObjectStore],
    splits: Mapping[str, str],
) -> Source:
    if location == SAMPLE:
        return LocalFiles(Path(__file__).parents[2] / "sample", columns, SAMPLE, splits)
    if S3_LIKE.match(location):
        parse_uri(location, setting)
        return StoredObjects(store(), location, columns, splits)
    path = local_path(location)
    if path.exists():
        return LocalFiles(path, columns, location, splits)
    if "://" in location:
        raise SettingsError(
            f"Cannot read reviews from {location!r}",
            setting,
            "write s3://bucket/prefix, a file or folder on this machine, or the name of a hub data set",
        )
    if not _HUB_NAME.fullmatch(location):
        raise MissingDataError("No such file or folder", location, f"check {setting}")
    # With a label map, the label names are its targets, not names for the ids of a data set.
    label_names = [] if hub.label_map else hub.label_names
    return HubDataset(
        location, hub.hub_configuration, hub.hub_revision, columns, label_names, splits
    )
