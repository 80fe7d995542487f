"""Reviews of a table are read."""

import sqlite3
from pathlib import Path

from tasks.connectors.sources.params import SourceParams
from tasks.connectors.sources.registry import open_source


def test_reviews_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE reviews (text, label)")
        database.execute(
            "INSERT INTO reviews VALUES ('Lovely.', 'POSITIVE'), ('Dull.', 'NEGATIVE')"
        )
    params = SourceParams(location=f"sqlite:///{path}?reviews")
    source = open_source(params, "location", None)
    rows = list(source.rows("train"))
    assert [(row.text, row.label) for row in rows] == [
        ("Lovely.", "POSITIVE"),
        ("Dull.", "NEGATIVE"),
    ]
