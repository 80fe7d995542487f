"""Labelled reviews as a source delivers them: kept, or counted if they cannot be used for training."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.connectors.sources.base import Unreadable
from tasks.core.data.early_end import refuse_useless
from tasks.core.data.usable_rows import RawReview, unusable_by
from tasks.core.errors import ValidationError
from tasks.core.formats.detection.text_encodings import advice_for

_MOST_UNUSABLE = 1_000  # rows kept per rule, for the messages of validation
_EXAMPLES = 5


@dataclass
class ReadRows:
    """Rows of a split, and the counts of the unusable ones."""

    rows: list[RawReview] = field(default_factory=list[RawReview])
    by_rule: Counter[str] = field(default_factory=Counter[str])
    unreadable: int = 0
    # positions of unreadable rows, each with the reason
    examples: list[str] = field(default_factory=list[str])

    @property
    def further(self) -> dict[str, int]:
        """The number of rows by rule that are counted but not kept."""
        return {
            rule: count - _MOST_UNUSABLE
            for rule, count in self.by_rule.items()
            if count > _MOST_UNUSABLE
        }

    def add(self, row: RawReview | Unreadable) -> str:
        """Keep or count a row; return the reason it is unusable, or ''."""
        if isinstance(row, Unreadable):
            self.unreadable += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(f"{row.where}: {row.problem}")
            return row.problem
        rule = unusable_by(row)
        if rule:
            self.by_rule[rule] += 1
        if not rule or self.by_rule[rule] <= _MOST_UNUSABLE:
            self.rows.append(row)
        return rule


def read_rows(
    rows: Iterable[RawReview | Unreadable], max_unusable_fraction: float, where: str
) -> ReadRows:
    """Read the rows of a split. Of those without a text or a label, keep the first of each rule and the counts.

    Args:
        rows: the rows, in order.
        max_unusable_fraction: the limit of validation.
        where: where the rows come from, for the error.
    Raises:
        ValidationError: most of the first million rows, or more, are unusable; or more rows are unreadable than may be
            left out.
    """
    read, unusable, number = ReadRows(), 0, 0
    for number, row in enumerate(rows, start=1):
        if reason := read.add(row):
            unusable += 1
            refuse_useless(unusable, number, reason, where, max_unusable_fraction)
    if read.unreadable > max_unusable_fraction * number:
        _refuse_unreadable(read, number, where)
    return read


def _refuse_unreadable(read: ReadRows, rows: int, where: str) -> None:
    """Raise a ValidationError. Its message begins with the reason, because that is what the user has to fix."""
    first_row, _, problem = read.examples[0].partition(": ")
    fraction = math.ceil(100 * read.unreadable / rows) / 100
    leave_out = f"fix them, or leave them out: --data.validation.max-unusable-fraction {fraction}"
    raise ValidationError(
        f"{first_row}: {problem}; {read.unreadable:,} of its {rows:,} rows cannot be read, more than "
        "data.validation.max_unusable_fraction allows",
        where,
        advice_for(problem, leave_out),
    )
