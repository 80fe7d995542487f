"""Locations of a scoring run's records in the object store, and functions that read them."""

import json
from typing import Any

from pydantic import ValidationError as PydanticError

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import ObjectInfo, parse_uri
from tasks.core.digests import canonical_json
from tasks.core.errors import MissingDataError, StoreError
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.results import ShardResult
from tasks.core.scoring.sharding import Entry, Shard

MANIFEST, SUCCESS, INCOMPLETE = "manifest.json", "_SUCCESS", "_INCOMPLETE"


def read_run(objects: ExactObjects, run_uri: str) -> ScoringRun | None:
    """Return the frozen run at a URI; None if there is none.

    Raises:
        StoreError: the manifest is of another version of the code, or names another URI for its outputs.
    """
    content = objects.store.read_bytes(f"{run_uri}/{MANIFEST}")
    if not content:  # or empty: the process died while writing it
        return None
    try:
        run = ScoringRun.model_validate_json(content)
    except PydanticError as error:
        raise StoreError(
            f"The manifest has another format: {error.error_count()} fields differ",
            f"{run_uri}/{MANIFEST}",
            "start a new run; it skips what is already scored",
        ) from error
    if run.place != run_uri:
        raise StoreError(
            "The manifest is that of another run",
            f"{run_uri}/{MANIFEST}",
            "start a new run; if nobody has moved the records, find out who writes there",
        )
    return run


def require_run(objects: ExactObjects, run_uri: str) -> ScoringRun:
    """Return the frozen run at a URI. Raises MissingDataError if there is none."""
    run = read_run(objects, run_uri.rstrip("/"))
    if run is None:
        raise MissingDataError("There is no scoring run", run_uri, "use the URI in the run's log")
    return run


def shard_uri(run: ScoringRun, number: int) -> str:
    """Return the URI of a shard's list."""
    return f"{run.place}/plans/{run.plan}/shards/{number:06}.json"


def read_shard(objects: ExactObjects, run: ScoringRun, number: int) -> Shard:
    """Read a shard of a frozen run. Raises StoreError if it is gone."""
    content = objects.store.read_bytes(shard_uri(run, number))
    if content is None:
        raise StoreError(
            "A shard list of the run is gone", shard_uri(run, number), "start a new run"
        )
    return Shard.from_json(content)


def results_prefix(run: ScoringRun) -> str:
    """Return the URI prefix of the results of finished shards."""
    return f"{run.place}/plans/{run.plan}/results/"


def result_uri(run: ScoringRun, number: int) -> str:
    """Return the URI of a shard's result."""
    return f"{results_prefix(run)}{number:06}.json"


def result_number(uri: str) -> int:
    """Return the number of the shard that a result belongs to."""
    return int(uri.rpartition("/")[2].removesuffix(".json"))


def read_result(objects: ExactObjects, run: ScoringRun, number: int) -> ShardResult | None:
    """Return the outcome of a shard; None while it is unknown."""
    content = objects.store.read_bytes(result_uri(run, number))
    return ShardResult.model_validate_json(content) if content else None


def write_overwritten(objects: ExactObjects, run: ScoringRun, keys: list[str]) -> None:
    """Record which inputs were overwritten or removed before they were scored: the run need not score them."""
    objects.store.write_bytes(canonical_json(keys).encode(), _overwritten_uri(run))


def read_overwritten(objects: ExactObjects, run: ScoringRun) -> set[str]:
    """Read the keys from `write_overwritten`; empty while the run has not finished."""
    return set(json.loads(objects.store.read_bytes(_overwritten_uri(run)) or b"[]"))


def _overwritten_uri(run: ScoringRun) -> str:
    return f"{run.place}/overwritten.json"


def info(run: ScoringRun, entry: Entry) -> ObjectInfo:
    """Return the object of an entry, as it was listed."""
    bucket, key = parse_uri(run.input_uri(entry.key))
    return ObjectInfo(bucket, key, entry.size, entry.etag)


def runs_below(objects: ExactObjects, root: str) -> list[str]:
    """Return the URIs of the runs below a root, from their folder names, without listing the contents."""
    bucket, prefix = parse_uri(f"{root}/_runs/")
    with objects.store.translate_errors("listing", root):
        pages: Any = objects.store.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, Delimiter="/"
        )
        folders = [f["Prefix"] for page in pages for f in page.get("CommonPrefixes", ())]
    return [f"s3://{bucket}/{folder.rstrip('/')}" for folder in folders]
