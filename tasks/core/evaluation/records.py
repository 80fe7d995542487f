"""Records of evaluations: metrics with their intervals."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from tasks.core.records import Facts, Record, Summary


class Interval(Record):
    """A figure with an interval that contains it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


Metrics = dict[str, Interval]


class EvaluationSummary(Summary):
    """Results of one model on one test set."""

    model: str
    label_names: list[str]
    test_digest: str
    rows: int
    metrics: Metrics
    per_class: dict[str, Metrics] = Field(description="Precision and recall of each label.")
    uncalibrated: Metrics = Field(
        description="Log-loss and calibration error before the temperature; empty where there is none."
    )
    temperature: float
    confusion: list[list[int]] = Field(description="Rows are true classes, columns predicted ones.")
    seconds: float

    brief = ("of", "test rows", "accuracy")

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        return {
            "of": self.model,
            "test rows": f"{self.rows:,} test rows",
            "test digest": self.test_digest,
            **{name: str(interval) for name, interval in self.metrics.items()},
            "temperature": f"{self.temperature:.4g}",
        }
