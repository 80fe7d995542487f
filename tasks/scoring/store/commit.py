"""Commit protocol: upload rejected rows first; the predictions object comes last and is the commit marker.

The protocol is the same for objects, for parts of large ones, and for objects joined from parts. No output is replaced
by accident: an output's metadata say what it was made from, and a writer that finds a different output reports it.
"""

from pathlib import Path
from typing import Any

from tasks.connectors.storage.conditional_reads import FINGERPRINT, Head
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.errors import (
    DataError,
    NightshiftError,
    OverwrittenError,
    StoreError,
    UnwritableDataError,
)
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.results import Counts, ObjectResult
from tasks.core.scoring.sharding import Entry
from tasks.scoring.store.run_store import info

RUN = "run"  # metadata: the run that wrote an output
_CONFIGURATION = "configuration"  # everything but the input that the content depends on
_SOURCE = "source"  # digest of the input's name
_TRIES = 5  # attempts while runs with an older input write at the same moment


def target_uri(run: ScoringRun, entry: Entry) -> str:
    """Return the URI of the predictions of an object, or of a part of one."""
    return run.part_uri(entry) if entry.parts > 1 else run.output_uri(entry.key)


def rejected_uri(run: ScoringRun, entry: Entry) -> str:
    """Return the URI of the rows that could not be scored."""
    if entry.parts > 1:
        return run.part_uri(entry, "rejected")
    return run.rejected_uri(entry.key, run.fingerprint(entry))


def result_of(
    entry: Entry, state: Any, counts: Counts | None = None, error: object = "", etag: str = ""
) -> ObjectResult:
    """Build the result of an object, or of a part of one."""
    return ObjectResult(
        key=entry.key,
        etag=entry.etag,
        size=entry.size,
        part=entry.part,
        parts=entry.parts,
        state=state,
        counts=counts or Counts(),
        error=str(error),
        output_etag=etag,
    )


def failure(entry: Entry, error: Exception) -> ObjectResult:
    """Build the result of an object that an error kept from being scored; the next run scores an overwritten one."""
    state = "overwritten" if isinstance(error, OverwrittenError) else "failed"
    return result_of(entry, state, error=error)


def is_made_of(run: ScoringRun, entry: Entry, head: Head | None) -> bool:
    """True if an output was made from the input as it was listed, by this version and configuration."""
    return head is not None and head.metadata.get(FINGERPRINT) == run.fingerprint(entry)


def is_committed(objects: ExactObjects, run: ScoringRun, entry: Entry, head: Head | None) -> bool:
    """True if `is_made_of` is true and the rejects that belong to the output exist."""
    if head is None or not is_made_of(run, entry, head):
        return False
    rejects = Counts.from_metadata(head.metadata).rows_rejected
    return not rejects or objects.is_made_of(rejected_uri(run, entry), run.fingerprint(entry))


def is_of_another_version(run: ScoringRun, entry: Entry, head: Head) -> bool:
    """True if the output holds predictions of another version of the same input, made with the same configuration."""
    theirs = head.metadata.get(_SOURCE), head.metadata.get(_CONFIGURATION)
    ours = run.source(entry.key), run.configuration(entry.key)
    return head.whole and theirs == ours and not is_made_of(run, entry, head)


def foreign(run: ScoringRun, entry: Entry, head: Head | None) -> DataError | None:
    """Return an error if the predictions of another input have the name of this one's."""
    if head is None or head.metadata.get(_SOURCE) == run.source(entry.key):
        return None
    return UnwritableDataError(
        "Another object has the name of its predictions: those of another input, or no predictions at all",
        run.output_uri(entry.key),
        f"choose another output prefix for {run.input}, or remove that object",
    )


def is_behind(objects: ExactObjects, run: ScoringRun, entry: Entry, head: Head | None) -> bool:
    """True if the predictions are of a version of the input that is gone, while this run's version is still there."""
    if head is None or not is_of_another_version(run, entry, head):
        return False
    try:
        objects.require_unchanged(info(run, entry))
    except OverwrittenError:
        return False
    return True


def replaced(
    objects: ExactObjects, run: ScoringRun, entry: Entry, head: Head | None
) -> NightshiftError:
    """Return an error that says who replaced this run's predictions."""
    if is_behind(objects, run, entry, head):
        return StoreError(
            "A run that started earlier has replaced these predictions with those of an older version of the input",
            run.output_uri(entry.key),
            "run again",
        )
    if head and is_of_another_version(run, entry, head):
        return OverwrittenError(
            "Predictions of another version of this input were written in the meantime",
            run.input_uri(entry.key),
            "nothing; the next run scores it if needed",
        )
    return UnwritableDataError(
        "Another run, with other columns, format, precision, engine or guard, writes to the same object",
        run.output_uri(entry.key),
        "give each run its own output prefix, and run again",
    )


def commit(
    objects: ExactObjects,
    run: ScoringRun,
    entry: Entry,
    counts: Counts,
    output: Path,
    rejected: Path,
    before: Head | None,
) -> ObjectResult:
    """Write an object's rejects, if any, and then its predictions, which are the commit marker.

    Args:
        objects: the store.
        run: that the predictions are of.
        entry: the object, or a part of one.
        counts: of its rows.
        output, rejected: the files.
        before: the object under the name of the predictions before they were made.
    """
    mark = {
        FINGERPRINT: run.fingerprint(entry),
        _CONFIGURATION: run.configuration(entry.key),
        _SOURCE: run.source(entry.key),
        RUN: run.run,
        "input-etag": entry.etag,
        **counts.to_metadata(),
    }
    if counts.rows_rejected:
        uri = rejected_uri(run, entry)
        head = objects.head(uri)
        if head is None or head.metadata.get(FINGERPRINT) != mark[FINGERPRINT]:
            objects.write(rejected, uri, mark, head)
    uri = target_uri(run, entry)
    etag = objects.write(output, uri, mark, before)
    for _ in range(_TRIES):
        if etag is not None or not is_behind(objects, run, entry, head := objects.head(uri)):
            break
        before = head
        etag = objects.write(output, uri, mark, before)
    if etag is None:
        head = objects.head(uri)
        if counts.rows_rejected and entry.parts == 1 and not is_made_of(run, entry, head):
            objects.store.delete(rejected_uri(run, entry))  # no predictions refer to them
        return failure(entry, replaced(objects, run, entry, head))
    old = before.metadata.get(FINGERPRINT) if before else None
    # The old predictions are gone, so nothing refers to their rejects.
    if old and old != mark[FINGERPRINT]:
        objects.store.delete(run.rejected_uri(entry.key, old))
    return result_of(entry, "scored", counts, etag=etag)
