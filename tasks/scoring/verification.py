"""Verify from the store alone that a scoring run is complete."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pydantic import Field

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.digests import digest_of
from tasks.core.errors import OverwrittenError
from tasks.core.records import Record
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.prefetch import map_ordered
from tasks.core.scoring.results import Counts
from tasks.core.scoring.sharding import Entry
from tasks.runtime.clients import exact_objects
from tasks.runtime.reporting import artifacts
from tasks.runtime.steps import step
from tasks.scoring.store.commit import is_committed, is_made_of, is_of_another_version, rejected_uri
from tasks.scoring.store.run_store import info, read_overwritten, read_shard, require_run
from tasks.scoring.store.success_markers import why_not_success

logger = logging.getLogger(__name__)

_REQUESTS = 32
_SHOWN = 100


class Proof(Record):
    """The contents of the store that belong to a run."""

    place: str
    model: str
    version: str
    objects: int
    proven: int
    changed: int = Field(
        description="Inputs overwritten or removed before they were scored, and outputs replaced since by those of "
        "another version of the input."
    )
    rows: int
    complete: bool
    problems: list[str]
    success: str = Field(
        description="Why a reader may not take `_SUCCESS` beside the predictions; empty where one may."
    )


@step
def verify_run(run_uri: str) -> Proof:
    """Check that every output of a run exists and was made from what the run froze.

    Args:
        run_uri: of the run's records.
    Raises:
        MissingDataError: there is no run.
    """
    started = time.perf_counter()
    objects = exact_objects()
    run = require_run(objects, run_uri)
    proven = rows = changed = 0
    problems: list[str] = []
    shards: list[str] = []
    with ThreadPoolExecutor(_REQUESTS) as pool:
        overwritten = read_overwritten(objects, run)
        wholes = ((run, objects, e, e.key in overwritten) for e in _wholes(objects, run, shards))
        for counts, problem, is_changed in map_ordered(pool, _check, wholes, 4 * _REQUESTS):
            proven += not problem and not is_changed
            changed, rows = changed + is_changed, rows + counts.rows_in
            if problem and len(problems) < _SHOWN:
                problems.append(problem)
    if run.plan_digest not in ("", digest_of({"shards": shards})):
        problems.insert(0, f"{run.place}: its shard lists are not those of the plan")
    proof = Proof(
        place=run.place,
        model=run.model.name,
        version=run.model.version,
        objects=run.objects,
        proven=proven,
        changed=changed,
        rows=rows,
        complete=proven + changed == run.objects and not problems,
        problems=problems,
        success=why_not_success(objects, run.root),
    )
    if not proof.complete and not problems:
        problems.append(
            f"{run.place}: its shard lists hold {proven + changed} objects, but its manifest says {run.objects}"
        )
    status = "complete" if proof.complete else "NOT COMPLETE"
    logger.info(
        "Verified %s in %.1f s: %s, %s of %s objects, %s rows",
        run_uri,
        time.perf_counter() - started,
        status,
        proven,
        run.objects,
        f"{rows:,}",
    )
    logger.info("_SUCCESS in %s: %s", run.root, proof.success or "can be trusted")
    artifacts.publish_table(
        "proof", [{"problem": p} for p in problems] or [{"problem": "none"}], status
    )
    return proof


def _wholes(objects: ExactObjects, run: ScoringRun, shards: list[str]) -> Iterator[Entry]:
    """Yield every object of the frozen run, a large one once; collect the digests of its lists in `shards`."""
    for number in range(run.shards):
        shard = read_shard(objects, run, number)
        shards.append(shard.digest)
        for bundle in shard.bundles:
            yield from (entry for entry in bundle if entry.part == 0)


def _check(item: tuple[ScoringRun, ExactObjects, Entry, bool]) -> tuple[Counts, str, bool]:
    """Return an object's row counts, its problem, and whether its input has changed so that the next run scores it."""
    run, objects, entry, was_overwritten = item
    uri = run.output_uri(entry.key)
    head = objects.head(uri)
    whole = replace(entry, part=0, parts=1)
    if head and is_committed(objects, run, whole, head):
        return Counts.from_metadata(head.metadata), "", False
    if head and is_made_of(run, entry, head):
        return Counts(), f"{rejected_uri(run, whole)}: the rejected rows are missing", False
    if was_overwritten:  # the run itself recorded that
        return Counts(), "", True
    if head is None:
        return Counts(), f"{uri}: there is no output", False
    if is_of_another_version(run, entry, head) and _has_changed(run, objects, entry):
        return Counts(), "", True
    return Counts(), f"{uri}: made with another configuration, or from another input", False


def _has_changed(run: ScoringRun, objects: ExactObjects, entry: Entry) -> bool:
    try:
        objects.require_unchanged(info(run, entry))
    except OverwrittenError:
        return True
    return False
