"""Whether labelled reviews are fit to train on, by stated rules, before anything is spent on them.

| rule                | what it finds | outcome |
|---------------------|------------------------------------------------------|---|
| unreadable rows     | rows that could not be decoded | left out; error above `max_unusable_share` |
| missing text        | null, not a text, or nothing but space and markup | left out; error above `max_unusable_share` |
| missing label       | null or empty label | left out; error above `max_unusable_share` |
| unlabelled          | label -1, unless `label_names` lists it | left out; warning above `max_unusable_share` |
| unknown label       | a label that is none of `label_names` | error |
| contradiction       | the same text in train under several labels | all its copies left out, warning |
| duplicates in train | the same text again | the first is kept, warning |
| duplicates in test  | the same text again | kept (the test set is what it is), warning |
| leak                | a test text in train | dropped from train, warning |
| one class           | train or test has reviews of one class only | error |
| few rows            | a class with fewer than `min_rows_a_class` in train | error |
| imbalance           | largest class over smallest in train | warning from 10, error over `max_imbalance` |
| unnamed labels      | labels are bare numbers and nobody named them | warning |
| empty               | no usable row | error |

Texts count as the same in their `texts.matching_form`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from tasks.core.errors import ValidationError
from tasks.core.forms import Form
from tasks.core.labels import UNLABELLED, discover_names, label_ids
from tasks.core.records import Finding
from tasks.core.texts import is_blank, matching_form

_EXAMPLES = 5
_IMBALANCE_WARNING = 10


class ValidationParams(Form):
    """What the reviews must be like."""

    min_rows_a_class: int = Field(
        default=8, ge=2, le=1_000_000, description="Training reviews every class must have."
    )
    max_unusable_share: float = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="Share of rows without a readable text or label that may be left out with a warning.",
    )
    max_imbalance: float = Field(
        default=100.0,
        ge=1.0,
        le=1e6,
        description="Most rows of the largest class for one of the smallest.",
    )


@dataclass(slots=True, frozen=True)
class RawReview:
    """A row as the source had it; `label` in the spelling of `labels.canonical_label`."""

    text: str | None
    label: str | None
    where: str  # "file row 17"
    extras: tuple[str, ...] = ()  # values of data.source.slice_columns


@dataclass(slots=True, frozen=True)
class LabelledReview:
    """A row fit for use."""

    text: str
    label: int
    where: str
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Validated:
    """What is left, and everything that was noticed on the way."""

    label_names: list[str]
    splits: dict[str, list[LabelledReview]]
    findings: list[Finding]
    source_rows: dict[
        str, list[int]
    ]  # split -> labelled rows of each class before any was left out

    def raise_errors(self) -> None:
        """Raises ValidationError with every finding that is an error."""
        errors = [f for f in self.findings if f.severity == "error"]
        if errors:
            raise ValidationError(
                "; ".join(f"{f.split}: {f.message}" for f in errors),
                "data",
                "mend the data, or change its rule in data.validation; the run's page has every finding",
            )


def class_rows(
    splits: Mapping[str, Sequence[LabelledReview]], label_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Rows a class, a split."""
    counts = {split: Counter(r.label for r in rows) for split, rows in splits.items()}
    return {
        split: {name: count[index] for index, name in enumerate(label_names)}
        for split, count in counts.items()
    }


def unusable_by(row: RawReview) -> str:
    """The rule that leaves a row out whatever the labels are; '' where none does."""
    if row.text is None or is_blank(row.text):
        return "unlabelled" if row.label == UNLABELLED else "missing text"
    return "missing label" if row.label is None else ""


def validate(
    splits: Mapping[str, Sequence[RawReview]],
    label_names: Sequence[str] | None,
    unreadable: Mapping[str, int],
    params: ValidationParams,
    unusable: Mapping[str, Mapping[str, int]] | None = None,
) -> Validated:
    """Apply every rule of the table above; nothing is raised, so that a report can show all findings at once.

    Args:
        splits: "train", and "test" where the source has one.
        label_names: in order of their ids; None to take them from the labels of train.
        unreadable: rows a split that could not be decoded.
        params: limits of the rules.
        unusable: further rows a split that are not among `splits`, by `unusable_by`.
    """
    findings: list[Finding] = []
    names = list(label_names or []) or discover_names(r.label for r in splits.get("train", ()))
    if not label_names and any(name.isdigit() for name in names):
        message = f"labels have no names but {', '.join(names[:20])}; set data.source.label_names to say what they mean"
        findings.append(_finding("warning", "unnamed labels", "train", len(names), message))
    usable: dict[str, list[LabelledReview]] = {}
    source_rows: dict[str, list[int]] = {}
    for split, rows in splits.items():
        further = (unusable or {}).get(split, {})
        usable[split], found = _usable(
            split, rows, label_ids(names), unreadable.get(split, 0), further, params
        )
        findings += found
        counts = Counter(row.label for row in usable[split])
        source_rows[split] = [counts[index] for index in range(len(names))]
    usable["train"], found = _deduplicated(usable.get("train", []), usable.get("test", []))
    findings += found
    findings += _balance(usable, names, params)
    return Validated(names, usable, findings, source_rows)


@dataclass
class _LeftOut:
    """Rows that one rule leaves out."""

    count: int = 0
    first: list[str] = field(default_factory=list[str])  # where they are

    def add(self, where: str) -> None:
        self.count += 1
        if len(self.first) < _EXAMPLES:
            self.first.append(where)

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more:,} more" if more else "")


def _usable(
    split: str,
    rows: Sequence[RawReview],
    ids: Mapping[str, int],
    unreadable: int,
    further: Mapping[str, int],
    params: ValidationParams,
) -> tuple[list[LabelledReview], list[Finding]]:
    kept: list[LabelledReview] = []
    left_out: dict[str, _LeftOut] = defaultdict(_LeftOut)
    for row in rows:
        rule = _rule(row, ids)
        if not rule and row.text is not None and row.label is not None:
            kept.append(LabelledReview(row.text, ids[row.label], row.where, row.extras))
        elif rule == "unknown label":
            left_out[rule].add(f"{str(row.label)[:40]!r} in {row.where}")
        else:
            left_out[rule].add(row.where)
    for rule, count in further.items():
        unlabelled_class = rule == "unlabelled" and UNLABELLED in ids
        left_out["missing text" if unlabelled_class else rule].count += count
    allowed = params.max_unusable_share * (len(rows) + unreadable + sum(further.values()))
    findings = [_unusable(split, rule, some, allowed, ids) for rule, some in left_out.items()]
    if unreadable:
        severity = "error" if unreadable > allowed else "warning"
        message = f"{unreadable:,} rows could not be decoded; left out"
        findings.append(_finding(severity, "unreadable rows", split, unreadable, message))
    return kept, findings


def _rule(row: RawReview, ids: Mapping[str, int]) -> str:
    """The rule that leaves a row out, where these are the labels; '' where none does."""
    rule = unusable_by(row)
    if row.label == UNLABELLED:
        if UNLABELLED not in ids:
            return "unlabelled"
        return "missing text" if rule else ""
    return rule or ("" if row.label in ids else "unknown label")


def _unusable(
    split: str, rule: str, left_out: _LeftOut, allowed: float, ids: Mapping[str, int]
) -> Finding:
    count = left_out.count
    if rule == "unlabelled":
        message = f"{count:,} rows are unlabelled ({UNLABELLED}); left out"
        advice = f"; if {UNLABELLED} is a class of yours, list it in data.source.label_names"
        many = count > allowed
        return _finding(
            "warning" if many else "note", rule, split, count, message + (advice if many else "")
        )
    if rule == "unknown label":
        message = f"{count:,} rows have a label that is none of {_names(ids)}: {left_out}"
        return _finding("error", rule, split, count, message)
    if count > allowed:
        message = f"{count:,} rows have a {rule}, more than data.validation.max_unusable_share allows: {left_out}"
        return _finding("error", rule, split, count, message)
    return _finding(
        "warning", rule, split, count, f"{count:,} rows have a {rule}; left out: {left_out}"
    )


def _deduplicated(
    train: Sequence[LabelledReview], test: Sequence[LabelledReview]
) -> tuple[list[LabelledReview], list[Finding]]:
    findings: list[Finding] = []
    test_forms = Counter(matching_form(r.text) for r in test)
    repeated = sum(test_forms.values()) - len(test_forms)
    if repeated:
        message = f"{repeated:,} rows repeat an earlier text of test; kept"
        findings.append(_finding("warning", "duplicates in test", "test", repeated, message))
    labels_of: dict[str, set[int]] = defaultdict(set)
    forms = [matching_form(r.text) for r in train]
    for form, row in zip(forms, train, strict=True):
        labels_of[form].add(row.label)
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    kept: list[LabelledReview] = []
    for form, row in zip(forms, train, strict=True):
        if form in test_forms:
            dropped["leak"] += 1
        elif len(labels_of[form]) > 1:
            dropped["contradiction"] += 1
        elif form in seen:
            dropped["duplicates in train"] += 1
        else:
            seen.add(form)
            kept.append(row)
    meaning = {
        "leak": "are also in test; dropped from train",
        "contradiction": "have the same text under different labels; all copies dropped",
        "duplicates in train": "repeat an earlier text; dropped",
    }
    for rule, count in sorted(dropped.items()):
        findings.append(
            _finding("warning", rule, "train", count, f"{count:,} rows {meaning[rule]}")
        )
    return kept, findings


def _balance(
    splits: Mapping[str, Sequence[LabelledReview]], names: Sequence[str], params: ValidationParams
) -> Iterable[Finding]:
    for split, rows in splits.items():
        counts = Counter(r.label for r in rows)
        listed = ", ".join(f"{name} {counts[i]:,}" for i, name in enumerate(names))
        if not rows:
            yield _finding("error", "empty", split, 0, "no usable row is left")
        elif len(counts) < 2:
            yield _finding(
                "error", "one class", split, len(rows), f"all rows are of one class ({listed})"
            )
        elif split == "train":
            yield from _train_balance(counts, names, listed, params)


def _train_balance(
    counts: Mapping[int, int], names: Sequence[str], listed: str, params: ValidationParams
) -> Iterable[Finding]:
    rows = [counts.get(i, 0) for i in range(len(names))]
    if min(rows) < params.min_rows_a_class:
        message = f"a class has fewer than {params.min_rows_a_class} rows ({listed})"
        yield _finding("error", "few rows", "train", min(rows), message)
        return
    ratio = max(rows) / min(rows)
    if ratio >= _IMBALANCE_WARNING:
        severity = "error" if ratio > params.max_imbalance else "warning"
        message = f"the largest class has {ratio:.0f} times the rows of the smallest ({listed})"
        yield _finding(severity, "imbalance", "train", max(rows), message)


def _finding(severity: str, rule: str, split: str, count: int, message: str) -> Finding:
    return Finding(severity=severity, rule=rule, split=split, count=count, message=message)


def _names(ids: Mapping[str, int]) -> str:
    """Class names, cut short: where the wrong column was named, whole reviews stand here."""
    return ", ".join(name[:40] for name in list(ids)[:20])
