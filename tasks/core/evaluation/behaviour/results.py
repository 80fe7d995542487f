"""Results of a model on behavioural checks: small records kept with its evaluation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.records import Facts, Record, Summary


class SkippedCheck(Record):
    """A check that could not be applied, and why."""

    name: str
    kind: str
    reason: str


class CheckResult(Record):
    """The result of one model on one check."""

    name: str
    kind: str
    description: str
    cases: int
    failed_cases: list[int] = Field(description="Which cases failed, from 0, in order.")

    @property
    def failures(self) -> int:
        """The number of cases that failed."""
        return len(self.failed_cases)

    @property
    def share(self) -> float:
        """The fraction of cases that failed."""
        return self.failures / self.cases

    @property
    def failed(self) -> NDArray[np.bool_]:
        """A mask of the cases that failed, shape (cases,)."""
        mask = np.zeros(self.cases, dtype=np.bool_)
        mask[self.failed_cases] = True
        return mask

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.failures} of {self.cases} failed ({self.share:.1%})"


class BehaviourResult(Summary):
    """The results of one model on all checks; `model_dump_json` and `model_validate_json` write and read it."""

    cases_digest: str = Field(
        description="Two results can be compared case by case only if theirs is the same."
    )
    checks: list[CheckResult]
    skipped: list[SkippedCheck]

    brief = ("failed", "checks")

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        failures, cases = sum(c.failures for c in self.checks), sum(c.cases for c in self.checks)
        return {
            "checks": f"{len(self.checks)} checks",
            "failed": f"{failures:,} of {cases:,} cases failed",
        }
