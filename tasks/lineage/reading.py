"""Read the records of lineage: manifests, versions, moves of the champion, and scoring runs.

Rows and models are not read, except the row names in `rows_named`. A record that cannot be read, such as one of another
version of Nightshift, is reported and does not stop the others.
"""

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError as PydanticError

from tasks.connectors.storage.artifacts import MANIFEST
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectInfo, parse_uri
from tasks.connectors.tracking.model_listing import RegisteredModels
from tasks.connectors.tracking.promotion_log import PromotionLog
from tasks.core.errors import MissingDataError, SettingsError, StoreError, StoreUnavailableError
from tasks.core.lineage.parts import RegisteredVersion, ScoredRun, moment
from tasks.core.lineage.records import LineageRecords
from tasks.core.records import Manifest, Promotion, ScoringMark
from tasks.core.scoring.plan import ScoringRun
from tasks.runtime.clients import exact_objects, prepared_store
from tasks.runtime.settings import read_settings
from tasks.scoring.store.run_store import MANIFEST as RUN_MANIFEST
from tasks.scoring.store.run_store import read_run, read_shard, runs_below

logger = logging.getLogger(__name__)

_REQUESTS = 32  # concurrent requests
_RUNS_WITH_PREDICTIONS = 20  # newest scoring runs per version for which output objects are shown
_SHOWN_PREDICTIONS = 3  # output objects shown per run
_RUN_URI = re.compile(r"s3://.+/model=([^/]+)/version=([^/]+)/_runs/[^/]+")
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_ADVICE = "use the URI that the run's log shows"
_CHECKPOINTS = "checkpoint-"  # checkpoints of unfinished trainings


def read_records() -> LineageRecords:
    """Read everything except scoring runs, of which there are many: `add_runs` reads them.

    Raises:
        SettingsError: no object store or registry is configured.
        StoreError, RegistryError: the store or the registry refuses, or does not answer.
    """
    manifests, unreadable = _manifests()
    return LineageRecords(manifests, unreadable, list(_versions()), list(_moves()))


def _manifests() -> tuple[list[tuple[str, Manifest]], dict[str, str]]:
    prepared = prepared_store()
    root = f"s3://{read_settings().bucket}/prepared/"
    uris = (
        i.uri.removesuffix(f"/{MANIFEST}") for i in prepared.store.scan(root) if _is_manifest(i)
    )
    folders = sorted(f for f in uris if not f.removeprefix(root).startswith(_CHECKPOINTS))

    def read(folder: str) -> tuple[str, Manifest | None, str]:
        try:
            return folder, prepared.read(folder), ""
        except StoreUnavailableError:
            raise
        except StoreError as error:
            return folder, None, error.what

    with ThreadPoolExecutor(_REQUESTS) as pool:
        answers = list(pool.map(read, folders))
    return [(f, m) for f, m, _ in answers if m], {
        f: problem for f, _, problem in answers if problem
    }


def _is_manifest(item: ObjectInfo) -> bool:
    return item.key.endswith(f"/{MANIFEST}")


def _versions() -> Iterator[RegisteredVersion]:
    settings = read_settings()
    if not settings.mlflow_tracking_uri:
        raise SettingsError("No MLflow is configured", "", "set MLFLOW_TRACKING_URI")
    registry = RegisteredModels(settings.mlflow_tracking_uri, settings.experiment)
    for registered, aliases in registry.everything():
        version = registered.version
        yield RegisteredVersion(
            version.name,
            version.version,
            version.model_digest,
            version.run_id,
            registered.tags,
            aliases,
        )


def _moves() -> Iterator[Promotion]:
    log = PromotionLog(exact_objects(), read_settings().bucket)
    for model in log.models():
        try:
            yield from log.moves(model)
        except StoreUnavailableError:
            raise
        except StoreError as error:  # one unreadable record must not hide the others
            logger.warning("A move of %s cannot be read: %s", model, error)
            yield from _readable_moves(log, model)


def _readable_moves(log: PromotionLog, model: str) -> Iterator[Promotion]:
    number = 0
    while True:
        number += 1
        try:
            move = log.read(model, number)
        except StoreUnavailableError:
            raise
        except StoreError:
            continue
        if move is None:
            return
        yield move


def add_runs(records: LineageRecords, model: str, version: str) -> int:
    """Add the scoring runs of a version to the records, newest first, and return their number.

    They are found by marks, each of which names a folder below which the version has written predictions. Predictions
    that are older than marks cannot be found this way.
    """
    objects = exact_objects()
    marks: dict[str, ScoringMark | None] = {}
    for mark in _marks(model, version):
        marks |= dict.fromkeys(runs_below(objects, mark.root)) | {mark.place: mark}
    with ThreadPoolExecutor(_REQUESTS) as pool:
        runs = list(pool.map(lambda run_uri: scored_run(objects, run_uri, marks[run_uri]), marks))
        runs.sort(key=lambda run: moment(run.when) or _EARLIEST, reverse=True)
        newest = list(
            pool.map(lambda run: _with_predictions(objects, run), runs[:_RUNS_WITH_PREDICTIONS])
        )
    for run in [*newest, *runs[_RUNS_WITH_PREDICTIONS:]]:
        records.add_run(run)
    return len(runs)


def add_deleted_versions(records: LineageRecords) -> None:
    """Add versions that were deleted from the registry, if they have scored: one scoring run of each is added."""
    root = f"s3://{read_settings().bucket}/registry/"
    objects = exact_objects()
    first: dict[tuple[str, str], str] = {}
    for item in objects.store.scan(root):
        model, kind, *rest = f"{item.uri.removeprefix(root)}//".split("/")
        if kind == "scored" and f"version {model}/{rest[0]}" not in records.versions:
            first.setdefault((model, rest[0]), item.uri)
    for uri in first.values():
        if mark := _mark(objects, uri):
            records.add_run(scored_run(objects, mark.place, mark))


def _marks(model: str, version: str) -> list[ScoringMark]:
    objects = exact_objects()
    root = f"s3://{read_settings().bucket}/registry/{model}/scored/{version}/"
    uris = [item.uri for item in objects.store.scan(root)]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return [mark for mark in pool.map(lambda uri: _mark(objects, uri), uris) if mark]


def _mark(objects: ExactObjects, uri: str) -> ScoringMark | None:
    content = objects.store.read_bytes(uri)
    try:
        return ScoringMark.model_validate_json(content) if content else None
    except PydanticError:
        logger.warning("Skipping %s, a record of another version of Nightshift", uri)
        return None


def run_at(run_uri: str, required: bool = False) -> ScoredRun:
    """Return the scoring run at a URI. Its time is that of its mark, if it has one.

    Raises:
        MissingDataError: the URI is not that of a scoring run, or `required` is set and nothing is stored about it.
    """
    named = _RUN_URI.fullmatch(run_uri)
    marks = _marks(named[1], named[2]) if named else []
    mark = next((mark for mark in marks if mark.place == run_uri), None)
    run = scored_run(exact_objects(), run_uri, mark)
    if run.missing and required and mark is None:
        raise MissingDataError("There is no scoring run", run_uri, _ADVICE)
    return run


def scored_run(objects: ExactObjects, run_uri: str, mark: ScoringMark | None) -> ScoredRun:
    """Return what is known of a scoring run: from its records, or else from its mark, or else from its URI.

    Raises:
        MissingDataError: the URI is not that of a scoring run.
    """
    named = _RUN_URI.fullmatch(run_uri)
    if not named:
        raise MissingDataError("There is no scoring run", run_uri, _ADVICE)
    run, problem = None, "its records are gone"
    try:
        run = read_run(objects, run_uri)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        problem = error.what
    if run is None:
        when, flow_run = (mark.when, mark.flow_run) if mark else ("", "")
        return ScoredRun(named[1], named[2], "", run_uri, when, flow_run, missing=problem)
    when = mark.when if mark else _manifest_time(objects, run_uri)
    return ScoredRun(
        model=run.model.name,
        version=run.model.version,
        model_digest=run.model.model_digest,
        place=run_uri,
        when=when,
        flow_run=run.flow_run,
        brief=f"{run.objects:,} objects of {run.input}",
        facts=_facts(run, when, bool(mark)),
    )


def _facts(run: ScoringRun, when: str, is_marked: bool) -> dict[str, str]:
    source = "" if is_marked else " (when its manifest was written, by the store's clock)"
    return {
        "planned": f"{when}{source}" if when else "not known",
        "Prefect run": run.flow_run or "none",
        "scoring code": run.code,
        "input of the run": run.input,
        "objects of the run": f"{run.objects:,}; {run.scored_before:,} were scored before",
        "columns": f"text {run.columns.text!r}, id {run.columns.id!r}",
        "model": str(run.model),
        "model digest": run.model.model_digest,
        "MLflow run of the training": run.model.run_id,
    }


def _manifest_time(objects: ExactObjects, run_uri: str) -> str:
    """Return when a run's manifest was written, which happens once, before scoring begins."""
    bucket, key = parse_uri(f"{run_uri}/{RUN_MANIFEST}")
    with objects.store.translate_errors("checking", run_uri):
        head: Any = objects.store.client.head_object(Bucket=bucket, Key=key)
    return head["LastModified"].isoformat()


def _with_predictions(objects: ExactObjects, scored: ScoredRun) -> ScoredRun:
    """Return the run with its first output objects, taken from its first shard."""
    try:
        run = None if scored.missing else read_run(objects, scored.place)
        shard = read_shard(objects, run, 0) if run and run.shards else None
    except StoreUnavailableError:
        raise
    except StoreError:
        return scored
    if run is None or shard is None:
        return scored
    keys = dict.fromkeys(entry.key for bundle in shard.bundles for entry in bundle)
    return replace(
        scored, predictions=[run.output_uri(key) for key in list(keys)[:_SHOWN_PREDICTIONS]]
    )


def rows_named(uri: str, manifest: Manifest, row: str) -> dict[str, int] | None:
    """Count how often a row such as 'train.jsonl row 17' occurs in each file of a prepared folder.

    Only the column of row names is read. Returns None if a file is gone.
    """
    objects = exact_objects()
    counts: dict[str, int] = {}
    for name in ("train", "validation", "test"):
        if f"{name}.parquet" not in manifest.files:
            continue
        file_uri = f"{uri}/{manifest.attempt}/{name}.parquet"
        head = objects.head(file_uri)
        if head is None:
            return None
        item = ObjectInfo(*parse_uri(file_uri), head.size, head.etag)
        with objects.open(item) as stream:
            batches = pq.ParquetFile(stream).iter_batches(columns=["row"])
            counts[name] = sum(batch["row"].to_pylist().count(row) for batch in batches)
    return counts
