"""Labelled reviews in files: on this machine, or as objects in S3. Scoring decodes its input with the same code."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tasks.connectors.sources.base import SourceColumns, Unreadable, extra, label_of
from tasks.connectors.storage.object_store import ObjectStore, parse_uri
from tasks.core.blame import blamed_on
from tasks.core.data.splits.split_names import SplitChoice, splits_by_name
from tasks.core.data.usable_rows import RawReview
from tasks.core.digests import file_digest
from tasks.core.errors import DataError, MissingDataError, UnreadableDataError
from tasks.core.formats import reading
from tasks.core.formats.base import UnfitError, require_plausible
from tasks.core.formats.columns import lookup, with_columns
from tasks.core.formats.detection.compression import stored_bytes
from tasks.core.formats.detection.foreign import foreign_name
from tasks.core.formats.detection.names import format_of, is_hidden
from tasks.core.formats.values import held_bytes
from tasks.core.records import SourceFile

# Written by the datasets library beside its data files.
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_REVIEW_BYTES = 88  # of a `RawReview` and its place in a list, without its values
_MUCH = 1 << 40  # bytes; large enough to count everything a row holds
_ONE = "Its reviews take more than {} times its {:,} bytes of memory"
_ALL = "The reviews up to here take more than {} times the {:,} bytes of their files in memory"


class _Held:
    """A limit on the memory of a source's reviews: a file of a thousand bytes may hold millions of reviews."""

    def __init__(self) -> None:
        self._bytes = self._stored = 0  # of all files so far

    def counted(self, reviews: Iterable[RawReview | Unreadable], stored: int) -> Iterator[Any]:
        """Pass the reviews of a file through and count their memory; `stored` is the file's size in bytes.

        Raises:
            UnfitError: this file, or all files so far, take far more memory than they have bytes.
        """
        self._stored += stored
        held = 0
        for review in reviews:
            if isinstance(review, RawReview):
                values = (review.text, review.label, review.where, review.extras)
                size = _REVIEW_BYTES + held_bytes(values, _MUCH)
                held, self._bytes = held + size, self._bytes + size
                require_plausible(held, stored, _ONE)
                require_plausible(self._bytes, self._stored, _ALL)
            yield review


class _Files(ABC):
    """Base class of sources of files, local or in S3: names, splits, decoding."""

    def __init__(
        self,
        name: str,
        columns: SourceColumns,
        names: list[str],
        splits: Mapping[str, str],
        passed_over: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._columns = columns
        self._passed_over = passed_over
        self._splits = self._splits_of(names, splits)
        if not any(choice.split == "train" for choice in self._splits.values()):
            raise MissingDataError(
                "No file holds training reviews: "
                + ", ".join(
                    f"{file} is {choice.split}" for file, choice in list(self._splits.items())[:10]
                ),
                name,
                "name the files train, validation or test, or set --data.source.splits NAME=train",
            )
        for file in names:
            format_of(file)

    def _splits_of(self, names: list[str], splits: Mapping[str, str]) -> dict[str, SplitChoice]:
        if len(names) == 1 and not splits:
            return {names[0]: SplitChoice("train", "it is the only file")}
        choices = splits_by_name(names, splits, labelled=bool(self._columns.label))
        if not splits and {choice.split for choice in choices.values()} == {"test"}:
            return dict.fromkeys(choices, SplitChoice("train", "all of them are named test"))
        if self._columns.label:
            return choices
        return {
            name: SplitChoice("train", choice.why) if choice.split == "unsupervised" else choice
            for name, choice in choices.items()
        }

    def files(self) -> list[SourceFile]:
        read = [
            SourceFile(name=name, split=choice.split, why=choice.why)
            for name, choice in self._splits.items()
        ]
        return read + [
            SourceFile(name=name, split="-", why=_why_passed_over(name))
            for name in self._passed_over
        ]

    def splits(self) -> list[str]:
        present = {choice.split for choice in self._splits.values()}
        return [split for split in ("train", "test") if split in present]

    def label_names(self) -> list[str] | None:
        return None  # files hold labels, not their names

    def rows(self, split: str) -> Iterator[RawReview | Unreadable]:
        held = _Held()
        for file in (name for name, choice in self._splits.items() if choice.split == split):
            alone = f"/{self.name}".endswith(f"/{file}")  # the location names this one file
            where = self.name if alone else f"{self.name.rstrip('/')}/{file}"
            with self._open(file) as stream, blamed_on(where):
                try:
                    stored = stored_bytes(stream)
                    # Close at once if reading ends early, not at garbage collection: a separate process may be
                    # decoding.
                    with contextlib.closing(self._decoded(file, where, stream)) as reviews:
                        yield from held.counted(reviews, stored)
                except UnfitError as error:
                    raise UnreadableDataError(str(error), where, error.fix) from error

    def _decoded(
        self, file: str, where: str, stream: IO[bytes]
    ) -> Generator[RawReview | Unreadable]:
        short = PurePosixPath(file).name
        columns = self._columns.all
        try:
            with contextlib.ExitStack() as opened:
                rows = reading.decode(
                    file, stream, columns=columns, encoding=self._columns.encoding
                )
                if isinstance(rows, Generator):
                    opened.callback(rows.close)
                for row in with_columns(rows, columns, where):
                    if row.values is None:
                        line = f" (line {row.line})" if row.line else ""
                        yield Unreadable(f"{short} row {row.number}{line}", row.problem)
                    else:
                        yield self._review(row.values, f"{short} row {row.number}", where)
        except UnreadableDataError as error:
            raise UnreadableDataError(error.what, where, error.fix) from error

    def _review(self, values: Mapping[str, Any], row: str, where: str) -> RawReview:
        columns = self._columns
        text = lookup(values, columns.text)
        label = lookup(values, columns.label) if columns.label else None
        return RawReview(
            text if isinstance(text, str) else None,
            label_of(label, columns.label, f"{where} row {row.rpartition(' row ')[2]}"),
            row,
            tuple(extra(lookup(values, name)) for name in columns.extras),
        )

    @abstractmethod
    def _open(self, file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a file's content as a seekable stream."""


class LocalFiles(_Files):
    """A file, or every file below a folder. In a folder, hidden files and files of other formats are skipped."""

    def __init__(
        self, path: Path, columns: SourceColumns, name: str, splits: Mapping[str, str] | None = None
    ) -> None:
        self._paths: dict[str, Path] = {path.name: path}
        passed_over: list[str] = []
        if path.is_dir():
            files = {
                p.relative_to(path).as_posix(): p for p in sorted(path.rglob("*")) if p.is_file()
            }
            self._paths = {below: p for below, p in files.items() if _is_data(below)}
            passed_over = [below for below in files if _is_passed_over(below)]
        if not self._paths:
            raise _nothing_to_read("file in this folder", str(path), passed_over)
        super().__init__(name, columns, list(self._paths), splits or {}, passed_over)

    def identity(self) -> dict[str, Any]:
        digests: dict[str, str] = {}
        for name in self._paths:
            with self._open(name):  # fails with a readable error, which file_digest would not
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

    def __init__(
        self,
        store: ObjectStore,
        uri: str,
        columns: SourceColumns,
        splits: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        listed = store.list(uri)
        key = parse_uri(uri)[1].rstrip("/")
        prefix = key and f"{key}/"
        self._objects = {
            item.key.removeprefix(prefix).rsplit("/", 1)[-1]
            if item.uri == uri
            else item.key.removeprefix(prefix): item
            for item in listed
        }
        passed_over = [name for name in self._objects if _is_passed_over(name)]
        self._objects = {name: item for name, item in self._objects.items() if _is_data(name)}
        if not self._objects:
            raise _nothing_to_read("object below this prefix", uri, passed_over)
        super().__init__(uri, columns, list(self._objects), splits or {}, passed_over)

    def identity(self) -> dict[str, Any]:
        return {"objects": {item.uri: [item.size, item.etag] for item in self._objects.values()}}

    def _open(self, file: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self._store.open(self._objects[file])


def _is_data(name: str) -> bool:
    if is_hidden(name) or PurePosixPath(name).name in _DESCRIPTIONS:
        return False
    try:
        format_of(name)
    except UnreadableDataError:
        return False
    return True


def _is_passed_over(name: str) -> bool:
    """True for a skipped file that the user may have meant as data; False for hidden files and descriptions."""
    hidden = is_hidden(name) or PurePosixPath(name).name in _DESCRIPTIONS
    return not hidden and not name.endswith("/") and not _is_data(name)


def _why_passed_over(name: str) -> str:
    foreign = foreign_name(name)
    return f"it is {foreign.what}" if foreign else "its format is not supported"


def _nothing_to_read(what: str, where: str, passed_over: Sequence[str]) -> DataError:
    """Return the error for a location without data. It names a file there that the user may have meant."""
    for name in passed_over:
        if foreign := foreign_name(name):
            return foreign.error(f"{where.rstrip('/')}/{name}", by_name=True)
    return MissingDataError(
        f"No Parquet, CSV, TSV or JSONL {what}", where, "check data.source.location"
    )
