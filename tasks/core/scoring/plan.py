"""What a scoring run is to do, frozen before it begins: which objects, in which shards, and where everything goes.

    <output>/model=<name>/version=<n>/<key below the input>          predictions; the object is its own commit record
    .../_rejected/<key>.<fingerprint>.jsonl       its rows that were not scored, written before it
    .../_parts/<digest>/<i>                       parts of a large object, until they are joined; of whichever run
    .../_runs/<run>/plans/<plan>/shards/<i>.json  what shard i is to score
    .../_runs/<run>/manifest.json                 the run, and which plan counts; written after its shards, once
    .../_runs/<run>/plans/<plan>/results/<i>.json what became of shard i
    .../_runs/<run>/overwritten.json              inputs that changed before they were scored; the next run's
    .../_runs/<run>/_SUCCESS                      last, and only if nothing failed; else _INCOMPLETE
    .../_unfinished/<run>.<token>                 a run that is under way or failed (`success_markers.py`)

The same key always goes to the same place, whoever scores it, so that a run that comes again finds what is done.
"""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pydantic import Field

from tasks.core.digests import digest_of
from tasks.core.errors import UnwritableDataError
from tasks.core.formats.base import Kind
from tasks.core.formats.detection.names import output_name, said_by
from tasks.core.formats.detection.text_encodings import UTF8
from tasks.core.formats.registry import SPREADSHEETS
from tasks.core.parsing.uris import key_of
from tasks.core.records import ModelVersion, Record
from tasks.core.scoring.params import OutputFormat
from tasks.core.scoring.sharding import Entry

SCORING_VERSION = 1  # of the content of outputs: raised when the same inputs give other bytes
KEPT_VERSION = 2  # the same, of columns that go along: runs without any are not scored again
LONGEST_KEY_BYTES = 1_024  # of S3


class Columns(Record):
    """Which columns are read, and which go along to the output."""

    text: str = "text"
    id: str = "id"
    keep: list[str] = Field(default_factory=list)


class ScoringRun(Record):
    """The frozen manifest of a run: with the shards beside it, all that is needed to do it, or to prove it done."""

    run: str
    input: str
    output: str
    model: ModelVersion
    columns: Columns
    encoding: str = Field(default=UTF8, description="Of texts that do not say it.")
    output_format: OutputFormat
    precision: str
    engine: str = Field(
        default="torch", description="Runs of before there were others know none, and had torch."
    )
    csv_formula_guard: bool = Field(
        default=False, description="Runs of before there was a guard know none, and had none."
    )
    max_rejected_share: float
    allow_empty: bool = Field(description="Nothing to score is no error.")
    objects: int = Field(description="To be scored by this run.")
    bytes: int
    shards: int
    scored_before: int = Field(description="Objects that need no scoring any more.")
    rescore: bool = Field(description="Score again what is scored; what this run has done counts.")
    code: str
    flow_run: str
    plan: str = Field(
        default="",
        description="Of several that a run made when it began twice, the one that counts.",
    )
    plan_digest: str = Field(default="", description="Of its shards, in their order.")
    supersedes: list[str] = Field(
        default_factory=list,
        description="Marks of runs with the same assignment that were not finished when this one listed its inputs.",
    )

    @property
    def root(self) -> str:
        """Where outputs of this version lie."""
        return f"{self.output.rstrip('/')}/model={self.model.name}/version={self.model.version}"

    @property
    def place(self) -> str:
        """Where the records of this run lie."""
        return f"{self.root}/_runs/{self.run}"

    @property
    def input_prefix(self) -> str:
        """What stands before an entry's key."""
        return self.input if self.input.endswith("/") else self.input + "/"

    def input_uri(self, key: str) -> str:
        """Of an input object. An input that is one object has the key ''."""
        return f"{self.input_prefix}{key}" if key else self.input

    def _name(self, key: str) -> str:
        return key or PurePosixPath(self.input).name

    def output_uri(self, key: str) -> str:
        """Where its predictions go."""
        name = self._name(key)
        said, compression = said_by(name)
        kind = Kind(said or "jsonl", compression)
        return f"{self.root}/{output_name(name, kind, self.output_format)}"

    def rejected_uri(self, key: str, fingerprint: str) -> str:
        """Where its rows go that could not be scored; each content has a name of its own, and replaces no other."""
        return f"{self.root}/_rejected/{self._name(key)}.{fingerprint[:12]}.jsonl"

    def name_too_long(self, key: str) -> UnwritableDataError | None:
        """What is wrong with an input whose predictions or rejects would have a longer name than S3 allows."""
        names = (self.output_uri(key), self.rejected_uri(key, "0" * 12))
        longest = max(len(key_of(uri).encode()) for uri in names)
        if longest <= LONGEST_KEY_BYTES:
            return None
        return UnwritableDataError(
            f"Its predictions or rejects would have a key of {longest:,} bytes; S3 allows {LONGEST_KEY_BYTES:,}",
            self.input_uri(key),
            "shorten its name, or the output prefix",
        )

    def part_uri(self, entry: Entry, kind: str = "output") -> str:
        """Where a part's predictions or rejects wait for the other parts, whichever run scores them."""
        name = digest_of({"fingerprint": self.fingerprint(entry), "parts": entry.parts})
        end = (
            PurePosixPath(self.output_uri(entry.key)).name if kind == "output" else "rejected.jsonl"
        )
        return f"{self.root}/_parts/{name}/{entry.part:05}-{end}"

    def configuration(self, key: str) -> str:
        """Digest of everything that an object's predictions depend on beside the input."""
        before = self._guarded if self.guards(key) else self._unguarded
        is_tsv = said_by(key)[0] == "tsv"  # its rows were once counted by quotes alone
        return digest_of({"tsv": 2, "before": before}) if is_tsv else before

    def guards(self, key: str) -> bool:
        """True where formulas are guarded in an object's predictions, which only CSV and TSV may hold."""
        written_as = said_by(self.output_uri(key))[0]
        return self.csv_formula_guard and written_as in SPREADSHEETS

    @cached_property
    def _guarded(self) -> str:
        return digest_of(self._made_from() | {"csv_formula_guard": True})

    @cached_property
    def _unguarded(self) -> str:
        """The same as before there was a guard, so that what was scored then is found."""
        return digest_of(self._made_from())

    def _made_from(self) -> dict[str, Any]:
        made_from: dict[str, Any] = {
            "scoring": SCORING_VERSION,
            "model": [self.model.name, self.model.version, self.model.model_digest],
            "columns": self.columns.model_dump(),
            "format": self.output_format,
            "precision": self.precision,
        }
        if self.columns.keep:
            made_from["kept"] = KEPT_VERSION
        # What torch scored before there were others is still what it would score.
        if self.engine != "torch":
            made_from["engine"] = self.engine
        if self.encoding != UTF8:
            made_from["encoding"] = self.encoding
        return made_from

    @property
    def assignment(self) -> str:
        """Digest of what a run is to score and how: of two runs with the same one, the later does all of the earlier.

        It does not depend on the version of the code, so that a run that failed under another one can be repeated.
        """
        encoding = {"encoding": self.encoding} if self.encoding != UTF8 else {}
        return digest_of(
            {
                "input": self.input,
                "columns": self.columns.model_dump(),
                "format": self.output_format,
                "precision": self.precision,
                "engine": self.engine,
                "csv_formula_guard": self.csv_formula_guard,
                **encoding,
            }
        )

    def source(self, key: str) -> str:
        """Digest of an input's name: two inputs may not have their predictions in one place."""
        return digest_of({"input": self.input_uri(key)})

    def fingerprint(self, entry: Entry) -> str:
        """Of an object's output: everything that its content depends on."""
        version = [self.input_uri(entry.key), entry.size, entry.etag]
        return digest_of({"configuration": self.configuration(entry.key), "input": version})


class Names:
    """Which names are there, of any number: eight bytes a name are kept.

    Two names that share their 64 bits are taken for one; among a million names that happens once in 37 million times.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._sorted = np.sort(np.fromiter(map(_name_hash, names), np.uint64))

    def __contains__(self, name: str) -> bool:
        wanted = np.uint64(_name_hash(name))
        at = int(np.searchsorted(self._sorted, wanted))
        return at < len(self._sorted) and bool(self._sorted[at] == wanted)

    def __len__(self) -> int:
        return len(self._sorted)


def _name_hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
