"""Where labelled reviews come from. One file a source, one rule in `open_source`; all pass the same contract test."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.connectors.object_store import ObjectStore
from tasks.connectors.sources.base import Source, SourceColumns
from tasks.connectors.sources.files import LocalFiles, StoredObjects
from tasks.connectors.sources.hub import HubDataset
from tasks.core.errors import MissingDataError
from tasks.core.forms import Form

SAMPLE = "sample"

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
        "(Parquet, CSV, TSV, JSONL; gz, zst or bz2), or a hub data set such as stanfordnlp/imdb. Files whose names "
        "begin with train or test, or lie in folders of that name, are those splits; others are all train.",
    )
    test_location: str | None = Field(
        default=None,
        description="Where the test reviews are, if apart. Empty: the source's own test split, or a share of it.",
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
    slice_columns: list[str] = Field(
        default=[],
        max_length=20,
        description="Further columns (language, product, shop) by which the test set is cut into slices: a model that "
        "is worse on one of them is found out.",
    )
    hub_configuration: str | None = Field(
        default=None, description="Configuration of a hub data set, where it has several."
    )
    hub_revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a hub data set. Empty takes the newest and records which it was.",
    )


def open_source(
    params: SourceParams,
    which: Literal["location", "test_location"],
    store: Callable[[], ObjectStore],
) -> Source:
    """The source a location names. Raises MissingDataError where nothing is there, StoreError where S3 refuses."""
    location = params.location if which == "location" else params.test_location or ""
    columns = SourceColumns(params.text_column, params.label_column, tuple(params.slice_columns))
    return _opened(location, columns, params, f"data.source.{which}", store)


def open_unlabelled(location: str, text_column: str, store: Callable[[], ObjectStore]) -> Source:
    """Reviews of which only the text is read: the rows of every split but "test" have no label.

    Raises:
        MissingDataError: nothing is there.
        StoreError: S3 refuses.
    """
    setting = "pretraining.location"
    try:
        columns = SourceColumns(text_column, label="")
        return _opened(location, columns, SourceParams(), setting, store)
    except MissingDataError as error:
        raise MissingDataError(error.what, error.where, f"check {setting}") from error


def _opened(
    location: str,
    columns: SourceColumns,
    hub: SourceParams,
    setting: str,
    store: Callable[[], ObjectStore],
) -> Source:
    if location == SAMPLE:
        return LocalFiles(Path(__file__).parents[2] / "sample", columns, name=SAMPLE)
    if location.startswith("s3://"):
        return StoredObjects(store(), location, columns)
    path = Path(location).expanduser()
    if path.exists():
        return LocalFiles(path, columns, name=location)
    if (
        location.startswith((".", "/", "~"))
        or location.count("/") != 1
        or "." in location.rsplit("/", 1)[-1]
    ):
        raise MissingDataError("No such file or folder", location, f"check {setting}")
    return HubDataset(location, hub.hub_configuration, hub.hub_revision, columns, hub.label_names)
