"""Rows as a source has them, and the selection of usable rows: those with a readable text and a known label."""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks.core.data.label_map import LabelMap
from tasks.core.data.labels import UNLABELLED, LabelIds, in_order
from tasks.core.data.texts import is_blank
from tasks.core.records import Finding

_EXAMPLES = 5
_MOST_TYPED = 20  # labels that a piece of advice lists


@dataclass(slots=True, frozen=True)
class RawReview:
    """A row as the source has it, with `label` in the spelling of `labels.canonical_label`."""

    text: str | None
    label: str | None
    where: str  # "file row 17"
    extras: tuple[str, ...] = ()  # values of data.source.slice_columns


@dataclass(slots=True, frozen=True)
class LabelledReview:
    """A usable row: a text and a class id."""

    text: str
    label: int
    where: str
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """Rules that turn labels of rows into class ids.

    Args:
        ids: ids of the classes.
        label_map: applied to labels first.
        max_unusable_fraction: fraction of a split's rows that may be unusable.
        named: True if the names were given, not discovered in the data.
    """

    ids: LabelIds
    label_map: LabelMap
    max_unusable_fraction: float
    named: bool = False

    def class_id(self, label: str) -> tuple[int | None, str]:
        """Return the class id of a label, or the rule that leaves its rows out."""
        read, rule = self.label_map.read(label)
        if rule:
            return None, rule
        class_id = self.ids.get(read)
        if class_id is None:
            is_unlabelled = label == UNLABELLED and not self.label_map.speaks_of(label)
            return None, "unlabelled" if is_unlabelled else "unknown label"
        return class_id, ""

    def is_misspelled(self, label: str, class_id: int) -> bool:
        """True if a label is its class only by meaning: `Pos` for `pos`, but not an id that stands for a name."""
        read, _ = self.label_map.read(label)
        by_id = self.ids.ids_stand_for_names and read == str(class_id)
        return (
            read != self.ids.names[class_id] and not by_id and not self.label_map.speaks_of(label)
        )


@dataclass
class _LeftOut:
    """Rows that one rule leaves out."""

    count: int = 0
    first: list[str] = field(default_factory=list[str])  # where the first ones are

    def add(self, where: str) -> None:
        self.count += 1
        if len(self.first) < _EXAMPLES:
            self.first.append(where)

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more:,} more" if more else "")


def unusable_by(row: RawReview) -> str:
    """Return the rule that leaves a row out independently of the classes; '' if none does."""
    if row.text is None or is_blank(row.text):
        return "unlabelled" if row.label == UNLABELLED else "missing text"
    return "missing label" if row.label is None else ""


def usable_rows(
    split: str,
    rows: Sequence[RawReview],
    reading: Reading,
    unreadable: int,
    further: Mapping[str, int],
) -> tuple[list[LabelledReview], list[Finding]]:
    """Return the usable rows of a split, and findings about the others."""
    usable: list[LabelledReview] = []
    left_out: dict[str, _LeftOut] = defaultdict(_LeftOut)
    spelled: Counter[tuple[str, int]] = Counter()
    for row in rows:
        class_id, rule = _judged(row, reading)
        if class_id is not None and row.text is not None and row.label is not None:
            usable.append(LabelledReview(row.text, class_id, row.where, row.extras))
            if reading.is_misspelled(row.label, class_id):
                spelled[row.label, class_id] += 1
        elif rule in ("unknown label", "unmapped label", "left out"):
            left_out[rule].add(f"{str(row.label)[:40]!r} in {row.where}")
        else:
            left_out[rule].add(row.where)
    _, rule_of_minus_one = reading.class_id(UNLABELLED)
    for rule, count in further.items():
        counted_rule = (rule_of_minus_one or "missing text") if rule == "unlabelled" else rule
        left_out[counted_rule].count += count
    allowed = reading.max_unusable_fraction * (len(rows) + unreadable + sum(further.values()))
    findings = [
        _unusable(split, rule, some, allowed, rows, reading) for rule, some in left_out.items()
    ]
    if unreadable:
        severity = "error" if unreadable > allowed else "warning"
        message = f"{unreadable:,} rows could not be decoded; left out"
        findings.append(finding(severity, "unreadable rows", split, unreadable, message))
    return usable, findings + _spelling(split, spelled, reading)


def _judged(row: RawReview, reading: Reading) -> tuple[int | None, str]:
    """Return the class id of a row, or the rule that leaves it out."""
    blank = unusable_by(row)
    if row.label is None:
        return None, blank
    class_id, rule = reading.class_id(row.label)
    if rule in ("unlabelled", "left out"):
        return None, rule
    return (None, "missing text") if blank else (class_id, rule)


def _unusable(
    split: str,
    rule: str,
    left_out: _LeftOut,
    allowed: float,
    rows: Sequence[RawReview],
    reading: Reading,
) -> Finding:
    count = left_out.count
    if rule == "unlabelled":
        return _unlabelled(split, count, allowed, rows, reading)
    if rule == "left out":
        message = f"{count:,} rows are left out by data.source.label_map: {left_out}"
        return finding("note", rule, split, count, message)
    if rule == "unmapped label":
        advice = option("label-map", reading.label_map.with_pair(_first(rows, reading), "-"))
        message = (
            f"{count:,} rows have a label that data.source.label_map does not map: {left_out}; map it to a class, or "
            f"leave it out: {advice}"
        )
        return finding("error", rule, split, count, message)
    if rule == "unknown label":
        message = f"{count:,} rows have a label that is none of {_names(reading.ids)}: {left_out}"
        return finding("error", rule, split, count, message)
    if count > allowed:
        message = f"{count:,} rows have a {rule}, more than data.validation.max_unusable_fraction allows: {left_out}"
        return finding("error", rule, split, count, message)
    return finding(
        "warning", rule, split, count, f"{count:,} rows have a {rule}; left out: {left_out}"
    )


def _unlabelled(
    split: str, count: int, allowed: float, rows: Sequence[RawReview], reading: Reading
) -> Finding:
    message = f"{count:,} rows have the label {UNLABELLED}, which is read as unlabelled"
    if count <= allowed:
        return finding("note", "unlabelled", split, count, f"{message}; left out")
    labels = in_order({row.label for row in rows if row.label is not None})
    if reading.named or reading.label_map:
        as_class = option("label-map", reading.label_map.with_pair(UNLABELLED, "NAME"))
    else:
        as_class = option("label-names", labels)
    leave_out = option("label-map", reading.label_map.with_pair(UNLABELLED, "-"))
    message += (
        f", more than data.validation.max_unusable_fraction allows; if {UNLABELLED} is one of your classes, name "
        f"it: {as_class}; to leave such rows out: {leave_out}"
    )
    return finding("error", "unlabelled", split, count, message)


def _first(rows: Sequence[RawReview], reading: Reading) -> str:
    labels = (row.label for row in rows if row.label is not None)
    return next(label for label in labels if reading.class_id(label)[1] == "unmapped label")


def _spelling(
    split: str, spelled: Mapping[tuple[str, int], int], reading: Reading
) -> list[Finding]:
    if not spelled:
        return []
    listed = [
        f"{label[:40]!r} for {reading.ids.names[class_id][:40]!r}"
        for label, class_id in list(spelled)[:_EXAMPLES]
    ]
    count = sum(spelled.values())
    message = (
        f"{count:,} rows spell their label differently and count as the class: {', '.join(listed)}"
    )
    return [finding("warning", "spelling", split, count, message)]


def hidden_labels(split: str, rows: Sequence[RawReview], reading: Reading) -> list[Finding]:
    """Return an error if the labels of the test split are withheld, so that nobody can test on it."""
    if split != "test" or not rows or UNLABELLED in reading.ids:
        return []
    if any(row.label not in (None, UNLABELLED) for row in rows):
        return []
    message = (
        f"none of its {len(rows):,} rows has a label (all are empty or {UNLABELLED}): competition data sets "
        f"withhold them; leave the split out to draw a test set from train: {option('splits', 'test=-')}; or test on "
        f"another split: {option('splits', 'validation=test, test=-')}"
    )
    return [finding("error", "hidden labels", split, len(rows), message)]


def option(name: str, value: str | Sequence[str]) -> str:
    """Return an option of data.source as typed in a shell."""
    if not isinstance(value, str):
        more = len(value) > _MOST_TYPED
        plain = not any("," in part or part[:1] in '[{"' for part in value)
        value = ",".join(value) if plain else json.dumps(list(value), ensure_ascii=False)
        value = "LIST" if more else value
    return shlex.quote(f"--data.source.{name}={value}")


def finding(severity: str, rule: str, split: str, count: int, message: str) -> Finding:
    """Return one finding about a split."""
    return Finding(severity=severity, rule=rule, split=split, count=count, message=message)


def _names(ids: LabelIds) -> str:
    """List class names, shortened: if the wrong column was named, they are whole reviews."""
    return ", ".join(name[:40] for name in list(ids)[:20])
