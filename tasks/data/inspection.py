"""The step that inspects split reviews for problems that validation cannot see, and writes the data card."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.data import tables
from tasks.core.markdown import Markdown
from tasks.core.quality import inspection
from tasks.core.quality.data_card import Origin, data_card, front_matter
from tasks.core.quality.params import InspectionParams
from tasks.core.quality.records import InspectionSummary
from tasks.core.records import Reference, SourceFile, SplitSummary, ValidatedSummary
from tasks.runtime.clients import object_store, prepared_store
from tasks.runtime.reporting import artifacts
from tasks.runtime.reporting.findings import keep_findings
from tasks.runtime.steps import reuse_or_make, step, work_folder

logger = logging.getLogger(__name__)

INSPECTION_VERSION = 4  # increment when the code changes what is found or what is written about it
_SPLITS = ("train", "validation", "test")
_LISTS = ("near-duplicates", "label-errors")
_NOTHING = [{"result": "nothing found"}]


@step
def inspect_reviews(
    split: Reference[SplitSummary],
    validated: Reference[ValidatedSummary],
    params: InspectionParams,
) -> Reference[InspectionSummary]:
    """Find near-duplicates and likely label errors, and write the data card. No review is removed because of it.

    The folder holds near-duplicates.csv, label-errors.csv (with the reviews), inspection.json and README.md (the card).
    """
    inputs = {
        "version": INSPECTION_VERSION,
        "split": split.digest,
        "validated": validated.digest,
        "params": params.identity(exclude={"listed"}),
    }

    def make(folder: Path) -> InspectionSummary:
        return _inspect(split, validated, params, folder)

    reference = reuse_or_make("inspection", inputs, InspectionSummary, make)
    card = _card(split, validated, reference.summary, params)
    artifacts.publish_text("data-card", card, "The training and test data of the model")
    _publish(reference, params)
    return reference


def _inspect(
    split: Reference[SplitSummary],
    validated: Reference[ValidatedSummary],
    params: InspectionParams,
    folder: Path,
) -> InspectionSummary:
    with work_folder("fetched") as source:
        names = [f"{name}.parquet" for name in _SPLITS]
        prepared_store().fetch(split, source, *names)
        splits = {name: tables.read_labelled(source / f"{name}.parquet") for name in _SPLITS}
    started = time.perf_counter()
    findings = inspection.inspect(splits, params)
    summary = inspection.summarize(findings, params, time.perf_counter() - started)
    inspection.write_findings(folder, findings, summary, split.summary.label_names)
    card = front_matter(split.summary, params) + _card(split, validated, summary, params)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return summary


def _card(
    split: Reference[SplitSummary],
    validated: Reference[ValidatedSummary],
    summary: InspectionSummary,
    params: InspectionParams,
) -> Markdown:
    """Make the data card anew for each page, because anyone with write access may have changed a reused README.md."""
    findings = validated.summary.findings
    return data_card(_origin(split, validated), split.summary, findings, summary, params)


def _origin(split: Reference[SplitSummary], validated: Reference[ValidatedSummary]) -> Origin:
    """Return the origin of the reviews, by the manifests of the folders they passed through."""
    prepared = prepared_store()
    manifest = prepared.read(validated.uri)
    digest = str(manifest.inputs["loaded"]) if manifest else ""
    loaded = prepared.read(prepared.uri("loaded", digest)) if digest else None
    return Origin(
        source=str(loaded.summary["source"]) if loaded else "unknown (its folder is gone)",
        label_map=str(manifest.inputs.get("label_map", "")) if manifest else "",
        files=[SourceFile(**file) for file in loaded.summary.get("files", [])] if loaded else [],
        more_files=loaded.summary.get("more_files", {}) if loaded else {},
        loaded_digest=digest or "unknown",
        columns=[str(column) for column in loaded.inputs["columns"]] if loaded else [],
        split_params=_settings(prepared.manifest_of(split).inputs),
        digest=split.digest,
    )


def _settings(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among the inputs of the step that made a split: those of its form, or else its numbers."""
    of_form = {
        n: v for group in inputs.values() if isinstance(group, Mapping) for n, v in group.items()
    }
    return of_form or {n: v for n, v in inputs.items() if isinstance(v, int | float)}


def _publish(reference: Reference[InspectionSummary], params: InspectionParams) -> None:
    """Publish tables on the run's page and log the findings as warnings; neither contains a review."""
    with work_folder("fetched") as folder:
        manifest = prepared_store().fetch(reference, folder, "inspection.json")
        shown = json.loads((folder / "inspection.json").read_text(encoding="utf-8"))
    location = _opened(reference, f"{reference.uri}/{manifest.attempt}")
    summary = reference.summary
    for note in summary.notes:
        logger.info("%s", note)
    if summary.test_rows_near_train is None:
        return
    _publish_list("near-duplicates", shown["near_duplicates"], params.listed, location)
    _publish_list("label-errors", shown["label_errors"], params.listed, location)
    if summary.test_rows_near_train:
        logger.warning(
            "%s test reviews have a near-duplicate in train or validation; they are listed at %s/near-duplicates.csv",
            f"{summary.test_rows_near_train:,}",
            location,
        )
    if any(summary.likely_label_errors.values()):
        counts = ", ".join(f"{s} {count:,}" for s, count in summary.likely_label_errors.items())
        logger.warning(
            "Some labels are likely wrong (%s); they are listed at %s/label-errors.csv",
            counts,
            location,
        )


def _opened(reference: Reference[InspectionSummary], location: str) -> str:
    """Return where a user opens the findings: a local folder if the object store is on this machine."""
    objects = {f"{kind}.csv": f"{location}/{kind}.csv" for kind in _LISTS}
    if reference.summary.test_rows_near_train is None:
        return location
    folder = keep_findings(object_store(), f"inspection/{reference.digest[:12]}", objects)
    return str(folder) if folder else location


def _publish_list(kind: str, rows: list[dict[str, Any]], listed: int, location: str) -> None:
    first = rows[:listed]
    artifacts.publish_table(
        kind, first or _NOTHING, f"The first {len(first):,}; more in {location}/{kind}.csv"
    )
