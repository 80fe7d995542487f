"""The parts of a version's report: facts that the steps of a run have found, side by side for people.

Everything here was computed elsewhere. The page and the model card only lay it out, so they cannot disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.core.evaluation.attributions import Attribution
from tasks.core.evaluation.plots.figures import SliceRow
from tasks.core.evaluation.records import Interval, Metrics
from tasks.core.records import SourceFile
from tasks.core.release.gate.evidence import Verdict


@dataclass(frozen=True)
class Decision:
    """A person's decision on the version."""

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
    margin: float | None = None  # how much lower the gate lets the candidate's accuracy be


@dataclass(frozen=True)
class ClassRow:
    """One label: its number of test rows, and the candidate's precision and recall on it."""

    label: str
    rows: int
    precision: Interval | None  # None if it is not defined
    recall: Interval | None


@dataclass(frozen=True)
class Calibration:
    """The temperature, and log_loss and calibration_error without and with it."""

    temperature: float
    before: Metrics
    after: Metrics


@dataclass(frozen=True)
class CheckRow:
    """One behavioural check. Examples are failing cases: the text, and its changed version if there is one."""

    name: str
    kind: str
    description: str
    cases: int
    failures: int
    champion_failures: int | None = None
    examples: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class WorstError:
    """A wrong answer on a test review in which the candidate is very confident."""

    row: int  # in `file`
    file: str
    true_label: str
    predicted: str
    probability: float  # of the predicted label
    text: str
    attribution: Attribution | None = None  # of the predicted label


@dataclass(frozen=True)
class DataFacts:
    """The data that the version was trained and judged on."""

    source: str
    rows: Mapping[str, int]  # by split
    train_digest: str
    test_digest: str
    card_uri: str = ""
    # Test reviews with a near-duplicate in training; None: not checked.
    near_duplicates: int | None = None
    likely_label_errors: Mapping[str, int] | None = None  # by split
    notes: Sequence[str] = ()
    files: Sequence[SourceFile] = ()  # the first files of each split
    more_files: Mapping[str, int] = field(default_factory=dict[str, int])
    label_map: str = ""  # how labels were mapped when they were read


@dataclass(frozen=True)
class LineageStep:
    """One step on the way from the source to the version."""

    kind: str
    name: str
    uri: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG with its alternative text."""

    name: str  # confusion, roc, precision_recall, reliability, scores, slices
    description: str
    png: bytes


@dataclass(frozen=True)
class Report:
    """All facts known about a version when it is judged. None or empty: not measured, and the page says so."""

    model_name: str
    version: str
    base_model: str
    when: str
    code: str  # revision
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
    class_costs: Mapping[str, float] = field(default_factory=dict[str, float])  # empty: none
    engine: str = ""  # engine chosen for scoring, and its measurements

    @property
    def title(self) -> str:
        """The name and version, such as: reviews version 7; the name alone before it has a number."""
        return f"{self.model_name} version {self.version}" if self.version else self.model_name

    @property
    def becomes_champion(self) -> bool:
        """True if the gate and people together make the version champion."""
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
        conditions = f"{missed} ({', '.join(c.name for c in failed)})" if failed else met
        result = "becomes champion" if self.becomes_champion else "stays challenger"
        if self.waits_for_approval:
            return f"{self.title} waits for approval: {conditions}."
        if self.decision is None:
            return f"{self.title} {result}: {conditions}."
        link = "although" if self.decision.kind == "overruled" and failed else "and"
        verbs = {
            "approved": "approved it",
            "rejected": "rejected it",
            "overruled": "overruled the gate",
        }
        if link == "although":
            return f"{self.title} {result} although {conditions}: {self.decision.who} {verbs['overruled']}."
        return f"{self.title} {result}: {conditions}, and {self.decision.who} {verbs[self.decision.kind]}."
