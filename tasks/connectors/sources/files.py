"""Labelled reviews in files: on this machine, or as objects in S3. Both are decoded by the same code as scoring."""

import contextlib
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tasks.connectors.object_store import ObjectStore
from tasks.connectors.sources.base import SourceColumns, Unreadable, extra
from tasks.core import formats
from tasks.core.blame import blamed_on
from tasks.core.digests import file_digest
from tasks.core.errors import MissingDataError, UnreadableDataError
from tasks.core.labels import canonical_label
from tasks.core.validation import RawReview

logger = logging.getLogger(__name__)

# What the datasets library writes beside its files.
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_REVIEW_BYTES = 88  # of a `RawReview` and its place in a list, without its values
_MUCH = 1 << 40  # bytes: whatever a row holds is counted
_ONE = "Its reviews take more than {} times its {:,} bytes of memory"
_ALL = "The reviews up to here take more than {} times the {:,} bytes of their files in memory"
_SPLIT = re.compile(r"(?:^|/)(train|test|unsupervised|validation)(?=[-_./\d]|$)", re.IGNORECASE)


def split_of(name: str) -> str:
    """The split a relative file name says: `test-00000.parquet` and `test/a.csv` are test; unnamed ones are train.

    `unsupervised` and `validation` files are neither trained nor tested on; where no labels are asked for,
    `unsupervised` ones are read.
    """
    found = _SPLIT.search(name)
    return found.group(1).lower() if found else "train"


class _Held:
    """What training holds of a source's files: a thousand bytes of them may stand for millions of reviews."""

    def __init__(self) -> None:
        self._bytes = self._stored = 0  # of all files so far

    def counted(self, reviews: Iterable[RawReview | Unreadable], stored: int) -> Iterator[Any]:
        """The reviews of a file, which has so many bytes where it is stored.

        Raises:
            UnfitError: this file, or all so far, take far more memory than they have bytes.
        """
        self._stored += stored
        held = 0
        for review in reviews:
            if isinstance(review, RawReview):
                values = (review.text, review.label, review.where, review.extras)
                size = _REVIEW_BYTES + formats.held_bytes(values, _MUCH)
                held, self._bytes = held + size, self._bytes + size
                formats.require_plausible(held, stored, _ONE)
                formats.require_plausible(self._bytes, self._stored, _ALL)
            yield review


class _Files(ABC):
    """What files have in common, wherever they lie: names, splits, decoding."""

    def __init__(self, name: str, columns: SourceColumns, names: list[str]) -> None:
        self.name = name
        self._columns = columns
        self._names: dict[str, list[str]] = {}
        for file in names:
            split = split_of(file)
            if split == "unsupervised" and not columns.label:
                split = "train"
            self._names.setdefault(split, []).append(file)
        if len(names) == 1 or set(self._names) == {"test"}:
            self._names = {"train": names}  # a single file or split that happens to be named so
        for split in self._names.keys() - {"train", "test"}:
            logger.info("%s: %s %s files are not used", name, len(self._names[split]), split)
        if "train" not in self._names:
            raise MissingDataError(
                "No file of training reviews",
                name,
                "see data.source.location for how files are named",
            )
        for file in names:
            formats.format_of(file)

    def splits(self) -> list[str]:
        return [split for split in ("train", "test") if split in self._names]

    def label_names(self) -> list[str] | None:
        return None  # files hold labels, not their names

    def rows(self, split: str) -> Iterator[RawReview | Unreadable]:
        held = _Held()
        for file in self._names[split]:
            alone = f"/{self.name}".endswith(f"/{file}")  # the location names this one file
            where = self.name if alone else f"{self.name.rstrip('/')}/{file}"
            with self._open(file) as stream, blamed_on(where):
                try:
                    stored = formats.stored_bytes(stream)
                    yield from held.counted(self._decoded(file, where, stream), stored)
                except formats.UnfitError as error:
                    raise UnreadableDataError(str(error), where, error.fix) from error

    def _decoded(
        self, file: str, where: str, stream: IO[bytes]
    ) -> Iterator[RawReview | Unreadable]:
        short = PurePosixPath(file).name
        try:
            rows = formats.decode(file, stream, columns=self._columns.all)
            for row in formats.with_columns(rows, self._columns.all, where):
                if row.values is None:
                    yield Unreadable(f"{short} row {row.number}", row.problem)
                    continue
                text = formats.lookup(row.values, self._columns.text)
                label = self._columns.label and formats.lookup(row.values, self._columns.label)
                yield RawReview(
                    text if isinstance(text, str) else None,
                    canonical_label(label),
                    f"{short} row {row.number}",
                    tuple(extra(formats.lookup(row.values, n)) for n in self._columns.extras),
                )
        except UnreadableDataError as error:
            raise UnreadableDataError(error.what, where, error.fix) from error

    @abstractmethod
    def _open(self, file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """A file's content, seekable."""


class LocalFiles(_Files):
    """A file, or every file below a folder. Hidden files and those of other kinds are passed over in a folder."""

    def __init__(self, path: Path, columns: SourceColumns, name: str) -> None:
        self._paths: dict[str, Path] = {path.name: path}
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file())
            self._paths = {
                below: p for p in found if _is_data(below := p.relative_to(path).as_posix())
            }
        if not self._paths:
            raise MissingDataError(
                "No Parquet, CSV, TSV or JSONL file in this folder",
                str(path),
                "check data.source.location",
            )
        super().__init__(name, columns, list(self._paths))

    def identity(self) -> dict[str, Any]:
        digests: dict[str, str] = {}
        for name in self._paths:
            with self._open(name):  # says in a sentence what file_digest would say in a stack trace
                digests[name] = file_digest(self._paths[name])
        return {"files": digests}

    @contextlib.contextmanager
    def _open(self, file: str) -> Generator[IO[bytes]]:
        path = self._paths[file]
        try:
            stream = path.open("rb")
        except OSError as error:
            raise UnreadableDataError(
                f"Cannot open the file: {error.strerror}", str(path), "check its permissions"
            ) from error
        with stream:
            yield stream


class StoredObjects(_Files):
    """One object, or every object below a prefix."""

    def __init__(self, store: ObjectStore, uri: str, columns: SourceColumns) -> None:
        self._store = store
        listed = store.list(uri)
        prefix = uri.split("/", 3)[3].rstrip("/") + "/" if uri.count("/") > 2 else ""
        self._objects = {
            item.key.removeprefix(prefix).rsplit("/", 1)[-1]
            if item.uri == uri
            else item.key.removeprefix(prefix): item
            for item in listed
        }
        self._objects = {name: item for name, item in self._objects.items() if _is_data(name)}
        if not self._objects:
            raise MissingDataError(
                "No Parquet, CSV, TSV or JSONL object below this prefix",
                uri,
                "check data.source.location",
            )
        super().__init__(uri, columns, list(self._objects))

    def identity(self) -> dict[str, Any]:
        return {"objects": {item.uri: [item.size, item.etag] for item in self._objects.values()}}

    def _open(self, file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self._store.open(self._objects[file])


def _is_data(name: str) -> bool:
    if formats.is_hidden(name) or PurePosixPath(name).name in _DESCRIPTIONS:
        return False
    try:
        formats.format_of(name)
    except UnreadableDataError:
        return False
    return True
