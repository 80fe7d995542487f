"""The changes that `make doors` makes: each one's files, its edits, and the tests that show that it works."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Change:
    """A change to the code.

    Args:
        name: of the change.
        shown_by: what shows that it works, in words.
        tests: pytest's arguments.
        new: contents of new files, by path.
        edits: by path, pairs of a text and its replacement.
        check: files of tests that are added after the touched files were counted.
    """

    name: str
    shown_by: str
    tests: Sequence[str]
    new: Mapping[str, str] = field(default_factory=dict[str, str])
    edits: Mapping[str, Sequence[tuple[str, str]]] = field(
        default_factory=dict[str, Sequence[tuple[str, str]]]
    )
    check: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def files(self) -> list[str]:
        """The files that the change may touch."""
        return [*self.new, *self.edits]

    def apply(self, root: Path) -> None:
        """Make the change. Raises ValueError if a text to replace is not there exactly once."""
        for name, content in self.new.items():
            (root / name).write_text(content, encoding="utf-8")
        for name, pairs in self.edits.items():
            text = (root / name).read_text(encoding="utf-8")
            for old, new in pairs:
                if text.count(old) != 1:
                    raise ValueError(f"{name} has {text.count(old)} times: {old}")
                text = text.replace(old, new)
            (root / name).write_text(text, encoding="utf-8")


def _example(name: str) -> str:
    """Return the code of a file in `examples/`."""
    return (Path(__file__).parent / "examples" / name).read_text(encoding="utf-8")


CHANGES = (
    Change(
        "decision rule",
        "scoring, gate, metrics and engines give the new label",
        ["tests/test_door.py"],
        edits={
            "tasks/core/decision.py": [
                (
                    "return np.asarray(answers).argmax(axis=1)",
                    "return np.full(len(answers), np.asarray(answers).shape[1] - 1)",
                )
            ]
        },
        check={"tests/test_door.py": _example("decision_test.py")},
    ),
    Change(
        "file format",
        "the contract of formats; the form of score offers it",
        ["tests/core/formats/test_formats.py", "tests/test_door.py", "-k", "arrow"],
        new={"tasks/core/formats/arrow.py": _example("arrow.py")},
        edits={
            "tasks/core/formats/registry.py": [
                ('"tsv", "parquet"]', '"tsv", "parquet", "arrow"]'),
                (
                    "_ENTRIES: dict[str, FormatEntry] = {\n",
                    "_ENTRIES: dict[str, FormatEntry] = {\n"
                    '    "arrow": FormatEntry("tasks.core.formats.arrow:ARROW", magic=b"ARROW1"),\n',
                ),
            ]
        },
        check={"tests/test_door.py": _example("format_test.py")},
    ),
    Change(
        "source of reviews",
        "reviews are read from a table of SQLite",
        ["tests/test_door.py"],
        new={"tasks/connectors/sources/sqlite.py": _example("sqlite.py")},
        edits={
            "tasks/connectors/sources/registry.py": [
                (
                    "    path = local_path(location)\n",
                    '    if location.startswith("sqlite:///"):\n'
                    "        return SqliteTable(location, columns)\n"
                    "    path = local_path(location)\n",
                ),
                (
                    "from tasks.connectors.storage",
                    "from tasks.connectors.sources.sqlite import SqliteTable\n"
                    "from tasks.connectors.storage",
                ),
            ]
        },
        check={"tests/test_door.py": _example("source_test.py")},
    ),
    Change(
        "scoring engine",
        "the contract of engines; the form offers it",
        ["tests/core/engines/test_engines.py", "-k", "(twice and bert) or form"],
        new={"tasks/core/engines/twice_engine.py": _example("twice_engine.py")},
        edits={
            "tasks/core/engines/registry.py": [
                ('"cascade-bf16"\n]', '"cascade-bf16", "twice"\n]'),
                (
                    "_MODULES: dict[str, str] = {\n",
                    "_MODULES: dict[str, str] = {\n"
                    '    "twice": "tasks.core.engines.twice_engine",\n',
                ),
            ]
        },
    ),
    Change(
        "family of base models",
        "a DeBERTa, which no file names, is tried, packed or padded, and scored",
        ["tests/test_door.py"],
        check={"tests/test_door.py": _example("family_test.py")},
    ),
    Change(
        "kind of work pool",
        "deployments.apply offers it, and reads its template",
        ["tests/test_door.py"],
        new={"deployments/pools/ecs.json": '{"job_configuration": {}, "variables": {}}\n'},
        check={"tests/test_door.py": _example("pool_test.py")},
    ),
    Change(
        "column of the predictions",
        "it is written with its type; what was scored without it is scored again",
        ["tests/test_door.py"],
        edits={
            "tasks/core/scoring/columns.py": [
                (
                    "#: Behind the probabilities",
                    "COLUMNS += (\n"
                    '    Column("letters", WHOLE_NUMBER, lambda row: len(row.prediction.review.text)),\n'
                    ")\n#: Behind the probabilities",
                )
            ]
        },
        check={"tests/test_door.py": _example("column_test.py")},
    ),
    Change(
        "step between split and tokens",
        "a retraining takes it, reuses it, and trace describes it",
        ["tests/flows/test_door.py"],
        new={"tasks/data/shortening.py": _example("shortening.py")},
        edits={
            "flows/stages/preparation.py": [
                (
                    "    inspection = inspect_reviews(",
                    "    split = leave_out_long(split)\n    inspection = inspect_reviews(",
                ),
                (
                    "from tasks.data.inspection import inspect_reviews\n",
                    "from tasks.data.inspection import inspect_reviews\n"
                    "from tasks.data.shortening import leave_out_long\n",
                ),
            ]
        },
        check={"tests/flows/test_door.py": _example("step_test.py")},
    ),
)
