"""Steps from a source of labelled reviews to train, validation and test: load, validate, split."""

import logging
from pathlib import Path

from tasks.connectors.sources.base import Source
from tasks.connectors.sources.params import SourceParams
from tasks.connectors.sources.registry import open_source
from tasks.core.data import tables, validation
from tasks.core.data.label_map import LabelMap
from tasks.core.data.params import SplitParams, ValidationParams
from tasks.core.data.splits import splitting
from tasks.core.digests import digest_of, file_digest
from tasks.core.errors import MissingDataError
from tasks.core.parsing.pairs import LEAVE_OUT
from tasks.core.records import (
    HeldOutSummary,
    LoadedSummary,
    Reference,
    SourceFile,
    SplitSummary,
    ValidatedSummary,
)
from tasks.data.reading_rows import read_rows
from tasks.runtime.clients import object_store
from tasks.runtime.reporting import artifacts
from tasks.runtime.steps import fetched, reuse_or_make, step

logger = logging.getLogger(__name__)

# Increment when a step's code changes its output, so that no output of the old code is reused.
LOAD_VERSION = 6
VALIDATE_VERSION = 4
SPLIT_VERSION = 6
_EXAMPLES = 5
_MOST_FILES = 100  # per split, named in the report
_MOST_LOGGED = 10  # per split, named in one log line


@step
def load_reviews(params: SourceParams, max_unusable_fraction: float) -> Reference[LoadedSummary]:
    """Read every labelled review of the source into the object store.

    Args:
        params: where the reviews are.
        max_unusable_fraction: the limit of validation; reading stops early once it cannot be met.
    Raises:
        MissingDataError: the location is empty, or a column is missing.
        UnreadableDataError: a file is not what it claims to be.
        ValidationError: most of the first million rows or more are unusable.
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
        "splits": params.splits,
        "encoding": params.encoding,
    }
    loaded = reuse_or_make(
        "loaded",
        inputs,
        LoadedSummary,
        lambda folder: _load(sources, params, max_unusable_fraction, folder),
    )
    _log_files(loaded.summary)
    return loaded


def _log_files(loaded: LoadedSummary) -> None:
    """Log the split of each file, one line per kind, so that users see what is trained on and what is not."""
    names: dict[tuple[str, str], list[str]] = {}
    for file in loaded.files:
        names.setdefault((file.split, file.why), []).append(file.name)
    for (split, why), files in names.items():
        log = logger.info if split in ("train", "test") else logger.warning
        more = f" and {len(files) - _MOST_LOGGED:,} more" if len(files) > _MOST_LOGGED else ""
        log("%s: %s%s (%s)", _use_of(split), ", ".join(files[:_MOST_LOGGED]), more, why)
    for split, count in loaded.more_files.items():
        logger.info("%s: %s further files", _use_of(split), f"{count:,}")


def _use_of(split: str) -> str:
    if split == LEAVE_OUT:
        return "Files not read"
    return f"Files of {split}" + ("" if split in ("train", "test") else ", not used")


def _files(sources: dict[str, Source]) -> tuple[list[SourceFile], dict[str, int]]:
    """Return the first files of each split, and the number of further files of each."""
    all_files: list[SourceFile] = []
    apart = "test" in sources and sources["test"] is not sources["train"]
    for file in sources["train"].files():
        unused = apart and file.split == "test"
        why = f"{file.why}, but data.source.test_location names another test set"
        all_files.append(SourceFile(name=file.name, split="-", why=why) if unused else file)
    if apart:
        own = "test" if "test" in sources["test"].splits() else "train"  # the part to read
        all_files += [
            SourceFile(name=f.name, split="test", why="it is in data.source.test_location")
            if f.split == own
            else f.model_copy(update={"split": "-"})
            for f in sources["test"].files()
        ]
    by_split: dict[str, list[SourceFile]] = {}
    for file in all_files:
        by_split.setdefault(file.split, []).append(file)
    listed = [file for files in by_split.values() for file in files[:_MOST_FILES]]
    more = {split: len(files) - _MOST_FILES for split, files in by_split.items()}
    return listed, {split: count for split, count in more.items() if count > 0}


def _load(
    sources: dict[str, Source], params: SourceParams, max_unusable_fraction: float, folder: Path
) -> LoadedSummary:
    rows: dict[str, int] = {}
    unusable: dict[str, dict[str, int]] = {}
    unreadable: dict[str, int] = {}
    examples: list[str] = []
    for split, source in sources.items():
        # A separate test source may have no named splits.
        read_from = split if split in source.splits() else "train"
        read = read_rows(source.rows(read_from), max_unusable_fraction, f"{source.name} ({split})")
        unreadable[split], examples = read.unreadable, examples + read.examples
        if further := read.further:
            unusable[split] = dict(further)
        tables.write_reviews(folder / f"{split}.parquet", read.rows, raw=True)
        rows[split] = len(read.rows)
        logger.info("Read %s rows of %s from %s", f"{rows[split]:,}", split, source.name)
        for first in read.examples[:1]:
            count = f"{unreadable[split]:,}"
            logger.warning("%s rows of %s could not be decoded; the first: %s", count, split, first)
    if not any(rows.values()):
        raise MissingDataError("No row can be read", params.location, "check data.source.location")
    files, more_files = _files(sources)
    return LoadedSummary(
        source=params.location,
        files=files,
        more_files=more_files,
        rows=rows,
        unusable=unusable,
        unreadable=unreadable,
        unreadable_examples=examples[:_EXAMPLES],
        label_names=sources["train"].label_names(),
    )


@step
def validate_reviews(
    loaded: Reference[LoadedSummary],
    label_names: list[str],
    params: ValidationParams,
    label_map: str = "",
) -> Reference[ValidatedSummary]:
    """Check the reviews against the validation rules and keep the valid ones, with a report in either case.

    Args:
        loaded: the reviews as the source has them.
        label_names: in order of their ids; empty: those of the source, else those found in the rows.
        params: limits of the rules.
        label_map: replacement labels, in the format of `data.source.label_map`.
    Raises:
        ValidationError: at least one rule reports an error.
    """
    mapped = LabelMap(label_map)
    names = label_names or mapped.names(loaded.summary.label_names or []) or None
    inputs = {
        "version": VALIDATE_VERSION,
        "loaded": loaded.digest,
        "label_names": names,
        "label_map": label_map,
        "rules": params.identity(),
    }

    def make(folder: Path) -> ValidatedSummary:
        with fetched(loaded) as raw:
            splits = {
                split: tables.read_raw(raw / f"{split}.parquet") for split in loaded.summary.rows
            }
        summary = loaded.summary
        validated = validation.validate(
            splits, names, summary.unreadable, params, summary.unusable, mapped
        )
        class_rows = validation.class_rows(validated.splits, validated.label_names)
        if any(finding.severity == "error" for finding in validated.findings):
            artifacts.publish_findings(validated.findings, class_rows)
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
    artifacts.publish_findings(reference.summary.findings, reference.summary.class_rows)
    return reference


@step
def split_reviews(
    validated: Reference[ValidatedSummary],
    held_out: Reference[HeldOutSummary],
    slice_columns: list[str],
    params: SplitParams,
    min_rows_a_class: int = 2,
) -> Reference[SplitSummary]:
    """Draw train and validation from the reviews outside the held-out test set: seeded, shuffled, stratified.

    Args:
        validated: the reviews.
        held_out: the test set.
        slice_columns: names of the further columns.
        params: sizes and seed.
        min_rows_a_class: the minimum number of train rows per class.
    Raises:
        ValidationError: train has fewer rows of a class, or validation or test has none.
    """
    names = validated.summary.label_names
    inputs = {
        "version": SPLIT_VERSION,
        "validated": validated.digest,
        "held_out": held_out.digest,
        "slice_columns": slice_columns,
        "split": params.identity(exclude={"new_test_set"}),
        "min_rows_a_class": min_rows_a_class,
    }

    def make(folder: Path) -> SplitSummary:
        with fetched(validated) as source, fetched(held_out) as apart:
            splits = {
                "train": tables.read_labelled(source / "train.parquet"),
                "test": tables.read_labelled(apart / "test.parquet"),
            }
        parts = splitting.split(splits, validated.summary.source_rows, params)
        findings = splitting.require_rows(parts, names, min_rows_a_class)
        for name, rows in parts.items():
            tables.write_reviews(folder / f"{name}.parquet", rows)
        return SplitSummary(
            findings=findings,
            label_names=names,
            slice_columns=slice_columns,
            rows={name: len(rows) for name, rows in parts.items()},
            class_rows=validation.class_rows(parts, names),
            train_digest=digest_of(
                {n: file_digest(folder / f"{n}.parquet") for n in ("train", "validation")}
            ),
            test_digest=file_digest(folder / "test.parquet"),
        )

    reference = reuse_or_make("split", inputs, SplitSummary, make)
    for name, counts in reference.summary.class_rows.items():
        logger.info(
            "Reviews by class in %s: %s",
            name,
            ", ".join(f"{label} {count:,}" for label, count in counts.items()),
        )
    for finding in reference.summary.findings:
        logger.warning("%s: %s (%s)", finding.split, finding.message, finding.rule)
    return reference
