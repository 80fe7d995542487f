"""Validation: check by rules that labelled reviews are fit to train on, before any resources are spent on them.

| rule                | what it finds | outcome |
|---------------------|------------------------------------------------------|---|
| unreadable rows     | rows that could not be decoded | left out; error above `max_unusable_fraction` |
| missing text        | null, not a text, or only space and markup | left out; error above `max_unusable_fraction` |
| missing label       | null or empty label | left out; error above `max_unusable_fraction` |
| unlabelled          | label -1, unless `label_names` or `label_map` names it | left out; error above that |
| hidden labels       | no review of test has a label, or all have -1 | error, with what to test on instead |
| unknown label       | a label that is none of `label_names` | error |
| unmapped label      | a label that `label_map` says nothing of, though it names classes | error |
| left out            | a label that `label_map` leaves out (`-`) | left out, note |
| unused mapping      | a label of `label_map` that no row has | warning |
| spelling            | a label that differs from its class in case or Unicode form | counted as that class, warning |
| missing in words    | a class such as `nan`, `null` or `n/a` | warning |
| contradiction       | the same text in train under several labels | all its copies left out, warning |
| duplicates in train | the same text again | the first is kept, warning |
| duplicates in test  | the same text again | kept (the test set is what it is), warning |
| leak                | a test text in train | dropped from train, warning |
| one class           | train or test has reviews of one class only | error |
| few rows            | after the split: a class with under `min_rows_a_class` in train, with none in another | error |
| thin                | after the split: a class with under `min_rows_a_class` in validation or test | warning |
| imbalance           | largest class over smallest in train | warning from 10, error over `max_imbalance` |
| unnamed labels      | labels are bare numbers and nobody named them | warning |
| empty               | no usable row | error |

Texts are the same if their `texts.matching_form` is.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.core.data.label_map import LabelMap
from tasks.core.data.labels import MISSING_IN_WORDS, UNLABELLED, LabelIds, discover_names, is_number
from tasks.core.data.params import ValidationParams
from tasks.core.data.texts import matching_form
from tasks.core.data.usable_rows import (
    LabelledReview,
    RawReview,
    Reading,
    finding,
    hidden_labels,
    option,
    unusable_by,
    usable_rows,
)
from tasks.core.errors import ValidationError
from tasks.core.records import Finding

__all__ = [
    "LabelledReview",
    "RawReview",
    "Validated",
    "ValidationParams",
    "class_rows",
    "few_rows",
    "unusable_by",
    "validate",
]

_IMBALANCE_WARNING = 10


# Rules that a field of the form can relax; for all others, the data has to be fixed.
_FIELDS = {
    "few rows": "data.validation.min_rows_a_class",
    "imbalance": "data.validation.max_imbalance",
    "missing text": "data.validation.max_unusable_fraction",
    "missing label": "data.validation.max_unusable_fraction",
    "unlabelled": "data.validation.max_unusable_fraction",
    "unreadable rows": "data.validation.max_unusable_fraction",
}


@dataclass(frozen=True)
class Validated:
    """The remaining rows, and all findings."""

    label_names: list[str]
    splits: dict[str, list[LabelledReview]]
    findings: list[Finding]
    # split -> labelled rows of each class before any was left out
    source_rows: dict[str, list[int]]

    def raise_errors(self) -> None:
        """Raise ValidationError with all findings that are errors, if there are any."""
        errors = [f for f in self.findings if f.severity == "error"]
        if errors:
            raise ValidationError(
                "; ".join(f"{f.split}: {f.message}" for f in errors), "data", _advice(errors)
            )


def _advice(errors: Iterable[Finding]) -> str:
    """Return the advice for errors; it names a field only if that relaxes one of the rules."""
    fields = sorted({_FIELDS[error.rule] for error in errors if error.rule in _FIELDS})
    relax = f", or change {' or '.join(fields)}" if fields else ""
    return f"fix the data{relax}; the run's page lists all findings"


def class_rows(
    splits: Mapping[str, Sequence[LabelledReview]], label_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return the number of rows per split and class."""
    counts = {split: Counter(r.label for r in rows) for split, rows in splits.items()}
    return {
        split: {name: count[index] for index, name in enumerate(label_names)}
        for split, count in counts.items()
    }


def validate(
    splits: Mapping[str, Sequence[RawReview]],
    label_names: Sequence[str] | None,
    unreadable: Mapping[str, int],
    params: ValidationParams,
    unusable: Mapping[str, Mapping[str, int]] | None = None,
    label_map: LabelMap | None = None,
) -> Validated:
    """Apply every rule of the table above. Findings are returned, not raised, so that a report can show all of them.

    Args:
        splits: "train", and "test" if the source has one.
        label_names: in order of their ids; None to take them from the labels of train.
        unreadable: rows per split that could not be decoded.
        params: limits of the rules.
        unusable: further rows per split and rule (see `unusable_by`) that are not in `splits`.
        label_map: applied to labels first.
    Raises:
        ValidationError: no class names can be derived from the labels, as they are too many or ambiguous.
    """
    label_map = label_map or LabelMap()
    findings: list[Finding] = []
    names = list(label_names or []) or _discovered(splits.get("train", ()), label_map)
    findings += _of_names(names, bool(label_names), splits, label_map)
    usable: dict[str, list[LabelledReview]] = {}
    source_rows: dict[str, list[int]] = {}
    reading = Reading(LabelIds(names), label_map, params.max_unusable_fraction, bool(label_names))
    for split, rows in splits.items():
        further = (unusable or {}).get(split, {})
        hidden = hidden_labels(split, rows, reading)
        usable[split], split_findings = usable_rows(
            split, rows, reading, unreadable.get(split, 0), further
        )
        findings += hidden or split_findings
        counts = Counter(row.label for row in usable[split])
        source_rows[split] = [counts[index] for index in range(len(names))]
    usable["train"], duplicates = _deduplicated(usable.get("train", []), usable.get("test", []))
    findings += duplicates
    findings += _balance(usable, names, params)
    return Validated(names, usable, findings, source_rows)


def _discovered(train: Sequence[RawReview], label_map: LabelMap) -> list[str]:
    read = (label_map.read(row.label) for row in train if row.label is not None)
    labels = (label for label, rule in read if not rule)
    unlabelled = None if label_map.speaks_of(UNLABELLED) else UNLABELLED
    return discover_names(labels, unlabelled)


def _of_names(
    names: Sequence[str],
    named: bool,
    splits: Mapping[str, Sequence[RawReview]],
    label_map: LabelMap,
) -> Iterable[Finding]:
    """Yield findings about the class names, and about the label map."""
    if not named and any(map(is_number, names)):
        message = (
            f"labels without names: {', '.join(names[:20])}; unless they are a scale, name them with "
            "data.source.label_names or data.source.label_map"
        )
        yield finding("warning", "unnamed labels", "train", len(names), message)
    for name in names:
        if not named and name.casefold() in MISSING_IN_WORDS:
            advice = option("label-map", label_map.with_pair(name, "-"))
            message = (
                f"{name!r} is a class, but programs also write missing values like this; "
                f"to leave such rows out: {advice}"
            )
            yield finding("warning", "missing in words", "train", 1, message)
    labels = {row.label for rows in splits.values() for row in rows if row.label is not None}
    if unused := label_map.unused(labels):
        message = f"data.source.label_map names labels that no row has: {', '.join(unused)}"
        yield finding("warning", "unused mapping", "train", len(unused), message)


def _deduplicated(
    train: Sequence[LabelledReview], test: Sequence[LabelledReview]
) -> tuple[list[LabelledReview], list[Finding]]:
    findings: list[Finding] = []
    test_forms = Counter(matching_form(r.text) for r in test)
    repeated = sum(test_forms.values()) - len(test_forms)
    if repeated:
        message = f"{repeated:,} rows repeat an earlier text of test; kept"
        findings.append(finding("warning", "duplicates in test", "test", repeated, message))
    labels_of: dict[str, set[int]] = defaultdict(set)
    forms = [matching_form(r.text) for r in train]
    for form, row in zip(forms, train, strict=True):
        labels_of[form].add(row.label)
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    unique: list[LabelledReview] = []
    for form, row in zip(forms, train, strict=True):
        if form in test_forms:
            dropped["leak"] += 1
        elif len(labels_of[form]) > 1:
            dropped["contradiction"] += 1
        elif form in seen:
            dropped["duplicates in train"] += 1
        else:
            seen.add(form)
            unique.append(row)
    meaning = {
        "leak": "are also in test; dropped from train",
        "contradiction": "have the same text under different labels; all copies dropped",
        "duplicates in train": "repeat an earlier text; dropped",
    }
    for rule, count in sorted(dropped.items()):
        findings.append(finding("warning", rule, "train", count, f"{count:,} rows {meaning[rule]}"))
    return unique, findings


def few_rows(
    splits: Mapping[str, Sequence[LabelledReview]], names: Sequence[str], least: int
) -> list[Finding]:
    """Return findings about classes with too few rows in train, validation or test, after the split.

    Args:
        splits: rows of each split.
        names: label names, in order of their ids.
        least: rows of a class that train must have; fewer in validation or test give a warning, none gives an error.
    """
    findings: list[Finding] = []
    for split, counts in class_rows(splits, names).items():
        needed = least if split == "train" else 1
        short = {name: rows for name, rows in counts.items() if rows < needed}
        thin = {name: rows for name, rows in counts.items() if needed <= rows < least}
        if short:
            message = f"after the split it has {_counted(short)}, but every class needs {needed:,}"
            findings.append(finding("error", "few rows", split, min(short.values()), message))
        if thin:
            message = (
                f"after the split it has {_counted(thin)}; metrics on so few rows are unreliable"
            )
            findings.append(finding("warning", "thin", split, min(thin.values()), message))
    return findings


def _counted(rows: Mapping[str, int]) -> str:
    listed = [f"{count:,} of {name[:40]}" for name, count in list(rows.items())[:20]]
    return ", ".join(listed) + (f" and {len(rows) - 20} more" if len(rows) > 20 else "")


def _balance(
    splits: Mapping[str, Sequence[LabelledReview]], names: Sequence[str], params: ValidationParams
) -> Iterable[Finding]:
    for split, rows in splits.items():
        counts = Counter(r.label for r in rows)
        listed = ", ".join(f"{name} {counts[i]:,}" for i, name in enumerate(names))
        if not rows:
            yield finding("error", "empty", split, 0, "no usable row is left")
        elif len(counts) < 2:
            yield finding(
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
        yield finding("error", "few rows", "train", min(rows), message)
        return
    ratio = max(rows) / min(rows)
    if ratio >= _IMBALANCE_WARNING:
        severity = "error" if ratio > params.max_imbalance else "warning"
        message = f"the largest class has {ratio:.0f} times the rows of the smallest ({listed})"
        yield finding(severity, "imbalance", "train", max(rows), message)
