"""From the store alone: is a scoring run complete, and where does a prediction come from?"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tasks import reports
from tasks.connect import exact_objects, model_registry
from tasks.connectors.exact_objects import FINGERPRINT, ExactObjects
from tasks.connectors.object_store import ObjectInfo, parse_uri
from tasks.core import formats
from tasks.core.errors import MissingDataError
from tasks.core.overlap import in_order
from tasks.core.records import Record
from tasks.core.score_results import Counts, ObjectResult
from tasks.core.scoring_plan import Entry, ScoringRun
from tasks.score_outputs import RUN
from tasks.score_store import read_result, read_shard, require_run
from tasks.steps import step

logger = logging.getLogger(__name__)

_REQUESTS = 32
_SHOWN = 100
_GOOD = ("scored", "found")


class Proof(Record):
    """What the store holds of a run."""

    place: str
    model: str
    version: str
    objects: int
    proven: int
    rows: int
    complete: bool
    problems: list[str]


class Provenance(Record):
    """Where a prediction comes from, each fact by its name, in the order of the way back."""

    facts: dict[str, str]


@step
def verify_run(place: str) -> Proof:
    """Look at every output that a run should have written: is it there, and made from what the run froze?

    Args:
        place: of the run's records.
    Raises:
        MissingDataError: there is no run.
    """
    objects = exact_objects()
    run = require_run(objects, place)
    proven = rows = 0
    problems: list[str] = []
    with ThreadPoolExecutor(_REQUESTS) as pool:
        wholes = ((run, objects, entry, result) for entry, result in _wholes(objects, run))
        for counts, problem in in_order(pool, _look, wholes, 4 * _REQUESTS):
            proven, rows = proven + (not problem), rows + counts.rows_in
            if problem and len(problems) < _SHOWN:
                problems.append(problem)
    proof = Proof(
        place=run.place,
        model=run.model.name,
        version=run.model.version,
        objects=run.objects,
        proven=proven,
        rows=rows,
        complete=proven == run.objects,
        problems=problems,
    )
    said = "complete" if proof.complete else "NOT COMPLETE"
    logger.info("%s: %s, %s of %s objects, %s rows", place, said, proven, run.objects, f"{rows:,}")
    reports.publish_table(
        "proof", [{"problem": p} for p in problems] or [{"problem": "none"}], said
    )
    return proof


def _wholes(objects: ExactObjects, run: ScoringRun) -> Iterator[tuple[Entry, ObjectResult | None]]:
    """Every object of the frozen run, a large one once, with what is written down of it."""
    for number in range(run.shards):
        entries = [e for bundle in read_shard(objects, run.place, number).bundles for e in bundle]
        done = read_result(objects, run.place, number)
        results: list[ObjectResult | None] = list(done.objects) if done else [None] * len(entries)
        for entry, result in zip(entries, results, strict=True):
            if entry.part == 0:
                yield entry, result


def _look(given: tuple[ScoringRun, ExactObjects, Entry, ObjectResult | None]) -> tuple[Counts, str]:
    """Rows of an object, and what is wrong with it."""
    run, objects, entry, result = given
    uri = run.output_uri(entry.key)
    head = objects.head(uri)
    if result and result.state not in _GOOD:
        return Counts(), f"{run.input_uri(entry.key)}: {result.state} {result.error}".strip()
    if head is None:
        return Counts(), f"{uri}: there is no output"
    if head.metadata.get(FINGERPRINT) != run.fingerprint(entry):
        return (
            Counts(),
            f"{uri}: made from another version of the input, or by another configuration",
        )
    counts = Counts.from_metadata(head.metadata)
    if counts.rows_rejected and objects.head(run.rejected_uri(entry.key)) is None:
        return Counts(), f"{run.rejected_uri(entry.key)}: the rejected rows are not there"
    return counts, ""


@step
def trace_prediction(uri: str, row: int) -> Provenance:
    """The way from a prediction back to the model, its training data and the code.

    Args:
        uri: of an object with predictions.
        row: number of a row in the input; 0: of the object as a whole.
    Raises:
        MissingDataError: no such object, no such row, or nothing that scoring has written.
    """
    objects = exact_objects()
    head = objects.head(uri)
    before, found, behind = uri.partition("/version=")
    if head is None or RUN not in head.metadata or not found:
        raise MissingDataError(
            "Not an object with predictions",
            uri,
            "name one below .../model=<name>/version=<number>/",
        )
    root = before + found + behind.partition("/")[0]
    run = require_run(objects, f"{root}/_runs/{head.metadata[RUN]}")
    facts = {"prediction": uri}
    if row:
        facts |= _row(objects, ObjectInfo(*parse_uri(uri), head.size, head.etag), row)
    counts = Counts.from_metadata(head.metadata)
    facts |= {
        "rows in, scored, rejected": f"{counts.rows_in}, {counts.rows_out}, {counts.rows_rejected}",
        "input version (ETag)": head.metadata.get("input-etag", ""),
        "scoring run": run.place,
        "Prefect run": run.flow_run or "none",
        "scoring code": run.code,
        "columns": f"text {run.columns.text!r}, id {run.columns.id!r}",
        "model": str(run.model),
        "model digest": run.model.model_digest,
        "MLflow run of the training": run.model.run_id,
    }
    provenance = Provenance(facts=facts | _of_model(run))
    rows: list[dict[str, Any]] = [{"what": k, "is": v} for k, v in provenance.facts.items()]
    reports.publish_table("provenance", rows, f"Where {uri} comes from")
    return provenance


def _row(objects: ExactObjects, item: ObjectInfo, row: int) -> dict[str, str]:
    with objects.open(item) as stream:
        for found in formats.decode(item.uri, stream):
            if found.values and int(found.values["row"]) == row:
                shown = ("input", "row", "id", "label", "score")
                return {name: str(found.values[name]) for name in shown}
    raise MissingDataError(
        f"No prediction of row {row}", item.uri, "rows that were not scored are in _rejected/"
    )


def _of_model(run: ScoringRun) -> dict[str, str]:
    tags = model_registry().tags_of(run.model)
    names = {
        "nightshift.base_model": "base model",
        "nightshift.base_revision": "revision of it",
        "nightshift.data_digest": "training data (digest of the split)",
        "nightshift.test_digest": "test set (digest)",
        "nightshift.accuracy": "accuracy on it",
        "nightshift.code": "training code",
        "nightshift.flow_run": "Prefect run of the training",
        "nightshift.params": "parameters of the training",
    }
    return {said: tags[name] for name, said in names.items() if tags.get(name)}
