"""Progress of a scoring run, from the results that its shards leave in the store; and progress of one shard."""

import logging
from collections.abc import Iterator
from typing import IO

from tasks.core.errors import StoreError
from tasks.core.formats.base import Row
from tasks.core.records import Record
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.predict import End, Result
from tasks.core.scoring.results import ShardResult
from tasks.core.scoring.sharding import Entry
from tasks.runtime.clients import exact_objects
from tasks.runtime.reporting.progress import ProgressMeter, ReadAheadMeter
from tasks.scoring.store.run_store import (
    read_result,
    require_run,
    result_number,
    results_prefix,
)

logger = logging.getLogger(__name__)


class Watch:
    """Polls the store for new results, and reports progress.

    Args:
        run_uri: of the frozen run.
        meter: progress in bytes.
    """

    def __init__(self, run_uri: str, meter: ProgressMeter) -> None:
        self._objects, self._run_uri = exact_objects(), run_uri
        self._run: ScoringRun | None = None
        self._meter, self._seen = meter, set[str]()

    def look(self) -> None:
        """Count new results, at first also those of an earlier attempt. If the store is unreachable, only log it."""
        try:
            worked = self._run is not None
            run = self._run or require_run(self._objects, self._run_uri)
            for uri in self._new(run):
                self._count(run, uri, worked)
            self._run = run
        except StoreError as error:
            logger.warning("Progress is unknown: %s", error)

    def _new(self, run: ScoringRun) -> list[str]:
        uris = {item.uri for item in self._objects.store.scan(results_prefix(run))}
        return sorted(uris - self._seen)

    def _count(self, run: ScoringRun, uri: str, worked: bool) -> None:
        self._seen.add(uri)
        result = read_result(self._objects, run, result_number(uri))
        if result is None:
            return
        size = sum(o.bytes for o in result.objects)
        if worked:
            self._meter.add(sum(o.counts.rows_in for o in result.objects), size)
        else:
            self._meter.skip(size)


def count_passed(items: Iterator[Result], read_ahead: ReadAheadMeter) -> Iterator[Result]:
    """Pass results on, and count the rows among them."""
    for item in items:
        if not isinstance(item, End):
            read_ahead.passed()
        yield item


def fraction_read(entry: Entry, stream: IO[bytes], row: Row) -> float:
    """Return the fraction of an object read up to a row: by rows if their number is known, else by bytes."""
    if entry.span and entry.span.rows:
        return (row.number - entry.span.first_row + 1) / entry.span.rows
    return row.number / row.of if row.of else stream.tell() / entry.size


class ShardDone(Record):
    """The facts about a finished shard that other steps need."""

    number: int
    rows: int
    failed: int


def shard_done(done: ShardResult, shards: int) -> ShardDone:
    """Log the result of a shard, and summarize it for other steps."""
    rows = sum(o.counts.rows_in for o in done.objects)
    failed = sum(o.state == "failed" for o in done.objects)
    logger.info(
        "Shard %s of %s: %s objects, %s rows in %.1f s, %.1f rows/s%s",
        done.number + 1,
        shards,
        len(done.objects),
        f"{rows:,}",
        done.seconds,
        rows / max(done.seconds, 1e-9),
        f"; {failed} objects FAILED" if failed else "",
    )
    return ShardDone(number=done.number, rows=rows, failed=failed)
