"""Marks that say whether all below a root of predictions is scored, and when they may be believed.

    .../_unfinished/<run>.<token>    a plan that is frozen, or about to be; written before it, under a name of its own
    .../_INCOMPLETE                  the run that began last is under way, or something failed
    .../_SUCCESS                     a run came to its end and nothing failed: a `ScoreSummary` with two digests

A reader takes `_SUCCESS` only where there is no `_INCOMPLETE` and nothing below `_unfinished/`. Only the names below
`_unfinished/` are relied on: nobody else ever writes there, so no two runs undo each other's, and no condition of the
store is needed. A run that comes to its end removes its own (unless something failed: then it stays), and those that it
saw before it listed its inputs: it has scored all that they were to score. A run whose process died is so superseded by
the next one.
"""

import hashlib
import json
import logging
import secrets
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError as PydanticError

from tasks.connectors.exact_objects import ExactObjects
from tasks.connectors.exact_reads import FINGERPRINT, Head
from tasks.core import formats
from tasks.core.digests import canonical_json, digest_of
from tasks.core.score_results import ScoreSummary
from tasks.core.scoring_plan import ScoringRun
from tasks.score_store import INCOMPLETE, SUCCESS, read_run

logger = logging.getLogger(__name__)

_UNFINISHED = "_unfinished"


class Listing:
    """Digest of objects by their names and ETags, in whichever order they come: the sum of their SHA-256."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, key: str, etag: str) -> None:
        """Count an object in. The key is the one below the root; hidden ones do not count."""
        if not formats.is_hidden(key):
            self._sum += int.from_bytes(hashlib.sha256(f"{key}\n{etag}".encode()).digest())

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return f"{self._sum % (1 << 256):064x}"


def listing_digest(objects: ExactObjects, root: str) -> str:
    """Digest of all predictions below a root."""
    listing = Listing()
    for item in objects.store.scan(f"{root}/"):
        listing.add(item.uri.removeprefix(f"{root}/"), item.etag)
    return listing.digest


def unfinished(objects: ExactObjects, root: str) -> list[str]:
    """Names of the marks of runs that are under way, failed, or died."""
    folder = f"{root}/{_UNFINISHED}/"
    return sorted(item.uri.removeprefix(folder) for item in objects.store.scan(folder))


def mark_unfinished(objects: ExactObjects, run: ScoringRun) -> None:
    """Say beside the predictions that a run is under way. Before its plan is frozen."""
    said = canonical_json({"under way": run.place}).encode()
    objects.store.write_bytes(said, _mark_uri(run, f"{run.run}.{secrets.token_hex(8)}"))
    objects.store.write_bytes(said, f"{run.root}/{INCOMPLETE}")
    objects.store.delete(f"{run.root}/{SUCCESS}")


def mark_finished(objects: ExactObjects, run: ScoringRun, summary: ScoreSummary) -> None:
    """Say among the records of a run, and beside the predictions, how it ended.

    Beside the predictions success is said only if no run is under way that may have more to score.
    """
    name, other = (SUCCESS, INCOMPLETE) if summary.complete else (INCOMPLETE, SUCCESS)
    content = canonical_json(summary.model_dump()).encode()
    objects.store.delete(f"{run.place}/{other}")
    objects.store.write_bytes(content, f"{run.place}/{name}")
    before = objects.head(
        f"{run.root}/{SUCCESS}"
    )  # before the marks: none replaces what came after
    marks = unfinished(objects, run.root)
    own = [mark for mark in marks if _run_of(mark) == run.run]
    if run.objects and not own and _is_superseded(objects, run):
        logger.info("A run that began later has scored all of this, and said so")
    elif summary.complete:
        _say_success(objects, run, content, before, marks, own)
    else:
        objects.store.write_bytes(content, f"{run.root}/{INCOMPLETE}")
        objects.store.delete(f"{run.root}/{SUCCESS}")
        _forget(objects, run, run.supersedes)


def _say_success(
    objects: ExactObjects,
    run: ScoringRun,
    content: bytes,
    before: Head | None,
    marks: list[str],
    own: list[str],
) -> None:
    """Write `_SUCCESS` beside the predictions; of several runs that end at one moment, the last one does."""
    place = f"{run.root}/{SUCCESS}"
    if set(marks) - set(own) - set(run.supersedes):
        _forget(objects, run, [*own, *run.supersedes])
        if unfinished(objects, run.root):
            return
    if is_older_run_under_way(objects, run):
        return
    etag = objects.write(content, place, {FINGERPRINT: digest_of(json.loads(content))}, before)
    objects.store.delete(f"{run.root}/{INCOMPLETE}")
    _forget(objects, run, [*own, *run.supersedes])
    if etag and unfinished(objects, run.root):  # for readers who look for this object alone
        objects.remove(place, etag)


def why_not_success(objects: ExactObjects, root: str) -> str:
    """Why `_SUCCESS` beside predictions may not be taken; '' where it may.

    `_SUCCESS` of a version that knew no digests is taken by its being there alone.
    """
    content = objects.store.read_bytes(f"{root}/{SUCCESS}")
    if not content:
        return "there is no _SUCCESS"
    if objects.head(f"{root}/{INCOMPLETE}"):
        return "there is an _INCOMPLETE beside it"
    if marks := unfinished(objects, root):
        return f"a run is under way, failed or died, and none has come to its end since: {_run_of(marks[0])}"
    try:
        said = ScoreSummary.model_validate_json(content)
    except PydanticError:
        return "it is of another version of Nightshift"
    frozen = read_run(objects, said.place) if said.plan_digest else None
    if frozen and frozen.plan_digest != said.plan_digest:
        return f"it is not of the plan that is frozen in {said.place}"
    if said.listing_digest and said.listing_digest != listing_digest(objects, root):
        return "predictions were written or removed after it"
    return ""


def _is_superseded(objects: ExactObjects, run: ScoringRun) -> bool:
    """Whether `_SUCCESS` of another run stands, where this run's mark is gone: only a newer run takes it away."""
    said = objects.store.read_bytes(f"{run.root}/{SUCCESS}")
    return bool(said) and _fields(said).get("place") != run.place


def _fields(mark: bytes | None) -> dict[str, Any]:
    """What a mark says; nothing where there is none, or where somebody has spoilt it."""
    try:
        said = json.loads(mark or b"{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def is_older_run_under_way(objects: ExactObjects, run: ScoringRun) -> bool:
    """True while a run of the version before, which knew one mark only, says that it is under way.

    A mark that leads anywhere but to the records of a run below this root is nobody's.
    """
    said = _fields(objects.store.read_bytes(f"{run.root}/{INCOMPLETE}"))
    place = str(said.get("under way", ""))
    other = place.rpartition("/")[2]
    if other in (run.run, *map(_run_of, run.supersedes)):
        return False
    if not place.startswith(f"{run.root}/_runs/"):
        return False
    return objects.store.read_bytes(f"{place}/{SUCCESS}") is None


def _run_of(mark: str) -> str:
    return mark.rpartition(".")[0]


def _mark_uri(run: ScoringRun, mark: str) -> str:
    return f"{run.root}/{_UNFINISHED}/{mark}"


def _forget(objects: ExactObjects, run: ScoringRun, marks: Collection[str]) -> None:
    for mark in marks:
        objects.store.delete(_mark_uri(run, mark))
