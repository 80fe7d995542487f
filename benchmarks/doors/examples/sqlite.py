"""A table of an SQLite database as a source of labelled reviews: sqlite:///path?table."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from tasks.connectors.sources.base import SourceColumns, Unreadable, label_of
from tasks.core.data.usable_rows import RawReview
from tasks.core.records import SourceFile


class SqliteTable:
    """All rows are for training."""

    def __init__(self, location: str, columns: SourceColumns) -> None:
        self.name = location
        self._path, _, self._table = location.removeprefix("sqlite:///").partition("?")
        self._columns = columns

    def identity(self) -> dict[str, Any]:
        with sqlite3.connect(self._path) as database:
            return {
                "sqlite": self.name,
                "changes": database.execute("PRAGMA data_version").fetchall(),
            }

    def splits(self) -> list[str]:
        return ["train"]

    def files(self) -> list[SourceFile]:
        return [SourceFile(name=self.name, split="train", why="all rows of a table are")]

    def rows(self, split: str) -> Iterator[RawReview | Unreadable]:
        query = f"SELECT {self._columns.text}, {self._columns.label} FROM {self._table}"
        with sqlite3.connect(self._path) as database:
            for number, (text, label) in enumerate(database.execute(query), 1):
                where = f"{self.name} row {number}"
                yield RawReview(text, label_of(label, self._columns.label, where), where)

    def label_names(self) -> list[str] | None:
        return None
