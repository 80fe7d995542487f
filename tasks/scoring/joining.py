"""Join the parts of large objects once all of them are scored."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectInfo, parse_uri
from tasks.core.blame import as_data_error, is_object_error
from tasks.core.errors import StoreError, UnreadableDataError
from tasks.core.formats import writing
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.results import Counts, ObjectResult
from tasks.core.scoring.sharding import Entry
from tasks.runtime.steps import work_folder
from tasks.scoring.store.commit import (
    RUN,
    commit,
    failure,
    foreign,
    is_committed,
    is_made_of,
    rejected_uri,
    result_of,
    target_uri,
)
from tasks.scoring.store.outputs import too_many_rejects
from tasks.scoring.store.run_store import info, read_result, read_shard, result_uri

Part = tuple[Entry, ObjectResult]


def whole_results(
    objects: ExactObjects, run: ScoringRun, number: int, joined: list[Entry]
) -> Iterator[ObjectResult]:
    """Yield the results of the objects whose last part is in a shard; join the parts of large objects.

    Args:
        objects: the store.
        run: the frozen run.
        number: number of the shard.
        joined: receives the objects whose parts can be removed once the run is published. The parts of a failed
            object stay for the next attempt, by this or another run. If one is gone, its shards are scored again.
    Raises:
        StoreError: a shard has no result.
    """
    for entry, result in _results(objects, run, number):
        if entry.parts == 1:
            yield result
        elif entry.part == entry.parts - 1:
            parts, first = _parts_of(objects, run, number, entry)
            whole = _join_parts(objects, run, parts)
            if whole.state != "failed":
                joined.append(entry)
            elif not all(objects.head(target_uri(run, part)) for part, _ in parts):
                for shard in range(first, number + 1):
                    objects.store.delete(result_uri(run, shard))
            yield whole


def remove_parts(objects: ExactObjects, run: ScoringRun, entry: Entry) -> None:
    """Remove the parts of an object that was joined, or whose content has changed."""
    for item in list(objects.store.scan(run.part_uri(entry).rpartition("/")[0] + "/")):
        objects.store.delete(item.uri)


def _results(objects: ExactObjects, run: ScoringRun, number: int) -> list[Part]:
    done = read_result(objects, run, number)
    if done is None:
        raise StoreError(
            "A shard has no result",
            result_uri(run, number),
            "run again; it resumes with this shard",
        )
    entries = [e for bundle in read_shard(objects, run, number).bundles for e in bundle]
    return list(zip(entries, done.objects, strict=True))


def _parts_of(
    objects: ExactObjects, run: ScoringRun, number: int, last: Entry
) -> tuple[list[Part], int]:
    """Return all parts of an object in order, and the shard of the first; `number` is the shard of the last part."""
    parts: list[Part] = []
    while len(parts) < last.parts and number >= 0:
        here = [(e, r) for e, r in _results(objects, run, number) if e.key == last.key]
        parts, number = here + parts, number - 1
    return parts, number + 1


def _join_parts(objects: ExactObjects, run: ScoringRun, parts: Sequence[Part]) -> ObjectResult:
    """Join the parts of an object, unless one is missing or too many rows were rejected."""
    entry = replace(parts[0][0], part=0, parts=1, span=None)
    bad = next((r for _, r in parts if r.state not in ("scored", "found")), None)
    if bad:
        return result_of(entry, bad.state, error=bad.error)
    counts = Counts()
    for _, result in parts:
        counts = counts.plus(result.counts)
    before = objects.head(target_uri(run, entry))
    try:
        if error := too_many_rejects(run, entry.key, counts) or foreign(run, entry, before):
            raise error
        by_another_run = run.rescore and before is not None and before.metadata.get(RUN) != run.run
        if by_another_run and not all(objects.head(target_uri(run, part)) for part, _ in parts):
            by_another_run = False  # another run has already joined the same parts
        if before and is_committed(objects, run, entry, before) and not by_another_run:
            return result_of(entry, "scored", counts, etag=before.etag)
        # If the input has changed, newer predictions may exist already, or be written soon.
        if not is_made_of(run, entry, before):
            objects.require_unchanged(info(run, entry))
        with work_folder("joined") as folder:
            output, rejected = folder / "output", folder / "rejected"
            if counts.rows_rejected:
                refused = [part for part in parts if part[1].counts.rows_rejected]
                uris = [(rejected_uri(run, part), result) for part, result in refused]
                _join(objects, "rejected.jsonl", uris, rejected)
            uris = [(target_uri(run, part), result) for part, result in parts]
            _join(objects, run.output_uri(entry.key), uris, output)
            return commit(objects, run, entry, counts, output, rejected, before)
    except BaseException as error:
        if not is_object_error(error):
            raise
        now = objects.head(target_uri(run, entry))
        # Another run may have joined the object first and removed the parts.
        if now and is_committed(objects, run, entry, now):
            return result_of(entry, "scored", counts, etag=now.etag)
        return failure(entry, as_data_error(error, run.input_uri(entry.key)))


def _join(
    objects: ExactObjects, name: str, parts: Sequence[tuple[str, ObjectResult]], path: Path
) -> None:
    """Join all parts into one file. Raises UnreadableDataError if one is gone or differs from what was written."""
    with ExitStack() as stack, path.open("wb") as stream:
        streams: list[IO[bytes]] = []
        for uri, result in parts:
            head = objects.head(uri)
            # Metadata may omit long labels and reasons, so compare both counts as metadata.
            written = Counts.from_metadata(result.counts.to_metadata())
            if not head or not head.whole or Counts.from_metadata(head.metadata) != written:
                raise UnreadableDataError(
                    "A part of the predictions is gone, or has changed since it was written",
                    uri,
                    "run again",
                )
            item = ObjectInfo(*parse_uri(uri), head.size, head.etag)
            streams.append(stack.enter_context(objects.open(item, small_at_once=False)))
        writing.join(name, streams, stream)
