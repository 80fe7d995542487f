"""The last step of a scoring run: join parts, count everything, and record in the store whether the run is complete."""

import logging
import time
from collections.abc import Iterator
from typing import Any, get_args

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.errors import StoreError
from tasks.core.formats.detection.names import is_hidden
from tasks.core.scoring.plan import Names, ScoringRun
from tasks.core.scoring.results import Counts, ObjectResult, ScoreSummary, State
from tasks.core.scoring.sharding import Entry
from tasks.runtime.clients import exact_objects
from tasks.runtime.steps import step
from tasks.scoring.joining import remove_parts, whole_results
from tasks.scoring.store.commit import failure, is_made_of, rejected_uri, replaced
from tasks.scoring.store.in_work import forget
from tasks.scoring.store.run_store import require_run, result_uri, write_overwritten
from tasks.scoring.store.success_markers import Listing, listing_digest
from tasks.scoring.summary import publish_summary

logger = logging.getLogger(__name__)

_SHOWN = 1_000
_ERRORS = 20


@step
def finish_scoring(run_uri: str, started: float) -> ScoreSummary:
    """Join the parts, count everything, verify it against the store, and write `_SUCCESS` or `_INCOMPLETE`.

    Args:
        run_uri: of the frozen run.
        started: `time.time()` when scoring began.
    Raises:
        StoreError: a shard has no result, or the lists do not hold what the manifest says.
    """
    objects = exact_objects()
    run = require_run(objects, run_uri)
    tally = Tally(run, objects)
    joined: list[Entry] = []
    for number in range(run.shards):
        for result in whole_results(objects, run, number, joined):
            # If the output is gone, delete the shard's result, so that the next attempt scores it again.
            if not tally.add(result):
                objects.store.delete(result_uri(run, number))
    if tally.objects != run.objects:
        raise StoreError(
            f"The shard lists of the run hold {tally.objects:,} objects, but its manifest says {run.objects:,}",
            run.place,
            "start a new run; it skips what is already scored",
        )
    proven = listing_digest(objects, run.root) if joined else tally.listing.digest
    summary = tally.summary(time.time() - started, proven)
    write_overwritten(objects, run, tally.overwritten)
    publish_summary(objects, run, summary, tally.table())
    for entry in joined:
        remove_parts(objects, run, entry)
    forget(objects, run)
    return summary


class Tally:
    """Adds up the outcomes of all objects, and checks that the store still has the outputs.

    A million objects cost 16 MB: for each listed output the hash of its name and ETag is kept.

    Args:
        run: the frozen run.
        objects: the store.
    """

    def __init__(self, run: ScoringRun, objects: ExactObjects) -> None:
        self._run, self._objects = run, objects
        self.listing = Listing()
        self._outputs = Names(_listed(objects, run, self.listing))
        self._counts, self.objects = Counts(), 0
        self._states = dict.fromkeys(get_args(State), 0)
        self._failed: list[ObjectResult] = []
        self._changed: list[ObjectResult] = []
        self._good: list[ObjectResult] = []
        self.overwritten: list[str] = []  # keys, needed to verify the run

    def add(self, result: ObjectResult) -> bool:
        """Count one object. Return False if its result says it is scored but the store does not have it."""
        claimed = result.state in ("scored", "found")
        if claimed:
            result = self._check_output(result)
        good = result.state in ("scored", "found")
        self.objects += 1
        self._counts = self._counts.plus(result.counts)
        self._states[result.state] += 1
        if result.state == "overwritten":
            self.overwritten.append(result.key)
        unfit = self._failed if result.state == "failed" else self._changed
        examples = self._good if good else unfit
        if len(examples) < _SHOWN:
            examples.append(result)
        return good or not claimed

    def _check_output(self, result: ObjectResult) -> ObjectResult:
        """Return the same result, or a failure that says what is wrong with the output."""
        run, entry = self._run, Entry(result.key, result.size, result.etag)
        uri = run.output_uri(result.key)
        rejected = rejected_uri(run, entry)
        if f"{uri}|{result.output_etag}" not in self._outputs:
            head = self._objects.head(uri)
            if head is None:
                what = "An output is not in the store, though it was written"
                return failure(entry, StoreError(what, uri, "run again"))
            if not is_made_of(run, entry, head):
                return failure(entry, replaced(self._objects, run, entry, head))
        missing = result.counts.rows_rejected and rejected not in self._outputs
        # An object that was joined just now is not in the listing.
        if missing and self._objects.head(rejected) is None:
            what = "The rejected rows are not in the store, though they were written"
            return failure(entry, StoreError(what, rejected, "run again"))
        return result

    @property
    def _unfit(self) -> list[ObjectResult]:
        """Objects that failed, followed by those that the next run scores anyway."""
        return self._failed + self._changed

    def summary(self, seconds: float, proven: str) -> ScoreSummary:
        """Return the summary, with the digest of the listing that it was verified against."""
        run, states = self._run, self._states
        return ScoreSummary(
            place=run.place,
            root=run.root,
            model=run.model.name,
            version=run.model.version,
            objects=run.objects,
            scored_before=run.scored_before,
            scored=states["scored"] + states["found"],
            failed=states["failed"],
            overwritten=states["overwritten"],
            counts=self._counts,
            seconds=round(seconds, 2),
            reviews_per_second=round(self._counts.rows_out / max(seconds, 1e-9), 2),
            errors=[_with_name(run.input_uri(r.key), r.error) for r in self._unfit[:_ERRORS]],
            plan_digest=run.plan_digest,
            listing_digest=proven,
        )

    def table(self) -> list[dict[str, Any]]:
        """Return the first thousand objects as a table, failed ones first."""
        return [
            {
                "input": self._run.input_uri(r.key),
                "state": r.state,
                "rows in": r.counts.rows_in,
                "scored": r.counts.rows_out,
                "rejected": r.counts.rows_rejected,
                "error": r.error,
            }
            for r in (self._unfit + self._good)[:_SHOWN]
        ]


def _with_name(uri: str, error: str) -> str:
    """Prefix an object's error with its name, unless the error already names it."""
    return error if uri in error else f"{uri}: {error}"


def _listed(objects: ExactObjects, run: ScoringRun, listing: Listing) -> Iterator[str]:
    """Yield name and ETag of each listed output. Rejects yield only their name, which identifies their content."""
    rejected = f"{run.root}/_rejected/"
    for item in objects.store.scan(f"{run.root}/"):
        key = item.uri.removeprefix(f"{run.root}/")
        listing.add(key, item.etag)
        if item.uri.startswith(rejected):
            yield item.uri
        elif not is_hidden(key):
            yield f"{item.uri}|{item.etag}"
