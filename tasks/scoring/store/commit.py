"""How predictions come to stand in the store: their rejects first, they last, each whole or not at all.

One way for objects, for parts of large ones, and for what is joined of those. Nobody's work is replaced by accident:
an output says in its metadata what it is made of, and a writer who finds something else there says which it was.
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

RUN = "run"  # metadata: which run wrote an output
_CONFIGURATION = "configuration"  # what its content depends on beside the input
_SOURCE = "source"  # digest of the input's name
_TRIES = 5  # while runs that are behind write at the same moment


def target_uri(run: ScoringRun, entry: Entry) -> str:
    """Where predictions of an object go, or of a part of one."""
    return run.part_uri(entry) if entry.parts > 1 else run.output_uri(entry.key)


def rejected_uri(run: ScoringRun, entry: Entry) -> str:
    """Where its rows go that could not be scored."""
    if entry.parts > 1:
        return run.part_uri(entry, "rejected")
    return run.rejected_uri(entry.key, run.fingerprint(entry))


def result_of(
    entry: Entry, state: Any, counts: Counts | None = None, error: object = "", etag: str = ""
) -> ObjectResult:
    """What became of an object, or of a part of one."""
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
    """The result where an error kept an object from being scored; one that was overwritten is the next run's."""
    state = "overwritten" if isinstance(error, OverwrittenError) else "failed"
    return result_of(entry, state, error=error)


def is_made_of(run: ScoringRun, entry: Entry, head: Head | None) -> bool:
    """True when an output is of the input as it was listed, by this version and configuration."""
    return head is not None and head.metadata.get(FINGERPRINT) == run.fingerprint(entry)


def is_committed(objects: ExactObjects, run: ScoringRun, entry: Entry, head: Head | None) -> bool:
    """The same, and the rejects that belong to it are there."""
    if head is None or not is_made_of(run, entry, head):
        return False
    rejects = Counts.from_metadata(head.metadata).rows_rejected
    return not rejects or objects.is_made_of(rejected_uri(run, entry), run.fingerprint(entry))


def is_of_another_version(run: ScoringRun, entry: Entry, head: Head) -> bool:
    """True of predictions of another version of the same input, made in the same way."""
    theirs = head.metadata.get(_SOURCE), head.metadata.get(_CONFIGURATION)
    ours = run.source(entry.key), run.configuration(entry.key)
    return head.whole and theirs == ours and not is_made_of(run, entry, head)


def foreign(run: ScoringRun, entry: Entry, head: Head | None) -> DataError | None:
    """What is wrong where another input has its predictions in this one's place."""
    if head is None or head.metadata.get(_SOURCE) == run.source(entry.key):
        return None
    return UnwritableDataError(
        "Something else lies where its predictions go: those of another input, or no predictions at all",
        run.output_uri(entry.key),
        f"choose another output prefix for {run.input}, or remove that object",
    )


def is_behind(objects: ExactObjects, run: ScoringRun, entry: Entry, head: Head | None) -> bool:
    """True of predictions of a version of the input that is no longer there, while this run's still is."""
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
    """Says who has written where this run's predictions were, or were to go."""
    if is_behind(objects, run, entry, head):
        return StoreError(
            "A run that began earlier has put predictions of an older version of it in their place",
            run.output_uri(entry.key),
            "run again",
        )
    if head and is_of_another_version(run, entry, head):
        return OverwrittenError(
            "Predictions of another version of it were written meanwhile",
            run.input_uri(entry.key),
            "nothing; the next run scores what needs it",
        )
    return UnwritableDataError(
        "Another run, with other columns, format, precision, engine or guard, writes to the same place",
        run.output_uri(entry.key),
        "give each of the two an output prefix of its own, and run again",
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
    """Write an object's rejects, if it has any, and then its predictions: the sign that all of it is there.

    Args:
        objects: the store.
        run: that the predictions are of.
        entry: the object, or a part of one.
        counts: of its rows.
        output, rejected: the files.
        before: what was seen in the predictions' place before they were made.
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
        place = rejected_uri(run, entry)
        there = objects.head(place)
        if there is None or there.metadata.get(FINGERPRINT) != mark[FINGERPRINT]:
            objects.write(rejected, place, mark, there)
    place = target_uri(run, entry)
    etag = objects.write(output, place, mark, before)
    for _ in range(_TRIES):
        if etag is not None or not is_behind(objects, run, entry, there := objects.head(place)):
            break
        before = there
        etag = objects.write(output, place, mark, before)
    if etag is None:
        there = objects.head(place)
        if counts.rows_rejected and entry.parts == 1 and not is_made_of(run, entry, there):
            objects.store.delete(rejected_uri(run, entry))  # no predictions refer to them
        return failure(entry, replaced(objects, run, entry, there))
    old = before.metadata.get(FINGERPRINT) if before else None
    if old and old != mark[FINGERPRINT]:  # its predictions are gone: nothing refers to its rejects
        objects.store.delete(run.rejected_uri(entry.key, old))
    return result_of(entry, "scored", counts, etag=etag)
