"""What a version's report is made of: facts that the steps of a run have found, put side by side for people.

Everything here was computed elsewhere; the page and the model card only lay it out, so that they cannot disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.core.evaluation.attributions import Attribution
from tasks.core.evaluation.plots.figures import SliceRow
from tasks.core.records import Interval, Metrics, SourceFile
from tasks.core.release.gate.evidence import Verdict


@dataclass(frozen=True)
class Decision:
    """A person's word on the version."""

    kind: Literal["approved", "rejected", "overruled"]
    who: str
    why: str
    when: str


@dataclass(frozen=True)
class Scored:
    """A model and its metrics on the test set."""

    name: str
    metrics: Metrics


@dataclass(frozen=True)
class Comparison:
    """Candidate and champion on the same test rows."""

    champion: str
    difference: Interval  # accuracy of the candidate less the champion's
    better: int  # rows that only the candidate gets right
    worse: int  # rows that only the champion gets right
    rows: int
    p_value: float  # of McNemar's exact test
    margin: float | None = None  # how much lower the gate lets the candidate be


@dataclass(frozen=True)
class ClassRow:
    """One label: its test rows, and how precise and how complete the candidate is on it."""

    label: str
    rows: int
    precision: Interval | None  # None where it is not defined
    recall: Interval | None


@dataclass(frozen=True)
class Calibration:
    """The temperature, and log_loss and calibration_error without and with it."""

    temperature: float
    before: Metrics
    after: Metrics


@dataclass(frozen=True)
class CheckRow:
    """One behavioural check. Examples are failing cases: the text, and what it was turned into where it was."""

    name: str
    kind: str
    description: str
    cases: int
    failures: int
    champion_failures: int | None = None
    examples: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class WorstError:
    """A test review that the candidate is most sure of and wrong about."""

    row: int  # in `file`
    file: str
    true_label: str
    predicted: str
    probability: float  # of the predicted label
    text: str
    attribution: Attribution | None = None  # of the predicted label


@dataclass(frozen=True)
class DataFacts:
    """What the version was trained and judged on."""

    source: str
    rows: Mapping[str, int]  # by split
    train_digest: str
    test_digest: str
    card_uri: str = ""
    near_duplicates: int | None = (
        None  # test reviews that are near one in training; None: not looked for
    )
    likely_label_errors: Mapping[str, int] | None = None  # by split
    notes: Sequence[str] = ()
    files: Sequence[SourceFile] = ()  # the first of each split
    more_files: Mapping[str, int] = field(default_factory=dict[str, int])
    label_map: str = ""  # what labels were read as


@dataclass(frozen=True)
class LineageStep:
    """One thing on the way from the source to the version."""

    kind: str
    name: str
    uri: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG, with what a person hears who does not see it."""

    name: str  # confusion, roc, precision_recall, reliability, scores, slices
    description: str
    png: bytes


@dataclass(frozen=True)
class Report:
    """All that is known of a version when it is judged. What is None or empty was not measured; the page says so."""

    model_name: str
    version: str
    base_model: str
    when: str
    code: str  # revision of the code
    verdict: Verdict
    candidate: Scored
    test_rows: int
    data: DataFacts
    label_names: Sequence[str]
    confidence: float = 0.95  # of all intervals
    baseline: Scored | None = None
    champion: Scored | None = None
    comparison: Comparison | None = None
    no_comparison: str = "There is no champion yet."
    decision: Decision | None = None
    waits_for_approval: bool = False
    classes: Sequence[ClassRow] = ()
    calibration: Calibration | None = None
    slices: Sequence[SliceRow] = ()
    checks: Sequence[CheckRow] = ()
    skipped_checks: Sequence[str] = ()
    errors: Sequence[WorstError] = ()
    pictures: Sequence[Picture] = ()
    lineage: Sequence[LineageStep] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    run_url: str = ""
    teacher: str = ""  # version that it learned from, beside the labels
    engine: str = ""  # that was chosen to score with it, and how it did

    @property
    def title(self) -> str:
        """Such as: reviews version 7; the name alone before it has a number."""
        return f"{self.model_name} version {self.version}" if self.version else self.model_name

    @property
    def becomes_champion(self) -> bool:
        """What gate and people came to together."""
        if self.waits_for_approval:
            return False
        if self.decision is not None:
            return self.decision.kind != "rejected"
        return self.verdict.promote

    @property
    def outcome(self) -> str:
        """The decision in one sentence."""
        count, failed = len(self.verdict.clauses), self.verdict.failed
        met = f"all {count} conditions of the gate are met"
        missed = f"{len(failed)} of {count} conditions of the gate " + (
            "is not met" if len(failed) == 1 else "are not met"
        )
        found = f"{missed} ({', '.join(c.name for c in failed)})" if failed else met
        result = "becomes champion" if self.becomes_champion else "stays challenger"
        if self.waits_for_approval:
            return f"{self.title} waits for approval: {found}."
        if self.decision is None:
            return f"{self.title} {result}: {found}."
        link = "although" if self.decision.kind == "overruled" and failed else "and"
        said = {
            "approved": "approved it",
            "rejected": "rejected it",
            "overruled": "overruled the gate",
        }
        if link == "although":
            return (
                f"{self.title} {result} although {found}: {self.decision.who} {said['overruled']}."
            )
        return (
            f"{self.title} {result}: {found}, and {self.decision.who} {said[self.decision.kind]}."
        )
