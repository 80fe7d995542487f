"""Where labelled reviews come from. One file a source, one rule in `open_source`; all pass the same contract test."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tasks.connectors.local_paths import local_path
from tasks.connectors.sources.base import Source, SourceColumns
from tasks.connectors.sources.files import LocalFiles, StoredObjects
from tasks.connectors.sources.hub import HubDataset
from tasks.connectors.storage.object_store import S3_LIKE, ObjectStore, parse_uri
from tasks.core.data.label_map import LabelMap
from tasks.core.data.labels import NotALabelError, canonical_label, meaning
from tasks.core.errors import MissingDataError, SettingsError
from tasks.core.formats import UTF8, canonical_encoding
from tasks.core.forms import Form
from tasks.core.parsing.pairs import PairsText, parse_pairs

SAMPLE = "sample"
# With a dot in its second part it is rather a file. The hub refuses the rest.
_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w-]*", re.ASCII)

__all__ = [
    "SAMPLE",
    "Source",
    "SourceColumns",
    "SourceParams",
    "open_source",
    "open_unlabelled",
]


class SourceParams(Form):
    """Where labelled reviews are, and which columns to read."""

    location: str = Field(
        default=SAMPLE,
        min_length=1,
        description="'sample' (the reviews that come with Nightshift), s3://bucket/prefix, a local file or folder "
        "(Parquet, CSV, TSV, JSONL; gz, zst or bz2), or a hub data set such as stanfordnlp/imdb. Files and folders "
        "named train, test, validation and the like are those splits; where none is named train, the others are.",
    )
    test_location: str | None = Field(
        default=None,
        description="Where the test reviews are, if apart. Empty: the source's own test split, or a share of it.",
    )
    splits: PairsText = Field(
        default="",
        max_length=4_000,
        description="Which split a file, a folder or a split of a hub data set is, where its name does not say: "
        "2025.csv=test, old/*=-, validation=test (train, test, validation, or - to leave it out).",
    )
    text_column: str = Field(
        default="text", min_length=1, description="Column that holds the review."
    )
    label_column: str = Field(
        default="label", min_length=1, description="Column that holds the class."
    )
    label_names: list[str] = Field(
        default=[],
        description="The classes in order of their ids, as in [NEGATIVE, POSITIVE]. Empty: as the source says, "
        "else the distinct labels in sorted order.",
    )
    label_map: PairsText = Field(
        default="",
        max_length=20_000,
        description="What labels mean: 1=NEGATIVE, 2=NEGATIVE, 4=POSITIVE, 5=POSITIVE, 3=- (- leaves such rows out). "
        "Empty: labels are what the source has.",
    )
    slice_columns: list[str] = Field(
        default=[],
        max_length=20,
        description="Further columns (language, product, shop) by which the test set is cut into slices: a model that "
        "is worse on one of them is found out.",
    )
    encoding: str = Field(
        default=UTF8,
        max_length=40,
        description="Of CSV, TSV and JSONL, such as cp1252. Files that are UTF-8, or whose byte order mark says what "
        "they are (UTF-16), are found out.",
    )
    hub_configuration: str | None = Field(
        default=None, description="Configuration of a hub data set, where it has several."
    )
    hub_revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a hub data set. Empty takes the newest and records which it was.",
    )

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        return canonical_encoding(name)

    @field_validator("label_map")
    @classmethod
    def _map_is_of_labels(cls, text: str) -> str:
        LabelMap(text)
        return text

    @field_validator("label_names")
    @classmethod
    def _names_are_of_labels(cls, names: list[str]) -> list[str]:
        try:
            spelled = [canonical_label(name) for name in names]
        except NotALabelError as error:
            raise ValueError(f"a name is {error}; write such as NEGATIVE,POSITIVE") from None
        known = [name for name in spelled if name is not None]
        if len(known) < len(names):
            raise ValueError("a name is empty")
        if len(set(map(meaning, known))) < len(known):
            raise ValueError("two names mean the same label")
        return known


def open_source(
    params: SourceParams,
    which: Literal["location", "test_location"],
    store: Callable[[], ObjectStore],
) -> Source:
    """The source a location names.

    Raises:
        MissingDataError: nothing is there.
        SettingsError: it names no place that reviews are read from.
        StoreError: S3 refuses.
    """
    location = params.location if which == "location" else params.test_location or ""
    columns = SourceColumns(
        params.text_column, params.label_column, tuple(params.slice_columns), params.encoding
    )
    said = parse_pairs(params.splits) if which == "location" else {}
    return _opened(location, columns, params, f"data.source.{which}", store, said)


def open_unlabelled(location: str, text_column: str, store: Callable[[], ObjectStore]) -> Source:
    """Reviews of which only the text is read: the rows of every split but "test" have no label.

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
    said: Mapping[str, str],
) -> Source:
    if location == SAMPLE:
        return LocalFiles(Path(__file__).parents[2] / "sample", columns, SAMPLE, said)
    if S3_LIKE.match(location):
        parse_uri(location, setting)
        return StoredObjects(store(), location, columns, said)
    path = local_path(location)
    if path.exists():
        return LocalFiles(path, columns, location, said)
    if "://" in location:
        raise SettingsError(
            f"{location!r} is no place that reviews are read from",
            setting,
            "write s3://bucket/prefix, a file or folder of this machine, or the name of a hub data set",
        )
    if not _HUB_NAME.fullmatch(location):
        raise MissingDataError("No such file or folder", location, f"check {setting}")
    # Names that labels are mapped to do not stand for the ids of a data set.
    wanted = [] if hub.label_map else hub.label_names
    return HubDataset(location, hub.hub_configuration, hub.hub_revision, columns, wanted, said)
