"""The frozen plan of a scoring run: its objects, their shards, and the place of every output.

    <output>/model=<name>/version=<n>/<key below the input>          predictions; the object is its own commit record
    .../_rejected/<key>.<fingerprint>.jsonl       its rows that were not scored, written before it
    .../_parts/<digest>/<i>                       parts of a large object, until they are joined; of whichever run
    .../_runs/<run>/plans/<plan>/shards/<i>.json  what shard i is to score
    .../_runs/<run>/manifest.json                 the run, and which plan counts; written after its shards, once
    .../_runs/<run>/plans/<plan>/results/<i>.json what became of shard i
    .../_runs/<run>/overwritten.json              inputs that changed before they were scored; the next run's
    .../_runs/<run>/_SUCCESS                      last, and only if nothing failed; else _INCOMPLETE
    .../_unfinished/<run>.<token>                 a run that is under way or failed (`success_markers.py`)

The same key always has the same output place, whichever run scores it, so a restarted run finds what is done.
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
from tasks.core.scoring.columns import added_columns
from tasks.core.scoring.params import OutputFormat
from tasks.core.scoring.sharding import Entry

# Version of the outputs' content. It is increased if the same inputs give other bytes.
SCORING_VERSION = 1
KEPT_VERSION = 2  # the same for outputs with kept columns: runs without any are not scored again
LONGEST_KEY_BYTES = 1_024  # S3's limit


class Columns(Record):
    """The columns that are read, and those that are copied to the output."""

    text: str = "text"
    id: str = "id"
    keep: list[str] = Field(default_factory=list)


class ScoringRun(Record):
    """The frozen manifest of a run. Together with its shards, it is all that is needed to do the run or verify it."""

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
        """The URI prefix of the outputs of this version."""
        return f"{self.output.rstrip('/')}/model={self.model.name}/version={self.model.version}"

    @property
    def place(self) -> str:
        """The URI prefix of the records of this run."""
        return f"{self.root}/_runs/{self.run}"

    @property
    def input_prefix(self) -> str:
        """The prefix of every entry's key."""
        return self.input if self.input.endswith("/") else self.input + "/"

    def input_uri(self, key: str) -> str:
        """Return the URI of an input object. An input that is a single object has the key ''."""
        return f"{self.input_prefix}{key}" if key else self.input

    def _name(self, key: str) -> str:
        return key or PurePosixPath(self.input).name

    def output_uri(self, key: str) -> str:
        """Return the URI of an object's predictions."""
        name = self._name(key)
        format_name, compression = said_by(name)
        kind = Kind(format_name or "jsonl", compression)
        return f"{self.root}/{output_name(name, kind, self.output_format)}"

    def rejected_uri(self, key: str, fingerprint: str) -> str:
        """Return the URI of an object's rejected rows. Each content has its own name, so none replaces another."""
        return f"{self.root}/_rejected/{self._name(key)}.{fingerprint[:12]}.jsonl"

    def name_too_long(self, key: str) -> UnwritableDataError | None:
        """Return an error if the predictions or rejects of an input would have a longer name than S3 allows."""
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
        """Return the temporary URI of a part's predictions or rejects; it is the same whichever run scores the part."""
        name = digest_of({"fingerprint": self.fingerprint(entry), "parts": entry.parts})
        end = (
            PurePosixPath(self.output_uri(entry.key)).name if kind == "output" else "rejected.jsonl"
        )
        return f"{self.root}/_parts/{name}/{entry.part:05}-{end}"

    def configuration(self, key: str) -> str:
        """Return the digest of everything but the input that an object's predictions depend on."""
        before = self._guarded if self.guards(key) else self._unguarded
        # An earlier version found the rows of TSV by quotes alone.
        is_tsv = said_by(key)[0] == "tsv"
        return digest_of({"tsv": 2, "before": before}) if is_tsv else before

    def guards(self, key: str) -> bool:
        """True if formulas are guarded in an object's predictions, which is possible only in CSV and TSV."""
        written_as = said_by(self.output_uri(key))[0]
        return self.csv_formula_guard and written_as in SPREADSHEETS

    @cached_property
    def _guarded(self) -> str:
        return digest_of(self._made_from() | {"csv_formula_guard": True})

    @cached_property
    def _unguarded(self) -> str:
        """The digest as it was before formula guards existed, so that older outputs are still found."""
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
        # Leave the engine out for torch: outputs from before there were other engines stay valid.
        if self.engine != "torch":
            made_from["engine"] = self.engine
        if self.encoding != UTF8:
            made_from["encoding"] = self.encoding
        if added := added_columns():
            made_from["added_columns"] = added
        return made_from

    @property
    def assignment(self) -> str:
        """The digest of a run's inputs and settings. Of two runs with the same one, the later does all of the earlier.

        It does not depend on the version of the code, so a run that failed under another version can be repeated.
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
        """Return the digest of an input's name, because two inputs may not write their predictions to one place."""
        return digest_of({"input": self.input_uri(key)})

    def fingerprint(self, entry: Entry) -> str:
        """Return the digest of everything that the content of an object's output depends on."""
        version = [self.input_uri(entry.key), entry.size, entry.etag]
        return digest_of({"configuration": self.configuration(entry.key), "input": version})


class Names:
    """A compact set of names of any number: eight bytes are kept per name.

    Two names with the same 64-bit hash count as one; among a million names that happens once in 37 million times.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._sorted = np.sort(np.fromiter(map(_name_hash, names), np.uint64))

    def __contains__(self, name: str) -> bool:
        name_hash = np.uint64(_name_hash(name))
        at = int(np.searchsorted(self._sorted, name_hash))
        return at < len(self._sorted) and bool(self._sorted[at] == name_hash)

    def __len__(self) -> int:
        return len(self._sorted)


def _name_hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
