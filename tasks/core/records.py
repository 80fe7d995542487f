"""Records passed between steps: references and counts, never rows, tensors or clients."""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from tasks.core.digests import digest_of
from tasks.core.readable import counts_text, figures

SummaryT = TypeVar("SummaryT", bound=BaseModel)
Facts = dict[str, str]
# Input under which a verdict keeps the champion it was compared with. It is not a lineage edge: the candidate was not
# made from that champion, and the verdict is no answer to what became of the champion's training data.
COMPARED = "champion"
_FILES = 3  # files of a source that are named


class Record(BaseModel):
    """An immutable record. It refuses unknown fields, so that a record of another version is never half read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredFile(Record):
    """One file of a prepared folder."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Record):
    """The commit marker of a prepared folder, written last: a folder without a manifest does not exist."""

    kind: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    digest: str = Field(pattern=r"^[0-9a-f]{32}$", description="Of `inputs`; names the folder.")
    inputs: dict[str, Any] = Field(description="Everything the content depends on.")
    attempt: str = Field(
        pattern=r"^[0-9a-f]{1,64}$",
        description="Subfolder that holds the files; every attempt to make the folder has its own.",
    )
    files: dict[str, StoredFile]
    summary: dict[str, Any] = Field(
        description="Small facts about the content, in the form of its kind."
    )

    @property
    def content(self) -> str:
        """The digest of the files' names and bytes."""
        return digest_of({name: [file.bytes, file.sha256] for name, file in self.files.items()})


class Summary(Record):
    """Small facts about a prepared folder. It describes itself in words, for lineage.

    Attributes:
        brief: names of the facts that make up its short description.
    """

    brief: ClassVar[tuple[str, ...]] = ()

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        """Return the facts to show, by name. They hold no text of reviews; by default only figures.

        Args:
            inputs: of the folder's manifest.
        """
        return figures(self.model_dump())


class Reference(Record, Generic[SummaryT]):
    """A reference to one step's output, with the small facts that later steps and people need."""

    kind: str
    uri: str
    digest: str
    content: str = Field(
        description="Digest of the files' names and bytes: what is fetched by this reference is exactly this."
    )
    summary: SummaryT
    reused: bool = Field(description="True when an earlier run had already made it.")


def source_files(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the files, objects or data set that reviews were loaded from, each with its digest, ETag or commit.

    Args:
        inputs: of the manifest of a loaded folder.
    """
    versions: dict[str, str] = {}
    for source in _mapping(inputs.get("sources")).values():
        identity = _mapping(source)
        for name, version in _mapping(identity.get("objects")).items():
            versions[name] = f"ETag {version[1]}" if isinstance(version, list) else ""
        for name, digest in _mapping(identity.get("files")).items():
            versions[name] = f"sha256 {digest}"
        if "hub" in identity:
            versions[str(identity["hub"])] = f"commit {identity.get('commit', '')}"
    return versions


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


class SourceFile(Record):
    """A file of a source, or a split of a hub data set."""

    name: str = Field(description="Relative to the source.")
    split: str = Field(description="train, test, or another, which is not used; -: left out.")
    why: str = Field(description="How that is known.")


class LoadedSummary(Summary):
    """Rows as read from the source, one Parquet file per split (columns: text, label, file, row)."""

    source: str
    rows: dict[str, int] = Field(description="Rows that are kept, a split.")
    unusable: dict[str, dict[str, int]] = Field(
        default_factory=dict,
        description="Further rows without a text or a label, by split and rule: the first thousand of each are kept.",
    )
    unreadable: dict[str, int] = Field(description="Rows that could not be decoded, a split.")
    unreadable_examples: list[str] = Field(description="Where the first of them are, and why.")
    label_names: list[str] | None = Field(
        description="In order of their ids, where the source knows them."
    )
    files: list[SourceFile] = Field(default=[], description="The first of each split.")
    more_files: dict[str, int] = Field(
        default_factory=dict, description="Files of a split that are not listed."
    )

    brief = ("rows",)

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        files = [f"{name} ({version})" for name, version in source_files(inputs).items()]
        more = [f"and {len(files) - _FILES:,} more"] if len(files) > _FILES else []
        return {
            "source": self.source,
            "rows": counts_text(self.rows),
            "rows that could not be decoded": counts_text(self.unreadable),
            "made of": ", ".join(files[:_FILES] + more),
        }


class Finding(Record):
    """One finding of validation."""

    severity: str = Field(description="'error' stops the run; 'warning' and 'note' do not.")
    rule: str
    split: str
    count: int
    message: str


class ValidatedSummary(Summary):
    """Usable rows, one Parquet file per split (columns: text, label, row)."""

    label_names: list[str] = Field(description="In order of their ids.")
    rows: dict[str, int]
    class_rows: dict[str, dict[str, int]] = Field(description="Rows a class, a split.")
    source_rows: dict[str, list[int]] = Field(
        description="The same, by class id, before rows were left out: the proportions samples are drawn in."
    )
    findings: list[Finding]

    brief = ("rows",)

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        findings = [f"{f.rule} in {f.split} ({f.count})" for f in self.findings]
        return {
            "rows": counts_text(self.rows),
            "labels": ", ".join(self.label_names),
            "findings": ", ".join(findings) or "none",
        }


class HeldOutSummary(Summary):
    """The test set of a model and a source, one Parquet file (columns: text, label, row, extras)."""

    label_names: list[str]
    rows: int
    drawn: bool = Field(description="From the training reviews; else it is the source's own.")

    brief = ("rows", "origin")

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        origin = "drawn from the training reviews" if self.drawn else "the source's own"
        return {"rows": f"{self.rows} rows", "origin": origin}


class SplitSummary(Summary):
    """The train, validation and test splits, one Parquet file each (columns: text, label, row, extras)."""

    label_names: list[str]
    slice_columns: list[str] = Field(description="Names of the extras.")
    rows: dict[str, int]
    class_rows: dict[str, dict[str, int]]
    train_digest: str = Field(
        description="Of the rows of train and validation: what training depends on."
    )
    test_digest: str = Field(
        description="sha256 of the test rows: what makes two evaluations comparable."
    )
    findings: list[Finding] = Field(default=[], description="Of the sizes of its splits.")

    brief = ("rows",)

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        return {
            "rows": counts_text(self.rows),
            "seed": str(dict(inputs.get("split") or {}).get("seed", "")),
            "train digest": self.train_digest,
            "test digest": self.test_digest,
        }


class ModelVersion(Record):
    """A pinned version of a registered model."""

    name: str
    version: str
    model_digest: str
    run_id: str
    engine: str = Field(
        default="",
        description="What it is scored by: an engine's name, and the stages of a cascade; empty where nobody said.",
    )
    reused: bool = False

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    def has_weights_of(self, other: "ModelVersion") -> bool:
        """True if both versions come from one training, whatever their engines."""
        if self.name == other.name and self.version == other.version:
            return True
        return bool(self.model_digest) and self.model_digest == other.model_digest

    def is_same_as(self, other: "ModelVersion") -> bool:
        """True if both versions give the same answers: concurrent retrainings may register one training twice."""
        one_version = self.name == other.name and self.version == other.version
        return one_version or (self.has_weights_of(other) and self.engine == other.engine)


class Promotion(Record):
    """One move of the alias `champion`. It is kept in the object store even if the versions are deleted."""

    number: int = Field(description="From 1, without gaps: no two moves of a model share one.")
    model: str
    kind: str = Field(
        description="gate, approval, overrule, promote, rollback, by hand, or put right."
    )
    from_version: str = Field(description="Champion before; empty where there was none.")
    to_version: str = Field(description="Champion afterwards; empty where there is none.")
    who: str
    why: str
    when: str = Field(description="ISO 8601, UTC.")
    flow_run: str
    evidence: str = Field(description="Where the verdict that it rests on lies, if any.")


class ScoringMark(Record):
    """A record that a version was used to score: retention must keep such versions, and lineage follows it forward."""

    model: str
    version: str
    root: str = Field(description="Folder of the predictions of this version.")
    place: str = Field(description="Records of the scoring run.")
    when: str = Field(description="ISO 8601, UTC.")
    flow_run: str
