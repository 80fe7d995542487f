"""The first step of a scoring run: list the objects to score, divide them into shards, and store the plan for good."""

import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tasks.connectors.storage.conditional_reads import FINGERPRINT
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import parse_uri
from tasks.core.blame import as_data_error, is_object_error
from tasks.core.digests import canonical_json, digest_of
from tasks.core.errors import (
    MissingDataError,
    SettingsError,
    StoreError,
)
from tasks.core.formats import reading
from tasks.core.formats.base import Span
from tasks.core.formats.detection.content import HEAD_BYTES, detect
from tasks.core.formats.detection.names import is_hidden
from tasks.core.formats.detection.text_encodings import UTF8
from tasks.core.records import ModelVersion, Record
from tasks.core.scoring.params import OutputFormat
from tasks.core.scoring.plan import Columns, Names, ScoringRun
from tasks.core.scoring.prefetch import map_ordered
from tasks.core.scoring.sharding import SHARD_BYTES, Entry, Shard, shards
from tasks.registry.usage_records import mark_scoring
from tasks.runtime.clients import exact_objects
from tasks.runtime.provenance import code_version, flow_run_id
from tasks.runtime.steps import step
from tasks.scoring.input_checks import look_at_samples, refuse_reserved, refuse_shared_outputs
from tasks.scoring.store.commit import is_committed
from tasks.scoring.store.in_work import InWork
from tasks.scoring.store.run_store import MANIFEST, info, read_run, shard_uri
from tasks.scoring.store.success_markers import mark_unfinished, replaced_by

logger = logging.getLogger(__name__)

_REQUESTS = 32  # concurrent
_WRITES = 4


class RunReference(Record):
    """A reference to a run whose plan is stored: its URI and its size."""

    place: str
    shards: int
    objects: int
    bytes: int
    scored_before: int


@step
def plan_scoring(draft: ScoringRun) -> RunReference:
    """Plan a run and store the plan. A run that was planned before (it died and was started again) keeps its plan.

    Args:
        draft: the run, without its counts.
    Raises:
        MissingDataError: there is no object to score, or no sampled object has the text column.
        SettingsError: output and input overlap, or a kept column has the name of a prediction column.
        StoreError: the store does not return the plan that was written to it.
    """
    started = time.perf_counter()
    objects = exact_objects()
    mark_scoring(draft)  # also for an older run that is resumed
    if frozen := read_run(objects, draft.place):
        logger.info("Resuming a run that was planned before: %s", draft.place)
        return _store_plan(objects, frozen, started)
    # Before the inputs are listed, so that the list includes everything the replaced runs had to score.
    replaced = replaced_by(objects, draft)
    entries = _inputs(objects, draft)
    refuse_reserved(draft.columns)
    refuse_shared_outputs(draft, entries)
    in_work = InWork(objects, draft, "plan")
    if entries:
        look_at_samples(objects, draft, entries, in_work)
    remaining = entries if draft.rescore else list(_not_yet_scored(objects, draft, entries))

    draft = draft.model_copy(update={"plan": secrets.token_hex(4)})

    def write(shard: Shard) -> str:
        objects.store.write_bytes(shard.to_json(), shard_uri(draft, shard.number))
        return shard.digest

    with ThreadPoolExecutor(_WRITES) as pool:
        parts = _in_parts(objects, draft, remaining, in_work)
        digests = list(map_ordered(pool, write, shards(parts), 2 * _WRITES))
    counts = {
        "objects": len(remaining),
        "bytes": sum(entry.size for entry in remaining),
        "shards": len(digests),
        "scored_before": len(entries) - len(remaining),
        "plan_digest": digest_of({"shards": digests}),
        "supersedes": replaced,
    }
    return _store_plan(objects, draft.model_copy(update=counts), started)


def draft_run(
    model: ModelVersion,
    source: str,
    output: str,
    columns: Columns,
    encoding: str,
    output_format: OutputFormat,
    precision: str,
    engine: str,
    csv_formula_guard: bool,
    max_rejected_fraction: float,
    rescore: bool,
    allow_empty: bool,
) -> ScoringRun:
    """Build a run whose inputs are not yet known. A retried flow run gets the same run."""
    flow_run = flow_run_id()
    return ScoringRun(
        run=flow_run or secrets.token_hex(8),
        input=source,
        output=output,
        model=model,
        columns=columns,
        encoding=encoding,
        output_format=output_format,
        precision=precision,
        engine=engine,
        csv_formula_guard=csv_formula_guard,
        max_rejected_share=max_rejected_fraction,
        rescore=rescore,
        allow_empty=allow_empty,
        objects=0,
        bytes=0,
        shards=0,
        scored_before=0,
        code=code_version(),
        flow_run=flow_run,
    )


def _store_plan(objects: ExactObjects, run: ScoringRun, started: float) -> RunReference:
    if run.objects:  # the predictions there are incomplete until this run ends
        mark_unfinished(objects, run)
    run = _freeze(objects, run)
    logger.info(
        "Planned %s objects, %.1f MB, in %s shards, in %.1f s; %s more were scored before -> %s",
        f"{run.objects:,}",
        run.bytes / 1e6,
        run.shards,
        time.perf_counter() - started,
        f"{run.scored_before:,}",
        run.place,
    )
    return RunReference(
        place=run.place,
        shards=run.shards,
        objects=run.objects,
        bytes=run.bytes,
        scored_before=run.scored_before,
    )


def _freeze(objects: ExactObjects, run: ScoringRun) -> ScoringRun:
    """Write the manifest unless a complete one exists, and return the stored one."""
    uri = f"{run.place}/{MANIFEST}"
    content = canonical_json(run.model_dump()).encode()
    metadata = {FINGERPRINT: digest_of(run.model_dump())}
    head = objects.head(uri)
    incomplete = head if head and not head.whole else None
    objects.write(content, uri, metadata, before=incomplete)
    frozen = read_run(objects, run.place)
    if frozen is None:
        raise StoreError("The store does not return what was written to it", run.place)
    return frozen


def _inputs(objects: ExactObjects, run: ScoringRun) -> list[Entry]:
    prefix = parse_uri(run.input, "input")[1]
    folder = parse_uri(run.input_prefix)[1]
    parse_uri(run.output, "output")
    if (run.root + "/").startswith(run.input_prefix) or run.input_prefix.startswith(run.root + "/"):
        raise SettingsError(
            f"The output {run.root} and the input {run.input} overlap: predictions could replace reviews, and the next "
            "run would score them",
            "output",
            "choose a prefix outside the input",
        )
    entries: list[Entry] = []
    for item in sorted(objects.store.scan(run.input)):
        key = "" if item.key == prefix else item.key.removeprefix(folder)
        if not is_hidden(key):
            entries.append(Entry(key, item.size, item.etag))
    if not entries and not run.allow_empty:
        raise MissingDataError(
            "No object there, or only hidden ones (their names begin with _ or .)",
            run.input,
            "check the prefix; if it may be empty, set allow_empty",
        )
    return entries


def _not_yet_scored(
    objects: ExactObjects, run: ScoringRun, entries: list[Entry]
) -> Iterator[Entry]:
    """Yield the entries that this version has not scored, as they are now and with these settings."""
    outputs = Names(item.uri for item in objects.store.scan(run.root))

    def is_scored(entry: Entry) -> bool:
        try:
            return is_committed(objects, run, entry, objects.head(run.output_uri(entry.key)))
        except BaseException as error:  # the output was written by another program
            if not is_object_error(error):
                raise
            return False

    candidates = [
        entry for entry in entries if len(outputs) and run.output_uri(entry.key) in outputs
    ]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        checked = map_ordered(pool, is_scored, candidates, 4 * _REQUESTS)
        scored = {entry.key for entry, done in zip(candidates, checked, strict=True) if done}
    yield from (entry for entry in entries if entry.key not in scored)


def _in_parts(
    objects: ExactObjects, run: ScoringRun, entries: Iterable[Entry], in_work: InWork
) -> Iterator[Entry]:
    """Yield the entries, large ones cut into parts at record boundaries. One that cannot be cut stays whole."""
    for entry in entries:
        parts: list[Span] = []
        if entry.size > SHARD_BYTES and not in_work.fatal(entry):
            with in_work.alone(entry):
                parts = _spans(objects, run, entry)
        if len(parts) < 2:
            yield entry
        for number, span in enumerate(parts):
            if len(parts) > 1:
                yield Entry(entry.key, entry.size, entry.etag, number, len(parts), span)


def _spans(objects: ExactObjects, run: ScoringRun, entry: Entry) -> list[Span]:
    uri = run.input_uri(entry.key)
    try:
        with objects.open(info(run, entry)) as stream:
            kind = detect(uri, stream.read(HEAD_BYTES), run.encoding)
            if kind.compression or kind.encoding != UTF8:
                # To find its first record, each part would have to decode everything before it.
                return []
            stream.seek(0)
            return reading.cut(uri, stream, SHARD_BYTES, run.encoding)
    except BaseException as error:
        if not is_object_error(error):
            raise
        logger.warning(
            "%s is scored whole, as it cannot be cut into parts: %s",
            uri,
            as_data_error(error, uri).what,
        )
        return []
