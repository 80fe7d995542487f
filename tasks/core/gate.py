"""Whether a new model may become champion: a rule that can be read, and a verdict that names every clause."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.forms import Form
from tasks.core.metrics import EvaluationParams, paired_difference
from tasks.core.records import Record


class GateParams(Form):
    """The rule for promotion to champion."""

    promote: bool = Field(
        default=True,
        description="Let the new model become champion when it passes. Off: challenger only.",
    )
    must_beat_baseline: bool = Field(
        default=True,
        description="Require more right answers than TF-IDF + logistic regression on the same test rows.",
    )
    champion_margin: float = Field(
        default=0.005,
        ge=0.0,
        le=0.2,
        description="How much lower than the present champion's the accuracy may be on the same test rows.",
    )
    minimum_accuracy: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Never promote below this accuracy."
    )


class Clause(Record):
    """One condition of the rule, with its number."""

    name: str
    passed: bool
    text: str


class Verdict(Record):
    """What the gate decided, and why."""

    promote: bool
    clauses: list[Clause]

    def __str__(self) -> str:
        marks = "; ".join(
            f"{'passed' if c.passed else 'FAILED'} {c.name}: {c.text}" for c in self.clauses
        )
        return f"{'promote' if self.promote else 'do not promote'} ({marks})"


Correct = NDArray[np.bool_]


def decide(
    candidate: Correct,
    baseline: Correct,
    champion: Correct | None,
    params: GateParams,
    evaluation: EvaluationParams,
    champion_name: str = "",
    incomparable: str = "",
) -> Verdict:
    """Apply the rule.

    Args:
        candidate: which test rows the new model gets right, shape (rows,).
        baseline: the same of the baseline, same rows.
        champion: the same of the present champion, or None where there is none.
        params: the rule.
        evaluation: how intervals are drawn.
        champion_name: for the text.
        incomparable: why candidate and champion cannot be compared (other labels), if so.
    """
    clauses: list[Clause] = []
    accuracy = float(candidate.mean())
    if params.minimum_accuracy > 0:
        text = f"{accuracy:.4f} against a floor of {params.minimum_accuracy:.4f}"
        clauses.append(
            Clause(name="minimum accuracy", passed=accuracy >= params.minimum_accuracy, text=text)
        )
    if params.must_beat_baseline:
        gap = paired_difference(candidate, baseline, evaluation)
        text = f"{accuracy:.4f} against {baseline.mean():.4f}, difference {gap}"
        clauses.append(Clause(name="beats the baseline", passed=gap.value > 0, text=text))
    if incomparable:
        clauses.append(Clause(name="comparable with the champion", passed=False, text=incomparable))
    elif champion is None:
        clauses.append(
            Clause(name="not worse than the champion", passed=True, text="there is none yet")
        )
    else:
        gap = paired_difference(candidate, champion, evaluation)
        passed = gap.value >= -params.champion_margin - 1e-12
        text = (
            f"{accuracy:.4f} against {champion.mean():.4f} of {champion_name}, difference {gap}, "
            f"margin {params.champion_margin}"
        )
        clauses.append(Clause(name="not worse than the champion", passed=passed, text=text))
    if not params.promote:
        clauses.append(
            Clause(name="promotion wanted", passed=False, text="switched off in the form")
        )
    return Verdict(promote=all(c.passed for c in clauses), clauses=clauses)
