"""Inspection of validated data for near-duplicates and likely label errors.

Nothing is left out or changed: findings are listed for people to look at, and counted for the gate.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.splits.sampling import stratified_split
from tasks.core.data.usable_rows import LabelledReview
from tasks.core.formats.delimited.formulas import guarded
from tasks.core.quality.label_errors import LabelErrors, find_label_errors
from tasks.core.quality.near_duplicates import NearDuplicates, find_near_duplicates, words_of
from tasks.core.quality.params import MOST_SHOWN, InspectionParams
from tasks.core.quality.records import QUANTILES, InspectionSummary, Overlap

Splits = Mapping[str, Sequence[LabelledReview]]


@dataclass(frozen=True)
class Inspection:
    """Findings by row, and the rows they refer to."""

    splits: Splits
    compared: Splits
    near_duplicates: NearDuplicates | None
    label_errors: LabelErrors
    notes: list[str]


def inspect(splits: Splits, params: InspectionParams) -> Inspection:
    """Look for near-duplicates and likely label errors. Deterministic.

    Args:
        splits: "train", "validation" and "test", in this order.
        params: thresholds, and the number of reviews to look at.
    """
    if not params.enabled:
        return Inspection(splits, {}, None, LabelErrors(), ["The inspection is switched off."])
    notes: list[str] = []
    compared = {
        name: sampled(name, rows, params.max_rows_near_duplicates, params.seed, notes)
        for name, rows in splits.items()
    }
    near = find_near_duplicates(compared, params.near_duplicate_similarity, params.seed)
    if near.cut_short:
        notes.append(
            f"{near.cut_short:,} reviews have over 500 like themselves and were not compared with all of them: "
            "counts of near-duplicates are lower bounds."
        )
    errors = find_label_errors(splits, params.folds, params.max_rows_label_errors, params.seed)
    return Inspection(splits, compared, near, errors, notes + errors.notes)


def sampled(
    name: str, rows: Sequence[LabelledReview], max_rows: int, seed: int, notes: list[str]
) -> Sequence[LabelledReview]:
    """Return a stratified sample of at most `max_rows` rows of a split; if rows are left out, add a note."""
    if len(rows) <= max_rows:
        return rows
    notes.append(
        f"Near-duplicates of {name} were looked for in {max_rows:,} of {len(rows):,} reviews, a stratified sample."
    )
    labels = np.array([row.label for row in rows], dtype=np.int64)
    (chosen,) = stratified_split(labels, [max_rows], seed)
    return [rows[index] for index in np.sort(chosen)]


def summarize(
    inspection: Inspection, params: InspectionParams, seconds: float
) -> InspectionSummary:
    """Return the counts of an inspection."""
    near = inspection.near_duplicates
    overlaps = [
        Overlap(
            split=split,
            other_split=other,
            pairs=count.pairs,
            identical=count.identical,
            other_label=count.other_label,
        )
        for (split, other), count in (near.counts.items() if near else ())
    ]
    words = {
        name: np.array([len(words_of(row.text)) for row in rows] or [0])
        for name, rows in inspection.splits.items()
    }
    return InspectionSummary(
        enabled=params.enabled,
        similarity=params.near_duplicate_similarity,
        near_duplicates=overlaps,
        test_rows_near_train=near.overlapping_rows["test"] if near else None,
        likely_label_errors={
            s: len(issues) for s, issues in inspection.label_errors.issues.items()
        },
        rows={name: len(rows) for name, rows in inspection.splits.items()},
        words={n: np.quantile(w, QUANTILES, method="lower").tolist() for n, w in words.items()},
        mean_words={name: float(counts.mean()) for name, counts in words.items()},
        rows_compared={name: len(rows) for name, rows in inspection.compared.items()},
        rows_judged=inspection.label_errors.rows,
        notes=inspection.notes,
        seconds=round(seconds, 1),
    )


def near_duplicate_rows(inspection: Inspection) -> list[dict[str, Any]]:
    """Return the listed pairs without text: pairs across splits first, then by descending similarity."""
    if not inspection.near_duplicates:
        return []
    return [
        {
            "split": pair.split,
            "where": inspection.compared[pair.split][pair.row].where,
            "other_split": pair.other_split,
            "other_where": inspection.compared[pair.other_split][pair.other_row].where,
            "similarity": pair.similarity,
            "same_label": pair.same_label,
        }
        for pair in inspection.near_duplicates.pairs()
    ]


def label_error_rows(
    inspection: Inspection, label_names: Sequence[str], texts: bool
) -> list[dict[str, Any]]:
    """Return the likely label errors of every split, the least plausible label first; with review text if `texts`."""
    return [
        {
            "split": split,
            "where": inspection.splits[split][issue.row].where,
            "given_label": label_names[issue.given_label],
            "suggested_label": label_names[issue.suggested],
            "confidence": issue.confidence,
            "given_confidence": issue.given_confidence,
        }
        | ({"text": inspection.splits[split][issue.row].text} if texts else {})
        for split, issues in inspection.label_errors.issues.items()
        for issue in issues
    ]


_PAIR_COLUMNS = ["split", "where", "other_split", "other_where", "similarity", "same_label"]
_ERROR_COLUMNS = [
    *("split", "where", "given_label", "suggested_label", "confidence", "given_confidence", "text")
]


def write_findings(
    folder: Path, inspection: Inspection, summary: InspectionSummary, label_names: Sequence[str]
) -> None:
    """Write near-duplicates.csv, label-errors.csv (with review texts) and inspection.json (without, to be shown)."""
    pairs = near_duplicate_rows(inspection)
    _write_csv(folder / "near-duplicates.csv", _PAIR_COLUMNS, pairs)
    _write_csv(
        folder / "label-errors.csv", _ERROR_COLUMNS, label_error_rows(inspection, label_names, True)
    )
    errors = label_error_rows(inspection, label_names, False)
    shown = {
        "summary": summary.model_dump(),
        "near_duplicates": pairs[:MOST_SHOWN],
        "label_errors": _in_turn(errors)[:MOST_SHOWN],
    }
    content = json.dumps(shown, ensure_ascii=False, indent=1)
    (folder / "inspection.json").write_text(content, encoding="utf-8")


def _in_turn(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Interleave the rows of all splits, so that the first ones come from every split."""
    apart = [
        [row for row in rows if row["split"] == split] for split in {r["split"]: 0 for r in rows}
    ]
    return [row for turn in zip_longest(*apart) for row in turn if row]


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows({name: guarded(value) for name, value in row.items()} for row in rows)
