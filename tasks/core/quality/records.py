"""Records of the inspection of reviews: counts, without any text of a review."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from tasks.core.readable import counts_text
from tasks.core.records import Facts, Record, Summary

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class Overlap(Record):
    """Near-duplicates between two splits, or within one."""

    split: str
    other_split: str
    pairs: int
    identical: int = Field(description="Pairs of the same words in the same order.")
    other_label: int = Field(description="Pairs whose labels differ.")


class InspectionSummary(Summary):
    """Counts of the inspection. No reviews were left out because of it."""

    enabled: bool = Field(description="False: only the data card was made.")
    similarity: float
    near_duplicates: list[Overlap] = Field(description="For every two splits, and within each.")
    test_rows_near_train: int | None = Field(
        description="Test reviews with a near-duplicate in train or validation; None where it was not looked at."
    )
    likely_label_errors: dict[str, int] = Field(description="Of the reviews judged, a split.")
    rows: dict[str, int] = Field(description="Reviews a split.")
    words: dict[str, list[int]] = Field(description="Words a review, a split: its `QUANTILES`.")
    mean_words: dict[str, float] = Field(description="Words a review, a split.")
    rows_compared: dict[str, int] = Field(description="Of them looked at for near-duplicates.")
    rows_judged: dict[str, int] = Field(description="Of them looked at for label errors.")
    notes: list[str] = Field(description="What was not looked at, or in part only, and why.")
    seconds: float

    brief = ("near-duplicates", "likely label errors")

    def facts(self, inputs: Mapping[str, Any]) -> Facts:
        near = self.test_rows_near_train
        return {
            "near-duplicates": "" if near is None else f"{near:,} test rows have one in training",
            "likely label errors": counts_text(self.likely_label_errors),
        }
