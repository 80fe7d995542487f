"""Steps from a source of labelled reviews to train, validation and test: load, validate, split."""

import logging
from pathlib import Path

from tasks import reports
from tasks.connect import object_store
from tasks.connectors.sources import Source, SourceParams, open_source
from tasks.core import splitting, tables, validation
from tasks.core.digests import digest_of, file_digest
from tasks.core.errors import MissingDataError
from tasks.core.records import (
    HeldOutSummary,
    LoadedSummary,
    Reference,
    SplitSummary,
    ValidatedSummary,
)
from tasks.core.splitting import SplitParams
from tasks.core.validation import ValidationParams
from tasks.reading_rows import read_rows
from tasks.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

# Raised when the code of a step changes what it makes, so that nothing made by the old code is reused.
LOAD_VERSION = 3
VALIDATE_VERSION = 3
SPLIT_VERSION = 5
_EXAMPLES = 5


@step
def load_reviews(params: SourceParams, max_unusable_share: float) -> Reference[LoadedSummary]:
    """Read every labelled review of the source into the object store.

    Args:
        params: where they are.
        max_unusable_share: that validation will allow; reading ends early where it is hopeless.
    Raises:
        MissingDataError: nothing there, or a column is missing.
        UnreadableDataError: a file is not what it claims to be.
        ValidationError: of a million rows or more, most are of no use.
    """
    sources = {"train": open_source(params, "location", object_store)}
    if params.test_location:
        sources["test"] = open_source(params, "test_location", object_store)
    elif "test" in sources["train"].splits():
        sources["test"] = sources["train"]
    inputs = {
        "version": LOAD_VERSION,
        "sources": {split: source.identity() for split, source in sources.items()},
        "test_apart": bool(params.test_location),
        "columns": [params.text_column, params.label_column, *params.slice_columns],
    }
    return reuse_or_make(
        "loaded",
        inputs,
        LoadedSummary,
        lambda folder: _load(sources, params, max_unusable_share, folder),
    )


def _load(
    sources: dict[str, Source], params: SourceParams, max_unusable_share: float, folder: Path
) -> LoadedSummary:
    rows: dict[str, int] = {}
    unusable: dict[str, dict[str, int]] = {}
    unreadable: dict[str, int] = {}
    examples: list[str] = []
    for split, source in sources.items():
        read_from = split if split in source.splits() else "train"  # test reviews apart, unnamed
        read = read_rows(source.rows(read_from), max_unusable_share, f"{source.name} ({split})")
        unreadable[split], examples = read.unreadable, examples + read.examples
        if further := read.further:
            unusable[split] = dict(further)
        tables.write_reviews(folder / f"{split}.parquet", read.kept, raw=True)
        rows[split] = len(read.kept)
        logger.info("Read %s rows of %s from %s", f"{rows[split]:,}", split, source.name)
        for first in read.examples[:1]:
            count = f"{unreadable[split]:,}"
            logger.warning("%s rows of %s could not be decoded; the first: %s", count, split, first)
    if not any(rows.values()):
        raise MissingDataError(
            "There is not one readable row", params.location, "check data.source.location"
        )
    return LoadedSummary(
        source=params.location,
        rows=rows,
        unusable=unusable,
        unreadable=unreadable,
        unreadable_examples=examples[:_EXAMPLES],
        label_names=sources["train"].label_names(),
    )


@step
def validate_reviews(
    loaded: Reference[LoadedSummary], label_names: list[str], params: ValidationParams
) -> Reference[ValidatedSummary]:
    """Check the reviews by the stated rules and keep those that are fit, with a report either way.

    Raises:
        ValidationError: at least one rule says error.
    """
    names = label_names or loaded.summary.label_names
    inputs = {
        "version": VALIDATE_VERSION,
        "loaded": loaded.digest,
        "label_names": names,
        "rules": params.model_dump(),
    }

    def make(folder: Path) -> ValidatedSummary:
        with fetched(loaded) as raw:
            splits = {
                split: tables.read_raw(raw / f"{split}.parquet") for split in loaded.summary.rows
            }
        summary = loaded.summary
        validated = validation.validate(splits, names, summary.unreadable, params, summary.unusable)
        class_rows = validation.class_rows(validated.splits, validated.label_names)
        if any(finding.severity == "error" for finding in validated.findings):
            reports.publish_findings(validated.findings, class_rows)
        validated.raise_errors()
        for split, rows in validated.splits.items():
            tables.write_reviews(folder / f"{split}.parquet", rows)
        return ValidatedSummary(
            label_names=validated.label_names,
            rows={split: len(rows) for split, rows in validated.splits.items()},
            class_rows=class_rows,
            source_rows=validated.source_rows,
            findings=validated.findings,
        )

    reference = reuse_or_make("validated", inputs, ValidatedSummary, make)
    for finding in reference.summary.findings:
        log = logger.warning if finding.severity == "warning" else logger.info
        log("%s: %s (%s)", finding.split, finding.message, finding.rule)
    reports.publish_findings(reference.summary.findings, reference.summary.class_rows)
    return reference


@step
def split_reviews(
    validated: Reference[ValidatedSummary],
    held_out: Reference[HeldOutSummary],
    slice_columns: list[str],
    params: SplitParams,
) -> Reference[SplitSummary]:
    """Draw train and validation beside the test set that is held out: seeded, shuffled, stratified.

    Raises:
        ValidationError: so few rows that a split lacks a class.
    """
    names = validated.summary.label_names
    inputs = {
        "version": SPLIT_VERSION,
        "validated": validated.digest,
        "held_out": held_out.digest,
        "slice_columns": slice_columns,
        "split": params.model_dump(exclude={"new_test_set"}),
    }

    def make(folder: Path) -> SplitSummary:
        with fetched(validated) as source, fetched(held_out) as apart:
            splits = {
                "train": tables.read_labelled(source / "train.parquet"),
                "test": tables.read_labelled(apart / "test.parquet"),
            }
        made = splitting.split(splits, validated.summary.source_rows, params)
        for name, rows in made.items():
            tables.write_reviews(folder / f"{name}.parquet", rows)
        return SplitSummary(
            label_names=names,
            slice_columns=slice_columns,
            rows={name: len(rows) for name, rows in made.items()},
            class_rows=validation.class_rows(made, names),
            train_digest=digest_of(
                {n: file_digest(folder / f"{n}.parquet") for n in ("train", "validation")}
            ),
            test_digest=file_digest(folder / "test.parquet"),
        )

    reference = reuse_or_make("split", inputs, SplitSummary, make)
    for name, counts in reference.summary.class_rows.items():
        logger.info(
            "%s: %s", name, ", ".join(f"{label} {count:,}" for label, count in counts.items())
        )
    return reference
