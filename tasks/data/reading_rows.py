"""Labelled reviews as they come from a source: kept, or counted where nobody can train with them."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tasks.connectors.sources.base import Unreadable
from tasks.core.data.early_end import refuse_useless
from tasks.core.data.usable_rows import RawReview, unusable_by
from tasks.core.errors import ValidationError
from tasks.core.formats.detection.text_encodings import advice_for

_MOST_UNUSABLE = 1_000  # rows of each rule that are kept, for what validation says of them
_EXAMPLES = 5


@dataclass
class ReadRows:
    """Rows of a split, and the counts of those that are of no use."""

    kept: list[RawReview] = field(default_factory=list[RawReview])
    by_rule: Counter[str] = field(default_factory=Counter[str])
    unreadable: int = 0
    examples: list[str] = field(default_factory=list[str])  # where unreadable ones are, and why

    @property
    def further(self) -> dict[str, int]:
        """Rows by rule that are counted and not kept."""
        return {
            rule: count - _MOST_UNUSABLE
            for rule, count in self.by_rule.items()
            if count > _MOST_UNUSABLE
        }

    def add(self, row: RawReview | Unreadable) -> str:
        """Keep or count a row; returns why it is of no use, or ''."""
        if isinstance(row, Unreadable):
            self.unreadable += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(f"{row.where}: {row.problem}")
            return row.problem
        rule = unusable_by(row)
        if rule:
            self.by_rule[rule] += 1
        if not rule or self.by_rule[rule] <= _MOST_UNUSABLE:
            self.kept.append(row)
        return rule


def read_rows(
    rows: Iterable[RawReview | Unreadable], max_unusable_share: float, where: str
) -> ReadRows:
    """The rows of a split; of those without a text or a label, the first of each rule, and how many there are.

    Args:
        rows: in their order.
        max_unusable_share: that validation will allow.
        where: they are from, for the error.
    Raises:
        ValidationError: of its first million rows, or of more, most are of no use; more of all cannot be read than may
            be left out.
    """
    read, unusable, number = ReadRows(), 0, 0
    for number, row in enumerate(rows, start=1):
        if reason := read.add(row):
            unusable += 1
            refuse_useless(unusable, number, reason, where, max_unusable_share)
    if read.unreadable > max_unusable_share * number:
        _refuse_unreadable(read, number, where)
    return read


def _refuse_unreadable(read: ReadRows, rows: int, where: str) -> None:
    """The reason comes first: it is what a person has to mend."""
    place, _, problem = read.examples[0].partition(": ")
    share = math.ceil(100 * read.unreadable / rows) / 100
    leave_out = f"mend them, or leave them out: --data.validation.max-unusable-share {share}"
    raise ValidationError(
        f"{place}: {problem}; {read.unreadable:,} of its {rows:,} rows cannot be read, more than "
        "data.validation.max_unusable_share allows",
        where,
        advice_for(problem, leave_out),
    )
