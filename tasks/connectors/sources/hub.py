"""Labelled reviews of a Hugging Face data set, through `datasets`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx2
from datasets import ClassLabel, Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tasks.connectors.sources.base import SourceColumns, Unreadable, extra, label_of
from tasks.core.blame import blamed_on
from tasks.core.data.labels import meaning
from tasks.core.data.splits.split_names import SplitChoice, splits_by_option
from tasks.core.data.usable_rows import RawReview
from tasks.core.errors import MissingDataError, UnreadableDataError, disk_full, is_disk_full
from tasks.core.formats.columns import require_columns
from tasks.core.records import SourceFile


class HubDataset:
    """A data set by its hub id. Opening it pins the commit that is read. Code of the data set is never run."""

    def __init__(
        self,
        name: str,
        configuration: str | None,
        revision: str | None,
        columns: SourceColumns,
        label_names: Sequence[str] = (),
        splits: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._user_label_names = label_names
        self._configuration = configuration
        self._columns = columns
        self._label_names: list[str] | None = None
        try:
            self._commit = str(HfApi().dataset_info(name, revision=revision).sha)
        except GatedRepoError as error:
            raise MissingDataError(
                "The hub asks for permission to read this data set",
                name,
                "log in with `hf auth login`",
            ) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise _unknown(name, "and no such data set on the hub") from error
        except RevisionNotFoundError as error:
            raise MissingDataError(
                f"The hub data set has no revision {revision!r}",
                name,
                "check data.source.hub_revision",
            ) from error
        except (HfHubHTTPError, httpx2.HTTPError, OfflineModeIsEnabled, OSError) as error:
            raise _unknown(name, "and the hub cannot be reached") from error
        self._sets = self._load()
        self._splits = self._splits_of(splits or {})

    def _load(self) -> dict[str, Dataset]:
        try:
            loaded: Any = load_dataset(self.name, self._configuration, revision=self._commit)
            return dict(loaded)
        except (DatasetNotFoundError, DatasetGenerationError, ValueError, OSError) as error:
            if is_disk_full(error):
                raise disk_full("downloading the data set", "HF_HOME") from error
            raise UnreadableDataError(
                f"The hub data set cannot be read: {error}",
                self.name,
                "check data.source.hub_configuration",
            ) from error

    def identity(self) -> dict[str, Any]:
        identity = {"hub": self.name, "configuration": self._configuration, "commit": self._commit}
        return identity | (
            {"ids_named": list(self._user_label_names)} if self._user_label_names else {}
        )

    def _splits_of(self, splits: Mapping[str, str]) -> dict[str, SplitChoice]:
        """Assign splits: only train and test are used, unless the user maps another split to one of them."""
        named = {name: SplitChoice(name, "its name in the data set") for name in self._sets}
        return named | splits_by_option(list(self._sets), splits)

    def _names(self, split: str) -> list[str]:
        return [name for name, choice in self._splits.items() if choice.split == split]

    def files(self) -> list[SourceFile]:
        return [SourceFile(name=n, split=t.split, why=t.why) for n, t in self._splits.items()]

    def splits(self) -> list[str]:
        unlabelled = [] if self._columns.label else ["unsupervised"]
        if not any(self._names(split) for split in ("train", *unlabelled)):
            raise MissingDataError(
                f"No train split; the data set has: {', '.join(self._sets)}",
                self.name,
                "name the split to train on: --data.source.splits NAME=train",
            )
        return [split for split in ("train", "test", *unlabelled) if self._names(split)]

    def label_names(self) -> list[str] | None:
        return self._label_names

    def rows(self, split: str) -> Iterator[RawReview | Unreadable]:
        for name in self._names(split):
            yield from self._rows(name)

    def _rows(self, split: str) -> Iterator[RawReview]:
        data: Any = self._sets[split]
        feature = data.features.get(self._columns.label)
        names = list(feature.names) if isinstance(feature, ClassLabel) else None
        self._label_names = names or self._label_names
        meanings = set(map(meaning, self._user_label_names))
        if names and meanings and set(map(meaning, names)) != meanings:
            names = None  # the user's names stand for the ids
        require_columns(data.column_names, self._columns.all, f"{self.name} {split}")
        with blamed_on(f"{self.name} {split}"):
            for number, values in enumerate(data, start=1):
                yield self._review(values, names, f"{split} row {number}")

    def _review(self, values: dict[str, Any], names: list[str] | None, where: str) -> RawReview:
        text = values[self._columns.text]
        label = values[self._columns.label] if self._columns.label else None
        if names and isinstance(label, int) and 0 <= label < len(names):
            label = names[label]
        return RawReview(
            text if isinstance(text, str) else None,
            label_of(label, self._columns.label, f"{self.name} {where}"),
            where,
            tuple(extra(values[name]) for name in self._columns.extras),
        )


def _unknown(name: str, why: str) -> MissingDataError:
    return MissingDataError(
        f"No data {name!r}: no local file or folder of that name, {why}",
        "data.source.location",
        "check the spelling, or give a path (./...), s3://bucket/prefix, or 'sample'",
    )
