"""Usage records: marks that a version has scored.

Retention checks them before it deletes a version, and forward lineage follows them.

    s3://<bucket>/registry/<model>/scored/<version>/<digest of the root>.json    a `ScoringMark`, written once

A mark is written before anything is scored, so no predictions exist without one. It says where to look; the store
says whether predictions still exist there.
"""

from datetime import UTC, datetime

from pydantic import ValidationError as PydanticError

from tasks.connectors.storage.object_store import ObjectStore
from tasks.core.digests import canonical_json, digest_of
from tasks.core.errors import MissingDataError, StoreError
from tasks.core.records import ScoringMark
from tasks.core.scoring.plan import ScoringRun
from tasks.runtime.clients import object_store
from tasks.runtime.settings import read_settings


def mark_scoring(run: ScoringRun) -> None:
    """Record that a version is about to score below a root. Does nothing if that is already recorded."""
    store = object_store()
    uri = f"{_marks(run.model.name, run.model.version)}{digest_of({'root': run.root})}.json"
    if store.read_bytes(uri):
        return
    mark = ScoringMark(
        model=run.model.name,
        version=run.model.version,
        root=run.root,
        place=run.place,
        when=datetime.now(UTC).isoformat(timespec="milliseconds"),
        flow_run=run.flow_run,
    )
    store.write_bytes(canonical_json(mark.model_dump()).encode(), uri)


def marks_of(model: str) -> list[ScoringMark]:
    """Return the scoring marks of a model's versions, the latest first. Marks that cannot be parsed are skipped."""
    store, marks = object_store(), list[ScoringMark]()
    for item in store.scan(f"s3://{read_settings().bucket}/registry/{model}/scored/"):
        try:
            marks.append(ScoringMark.model_validate_json(store.read_bytes(item.uri) or b""))
        except PydanticError:
            continue
    return sorted(marks, key=lambda mark: (mark.when, mark.root), reverse=True)


def marked_predictions(model: str, version: str) -> str:
    """Return a location that still holds predictions of a version, according to its scoring marks, or ''.

    A mark or location that cannot be read or listed counts as holding predictions.
    """
    store = object_store()
    for item in store.scan(_marks(model, version)):
        try:
            root = ScoringMark.model_validate_json(store.read_bytes(item.uri) or b"").root
        except PydanticError:
            return f"{item.uri}, which cannot be read"
        if location := _location_in_use(store, root):
            return location
    return ""


def predictions_below(prefix: str, model: str, version: str) -> str:
    """Return the location of a version's predictions below an output prefix of scoring, or ''.

    Raises:
        MissingDataError: no such bucket.
        StoreError: it cannot be listed.
    """
    root = f"{prefix.rstrip('/')}/model={model}/version={version}"
    return root if _holds_anything(object_store(), root) else ""


def _marks(model: str, version: str) -> str:
    return f"s3://{read_settings().bucket}/registry/{model}/scored/{version}/"


def _location_in_use(store: ObjectStore, root: str) -> str:
    try:
        return root if _holds_anything(store, root) else ""
    except (StoreError, MissingDataError) as error:
        return f"{root}, which cannot be listed ({error.what})"


def _holds_anything(store: ObjectStore, root: str) -> bool:
    return next(store.scan(f"{root}/"), None) is not None
