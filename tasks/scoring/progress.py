"""How far a scoring run is whose shards others score: the results that they leave in the store tell."""

import logging

from tasks.core.errors import StoreError
from tasks.core.scoring.plan import ScoringRun
from tasks.runtime.clients import exact_objects
from tasks.runtime.reporting.progress import Pace
from tasks.scoring.store.run_store import read_result, require_run, result_number, results_prefix

logger = logging.getLogger(__name__)


class Watch:
    """Looks for new results, and tells a pace.

    Args:
        place: of the frozen run.
        pace: of its bytes.
    """

    def __init__(self, place: str, pace: Pace) -> None:
        self._objects, self._place = exact_objects(), place
        self._run: ScoringRun | None = None
        self._pace, self._seen = pace, set[str]()

    def look(self) -> None:
        """Count what is new: at first what an earlier run of it has left. A store that is away stops nobody here."""
        try:
            worked = self._run is not None
            run = self._run or require_run(self._objects, self._place)
            for uri in self._new(run):
                self._count(run, uri, worked)
            self._run = run
        except StoreError as error:
            logger.warning("Progress is not known: %s", error)

    def _new(self, run: ScoringRun) -> list[str]:
        found = {item.uri for item in self._objects.store.scan(results_prefix(run))}
        return sorted(found - self._seen)

    def _count(self, run: ScoringRun, uri: str, worked: bool) -> None:
        self._seen.add(uri)
        result = read_result(self._objects, run, result_number(uri))
        if result is None:
            return
        size = sum(o.bytes for o in result.objects)
        if worked:
            self._pace.add(sum(o.counts.rows_in for o in result.objects), size)
        else:
            self._pace.skip(size)
