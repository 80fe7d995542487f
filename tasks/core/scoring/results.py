"""Outcomes of objects and of a whole scoring run: small records, kept beside the outputs."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tasks.core.records import Record
from tasks.core.scoring.sharding import share_of_bytes

State = Literal["scored", "found", "overwritten", "failed"]
_LONGEST_VALUE = 256  # most bytes of a metadata value that every store accepts


class Counts(Record):
    """Row counts of one object, or of many. rows_in = rows_out + rows_rejected."""

    rows_in: int = 0
    rows_out: int = 0
    rows_rejected: int = 0
    labels: dict[str, int] = Field(default_factory=dict)
    reasons: dict[str, int] = Field(default_factory=dict)

    def plus(self, other: "Counts") -> "Counts":
        """Return the sum of both."""
        return Counts(
            rows_in=self.rows_in + other.rows_in,
            rows_out=self.rows_out + other.rows_out,
            rows_rejected=self.rows_rejected + other.rows_rejected,
            labels=_sum(self.labels, other.labels),
            reasons=_sum(self.reasons, other.reasons),
        )

    def to_metadata(self) -> dict[str, str]:
        """Return metadata for the output object, which is its own commit marker: ASCII, each value short."""
        metadata = {"rows": f"{self.rows_in},{self.rows_out},{self.rows_rejected}"}
        for name, counts in (("labels", self.labels), ("reasons", self.reasons)):
            text = json.dumps(counts, sort_keys=True, separators=(",", ":"))
            if len(text) <= _LONGEST_VALUE:
                metadata[name] = text
        return metadata

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Counts":
        """Parse the result of `to_metadata`; labels and reasons that did not fit are empty."""
        rows_in, rows_out, rejected = (int(number) for number in metadata["rows"].split(","))
        return cls(
            rows_in=rows_in,
            rows_out=rows_out,
            rows_rejected=rejected,
            labels=json.loads(metadata.get("labels", "{}")),
            reasons=json.loads(metadata.get("reasons", "{}")),
        )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


class ObjectResult(Record):
    """Outcome of one input object, or of a part of one.

    scored: by this run. found: scored by an earlier run, or by this one before it died. overwritten: another version of
    the input is there now, or predictions of another version; the next run scores what needs it. failed: `error` says
    why; nothing was written.
    """

    key: str
    etag: str
    size: int = Field(default=0, description="Of the input, in bytes.")
    part: int = 0
    parts: int = 1
    state: State
    counts: Counts = Counts()
    error: str = ""
    output_etag: str = Field(
        default="", description="Of the output, by which a listing shows that it is still there."
    )

    @property
    def bytes(self) -> int:
        """The bytes of the input, or of this part of it."""
        return share_of_bytes(self.size, self.part, self.parts)


class ShardResult(Record):
    """Outcome of a shard."""

    number: int
    objects: list[ObjectResult]
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Return the counts passed from task to task, without lists."""
        return {"number": self.number, "rows": sum(o.counts.rows_in for o in self.objects)}


class ScoreSummary(Record):
    """Outcome of a scoring run."""

    place: str = Field(description="Where the records of the run lie.")
    root: str = Field(description="Where the predictions lie.")
    model: str
    version: str
    objects: int = Field(description="That this run had to score.")
    scored_before: int = Field(description="That were scored already, in the state they are in.")
    scored: int
    failed: int
    overwritten: int = Field(
        description="Inputs that changed in mid-run; the next run scores them."
    )
    counts: Counts
    seconds: float
    reviews_per_second: float
    errors: list[str] = Field(description="The first of them, a sentence each.")
    plan_digest: str = Field(default="", description="Of what was to be scored; empty: not known.")
    listing_digest: str = Field(
        default="", description="Of names and ETags of the predictions that were there at the end."
    )

    @property
    def complete(self) -> bool:
        """True if nothing failed."""
        return not self.failed
