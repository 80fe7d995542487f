"""Input and output of the gate: evidence about a candidate, and a verdict with one clause per condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field

from tasks.core.decision import predict_labels
from tasks.core.evaluation.comparison import Bools
from tasks.core.evaluation.metrics import Floats, Ints
from tasks.core.evaluation.slices import Slice
from tasks.core.records import COMPARED, Facts, Record, Summary
from tasks.core.release.gate.other_test_set import OtherTestSet


class Clause(Record):
    """One condition of the rule. If it has numbers, it is met while `value` keeps to `limit`."""

    name: str
    passed: bool
    text: str
    value: float | None = None
    limit: float | None = None


class Verdict(Summary):
    """The gate's decision and its reasons."""

    brief = ("verdict",)

    promote: bool
    clauses: list[Clause]
    warnings: list[str] = Field(
        default=[], description="What people should know although it refuses nothing."
    )
    beside: list[str] = Field(
        default=[],
        description="Figures that no clause goes by: of labels that are a scale, how far off answers are.",
    )

    def __str__(self) -> str:
        marks = "; ".join(
            f"{'passed' if c.passed else 'FAILED'} {c.name}: {c.text}" for c in self.clauses
        )
        return f"{'promote' if self.promote else 'do not promote'} ({marks})"

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        failed = ", ".join(clause.name for clause in self.failed) or "see its clauses"
        compared = inputs.get(COMPARED)
        champion = str(compared[0]) if isinstance(compared, list) and compared else "nobody"
        return {
            "verdict": "promote" if self.promote else f"do not promote ({failed})",
            "compared with": champion,
            **{
                f"clause {c.name}": f"{'passed' if c.passed else 'FAILED'}: {c.text}"
                for c in self.clauses
            },
        }

    @property
    def failed(self) -> list[Clause]:
        return [clause for clause in self.clauses if not clause.passed]


@dataclass(frozen=True)
class Evidence:
    """The facts known about a candidate.

    Answers are calibrated probabilities times the class costs, shape (rows, classes), of the same test rows.
    """

    labels: Ints
    label_names: Sequence[str]
    candidate: Floats
    baseline: Floats
    champion: Floats | None  # None: there is none yet, or it cannot be compared
    champion_name: str
    incomparable: str  # why candidate and champion cannot be compared (other labels), if so
    slices: Sequence[Slice]
    # By check: which of its cases the candidate fails, and which of the same cases the champion fails.
    behaviour: Mapping[str, tuple[Bools, Bools | None]]
    parameters: int
    champion_parameters: int | None
    # Both speeds are measured in turns on one machine; None: not measured.
    reviews_per_second: float | None
    champion_reviews_per_second: float | None
    validation_right: int  # of the candidate, on its own validation set
    validation_rows: int
    overlap: int | None  # test reviews that have a near-duplicate in training; None: not checked
    # Test rows that repeat the text of an earlier row; None: there are none.
    repeats: Bools | None = None
    scale: Sequence[float] | None = None  # value of each class, if the labels are a scale
    scored: Floats | None = None  # answers of the scoring engine, if that is not torch
    scored_by: str = ""
    other_test_set: OtherTestSet | None = None  # the champion's test set, if it differs
    class_costs: Sequence[float] = ()  # of the candidate and the baseline; empty: none
    champion_class_costs: Sequence[float] = ()

    def right(self, answers: Floats) -> Bools:
        return np.asarray(predict_labels(answers) == self.labels)

    @cached_property
    def candidate_right(self) -> Bools:
        return self.right(self.candidate)

    @cached_property
    def champion_right(self) -> Bools | None:
        return None if self.champion is None else self.right(self.champion)

    @cached_property
    def accuracy(self) -> float:
        return float(self.candidate_right.mean())

    def rows_of(self, rows: Bools) -> Ints:
        """Count the selected rows of each class. A repeated text adds no information and is not counted."""
        counted = rows if self.repeats is None else rows & ~self.repeats
        return np.bincount(self.labels[counted], minlength=len(self.label_names))

    @property
    def class_rows(self) -> Ints:
        """The number of test rows of each class."""
        return self.rows_of(np.ones(len(self.labels), dtype=bool))

    @property
    def first(self) -> bool:
        """True if there is no champion yet."""
        return self.champion is None and not self.incomparable
