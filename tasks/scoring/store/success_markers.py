"""Markers that say whether everything below a root of predictions is scored, and when they can be trusted.

    .../_unfinished/<run>.<token>    a plan that is frozen, or about to be; written before it, under a name of its own
    .../_INCOMPLETE                  the run that began last is under way, or something failed
    .../_SUCCESS                     a run came to its end and nothing failed: a `ScoreSummary` with two digests

A reader trusts `_SUCCESS` only if there is no `_INCOMPLETE` and nothing below `_unfinished/`. Each run writes its own
marker there, so no run overwrites another's, and the store need not support conditional writes.

A run that ends without a failure removes its own marker; a failed run leaves it. It also removes the markers of earlier
runs that it has replaced: those that existed when it listed its inputs and that were to score the same input with the
same settings. Several inputs may share a root. A run over one of them says nothing about the others, so their markers
stay until the same input is scored again. A marker of a run that scores everything again (`rescore`) is removed only by
another such run.
"""

import hashlib
import json
import logging
import secrets
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError as PydanticError

from tasks.connectors.storage.conditional_reads import FINGERPRINT, Head
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.digests import canonical_json, digest_of
from tasks.core.formats.detection.names import is_hidden
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.results import ScoreSummary
from tasks.scoring.store.run_store import INCOMPLETE, MANIFEST, SUCCESS, read_run

logger = logging.getLogger(__name__)

_UNFINISHED = "_unfinished"


class Listing:
    """A digest of objects by their names and ETags that does not depend on their order: the sum of their SHA-256."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, key: str, etag: str) -> None:
        """Add an object. The key is relative to the root; hidden objects do not count."""
        if not is_hidden(key):
            self._sum += int.from_bytes(hashlib.sha256(f"{key}\n{etag}".encode()).digest())

    @property
    def digest(self) -> str:
        """The digest as 64 hex digits."""
        return f"{self._sum % (1 << 256):064x}"


def listing_digest(objects: ExactObjects, root: str) -> str:
    """Return the digest of all predictions below a root."""
    listing = Listing()
    for item in objects.store.scan(f"{root}/"):
        listing.add(item.uri.removeprefix(f"{root}/"), item.etag)
    return listing.digest


def unfinished(objects: ExactObjects, root: str) -> list[str]:
    """Return the names of the markers of runs that are under way, failed, or died."""
    folder = f"{root}/{_UNFINISHED}/"
    return sorted(item.uri.removeprefix(folder) for item in objects.store.scan(folder))


def replaced_by(objects: ExactObjects, run: ScoringRun) -> list[str]:
    """Return the names of present markers of runs whose work this run does completely.

    Call this before the run lists its inputs, so that the list includes the inputs of those runs.
    """
    return [mark for mark in unfinished(objects, run.root) if _covers(objects, run, mark)]


def _covers(objects: ExactObjects, run: ScoringRun, mark: str) -> bool:
    """True if a run was to score the same input with the same settings, or died before it had a plan.

    Without a plan nothing was scored: it is as if that run had died before it wrote its marker.
    """
    fields = _read_mark(objects, run.root, mark)
    if fields is None:
        return True
    return fields.get("assignment") == run.assignment and (run.rescore or not fields.get("rescore"))


def _read_mark(objects: ExactObjects, root: str, mark: str) -> dict[str, Any] | None:
    """Return the fields of a run's marker; None if neither the marker nor a plan has any.

    A marker of an earlier version, or one whose upload was torn, has no fields; then those of the run's plan are used.
    A plan that this version cannot read gives no fields, so no run covers it.
    """
    fields = _fields(objects.store.read_bytes(f"{root}/{_UNFINISHED}/{mark}"))
    if "assignment" in fields:
        return fields
    frozen = objects.store.read_bytes(f"{root}/_runs/{_run_of(mark)}/{MANIFEST}")
    try:
        return _mark_fields(ScoringRun.model_validate_json(frozen)) if frozen else None
    except PydanticError:
        return {}


def _mark_fields(run: ScoringRun) -> dict[str, Any]:
    return {
        "under way": run.place,
        "assignment": run.assignment,
        "input": run.input,
        "rescore": run.rescore,
    }


def mark_unfinished(objects: ExactObjects, run: ScoringRun) -> None:
    """Write the markers of a run that is under way. Call this before its plan is frozen."""
    content = canonical_json(_mark_fields(run)).encode()
    objects.store.write_bytes(content, _mark_uri(run, f"{run.run}.{secrets.token_hex(8)}"))
    objects.store.write_bytes(content, f"{run.root}/{INCOMPLETE}")
    objects.store.delete(f"{run.root}/{SUCCESS}")


def mark_finished(objects: ExactObjects, run: ScoringRun, summary: ScoreSummary) -> None:
    """Write the markers of how a run ended, among its records and beside the predictions.

    Beside the predictions, `_SUCCESS` is written only if no run is under way that may have more to score.
    """
    name, other = (SUCCESS, INCOMPLETE) if summary.complete else (INCOMPLETE, SUCCESS)
    content = canonical_json(summary.model_dump()).encode()
    objects.store.delete(f"{run.place}/{other}")
    objects.store.write_bytes(content, f"{run.place}/{name}")
    # Look at _SUCCESS before the markers are listed, so that a later one is not replaced.
    before = objects.head(f"{run.root}/{SUCCESS}")
    marks = unfinished(objects, run.root)
    own = [mark for mark in marks if _run_of(mark) == run.run]
    if run.objects and not own and _is_superseded(objects, run):
        logger.info("A later run has scored all of this, and written _SUCCESS")
    elif summary.complete:
        _write_success(objects, run, content, before, marks, own)
    else:
        objects.store.write_bytes(content, f"{run.root}/{INCOMPLETE}")
        objects.store.delete(f"{run.root}/{SUCCESS}")
        _forget(objects, run, run.supersedes)


def _write_success(
    objects: ExactObjects,
    run: ScoringRun,
    content: bytes,
    before: Head | None,
    marks: list[str],
    own: list[str],
) -> None:
    """Write `_SUCCESS` beside the predictions. If several runs end at once, the last one writes it."""
    uri = f"{run.root}/{SUCCESS}"
    if set(marks) - set(own) - set(run.supersedes):
        _forget(objects, run, [*own, *run.supersedes])
        if unfinished_run := _unfinished_run(objects, run.root):
            logger.warning(
                "All of this run is scored; there is no _SUCCESS yet: %s", unfinished_run
            )
            return
    if is_older_run_under_way(objects, run):
        return
    etag = objects.write(content, uri, {FINGERPRINT: digest_of(json.loads(content))}, before)
    objects.store.delete(f"{run.root}/{INCOMPLETE}")
    _forget(objects, run, [*own, *run.supersedes])
    if etag and unfinished(objects, run.root):  # some readers look for this object alone
        objects.remove(uri, etag)


def why_not_success(objects: ExactObjects, root: str) -> str:
    """Return why `_SUCCESS` beside predictions cannot be trusted, and what to do; '' if it can.

    A `_SUCCESS` from a version without digests is trusted if it exists.
    """
    content = objects.store.read_bytes(f"{root}/{SUCCESS}")
    unfinished_run = _unfinished_run(objects, root)
    if not content:
        return "; ".join(filter(None, ("there is no _SUCCESS", unfinished_run)))
    if objects.head(f"{root}/{INCOMPLETE}"):
        return "; ".join(filter(None, ("there is an _INCOMPLETE beside it", unfinished_run)))
    if unfinished_run:
        return unfinished_run
    try:
        summary = ScoreSummary.model_validate_json(content)
    except PydanticError:
        return "it is of another version of Nightshift"
    frozen = read_run(objects, summary.place) if summary.plan_digest else None
    if frozen and frozen.plan_digest != summary.plan_digest:
        return f"it belongs to another plan than the one in {summary.place}"
    if summary.listing_digest and summary.listing_digest != listing_digest(objects, root):
        return "predictions were written or removed after it"
    return ""


def _unfinished_run(objects: ExactObjects, root: str) -> str:
    """Describe the first unfinished run and how to finish it; '' if there is none."""
    for mark in unfinished(objects, root):
        fields = _read_mark(objects, root, mark) or {}
        source = fields.get("input", "an input that it does not name")
        scope = " and scope rescore" if fields.get("rescore") else ""
        return (
            f"the run {_run_of(mark)} over {source} is under way, failed or died. If it is over, run score again with "
            f"the same input, output and settings{scope} (and allow_empty if the input is empty now). If nobody "
            f"needs that input, remove {root}/{_UNFINISHED}/{mark}; the next run then writes _SUCCESS"
        )
    return ""


def _is_superseded(objects: ExactObjects, run: ScoringRun) -> bool:
    """True if `_SUCCESS` of another run exists and this run's marker is gone: only a newer run removes it."""
    content = objects.store.read_bytes(f"{run.root}/{SUCCESS}")
    return bool(content) and _fields(content).get("place") != run.place


def _fields(mark: bytes | None) -> dict[str, Any]:
    """Return the fields of a marker; none if it is missing or invalid."""
    try:
        fields = json.loads(mark or b"{}")
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def is_older_run_under_way(objects: ExactObjects, run: ScoringRun) -> bool:
    """True while a run of the previous version, which wrote `_INCOMPLETE` only, is under way.

    A marker that does not name the records of a run below this root is ignored. So are those of this version: its runs
    also have a marker of their own.
    """
    fields = _fields(objects.store.read_bytes(f"{run.root}/{INCOMPLETE}"))
    if "assignment" in fields:
        return False
    run_uri = str(fields.get("under way", ""))
    other = run_uri.rpartition("/")[2]
    if other in (run.run, *map(_run_of, run.supersedes)):
        return False
    if not run_uri.startswith(f"{run.root}/_runs/"):
        return False
    return objects.store.read_bytes(f"{run_uri}/{SUCCESS}") is None


def _run_of(mark: str) -> str:
    return mark.rpartition(".")[0]


def _mark_uri(run: ScoringRun, mark: str) -> str:
    return f"{run.root}/{_UNFINISHED}/{mark}"


def _forget(objects: ExactObjects, run: ScoringRun, marks: Collection[str]) -> None:
    for mark in marks:
        objects.store.delete(_mark_uri(run, mark))
