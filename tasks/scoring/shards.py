"""Score one shard of a scoring run: read, score and write its objects concurrently, each completely or not at all."""

import functools
import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.connectors.storage.conditional_reads import Head
from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.blame import as_data_error, is_object_error
from tasks.core.digests import canonical_json
from tasks.core.engines import registry
from tasks.core.engines.protocol import Engine, EngineOptions
from tasks.core.errors import UnreadableDataError
from tasks.core.formats import reading
from tasks.core.formats.columns import with_columns
from tasks.core.models import classifier as modeling
from tasks.core.records import ModelVersion
from tasks.core.scoring import predict
from tasks.core.scoring.params import EngineParams
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.predict import End, Review
from tasks.core.scoring.prefetch import map_ordered
from tasks.core.scoring.results import Counts, ObjectResult, ShardResult
from tasks.core.scoring.sharding import Entry
from tasks.runtime.clients import exact_objects, model_registry
from tasks.runtime.reporting.progress import ReadAheadMeter, current_meter
from tasks.runtime.steps import step, work_folder
from tasks.scoring.progress import ShardDone, count_passed, fraction_read, shard_done
from tasks.scoring.store.commit import (
    RUN,
    commit,
    failure,
    foreign,
    is_committed,
    result_of,
    target_uri,
)
from tasks.scoring.store.in_work import InWork
from tasks.scoring.store.outputs import Output
from tasks.scoring.store.run_store import info, read_result, read_shard, require_run, result_uri

logger = logging.getLogger(__name__)

_REQUESTS = 8  # readers, and as many writers
_WRITES_WAITING = 32


@step
def score_shard(run_uri: str, number: int, params: EngineParams) -> ShardDone:
    """Score what is left of a shard, and record the outcome of each object.

    Raises:
        SettingsError: the engine that the run is pinned to is not installed here.
    """
    objects = exact_objects()
    run = require_run(objects, run_uri)
    done = read_result(objects, run, number)
    # Failed objects are tried again.
    if done is None or any(o.state == "failed" for o in done.objects):
        params = params.model_copy(update={"precision": run.precision, "engine": run.engine})
        started = time.perf_counter()
        classifier, engine = _loaded(run.model, params)  # pyright: ignore[reportArgumentType] - frozen, so hashable
        with (
            current_meter("reviews", run.bytes).or_undone(),  # a repeated step counts once
            work_folder("scored") as folder,
            ThreadPoolExecutor(2 * _REQUESTS) as pool,
        ):
            work = ShardWork(objects, run, pool, folder)
            results = work.score(number, classifier, engine, params.window_reviews)
        done = ShardResult(
            number=number, objects=results, seconds=round(time.perf_counter() - started, 2)
        )
        content = canonical_json(done.model_dump()).encode()
        objects.store.write_bytes(content, result_uri(run, number))
    else:
        current_meter("reviews", run.bytes).skip(sum(o.bytes for o in done.objects))
    return shard_done(done, run.shards)


@functools.lru_cache(maxsize=1)
def _loaded(version: ModelVersion, params: EngineParams) -> tuple[modeling.Classifier, Engine]:
    """Load the model; cached, so that a process loads it once for all shards of a run."""
    registry.require(params.engine)  # fail before the model is downloaded
    options = EngineOptions(params.device, params.precision, params.batch_tokens)
    with work_folder("version") as folder:
        model = model_registry().download(version, folder)
        classifier = modeling.load(model)
        return classifier, registry.open_engine(params.engine, classifier, model, options)


class ShardWork:
    """Scores the objects of a shard. A failing object does not affect the others.

    Args:
        objects: the store.
        run: the scoring run that the shard belongs to.
        pool: threads for requests to the store, which mostly wait.
        folder: holds outputs until they are uploaded.
    """

    def __init__(
        self, objects: ExactObjects, run: ScoringRun, pool: ThreadPoolExecutor, folder: Path
    ) -> None:
        self._objects, self._run, self._pool, self._folder = objects, run, pool, folder

    def score(
        self, number: int, classifier: modeling.Classifier, engine: Engine, window_reviews: int
    ) -> list[ObjectResult]:
        """Return the outcome of each object, in the order of the shard.

        Objects that killed a process are scored last, one at a time.

        Args:
            number: number of the shard.
            classifier: the tokenization the model was trained with, and its class costs.
            engine: computes the logits.
            window_reviews: reviews planned together.
        """
        shard = read_shard(self._objects, self._run, number)
        entries = [entry for bundle in shard.bundles for entry in bundle]
        self._in_work = InWork(self._objects, self._run, number)
        lookups = map_ordered(self._pool, self._look_up, entries, 4 * _REQUESTS)
        heads, results = dict[Entry, Head | None](), dict[Entry, ObjectResult]()
        for entry, (head, result) in zip(entries, lookups, strict=True):
            heads[entry] = head
            if result:
                results[entry] = result
        suspects = {e: None for e in entries if e not in results and self._in_work.is_suspect(e)}
        without_suspects = [[e for e in bundle if e not in suspects] for bundle in shard.bundles]
        remaining = [b for b in without_suspects if any(entry not in results for entry in b)]
        work = _Work(classifier, engine, window_reviews, heads, results)
        meter = current_meter("reviews", sum(entry.bytes for entry in entries))
        to_read = {*suspects, *(entry for bundle in remaining for entry in bundle)}
        meter.skip(sum(entry.bytes for entry in entries if entry not in to_read))
        with self._in_work.recorded():
            for bundles in (remaining, *([[entry]] for entry in suspects)):
                self._score_bundles(bundles, work, ReadAheadMeter(meter))
        return [results[entry] for entry in entries]

    def _score_bundles(
        self, bundles: list[list[Entry]], work: "_Work", read_ahead: ReadAheadMeter
    ) -> None:
        """Score these bundles to their end, and add the outcomes of their objects to the results."""
        entries = (entry for bundle in bundles for entry in bundle)
        opened = functools.partial(self._open, results=dict(work.results))
        streams = map_ordered(self._pool, opened, entries, _REQUESTS)
        items = (self._items(bundle, streams, read_ahead) for bundle in bundles)
        model, window = work.classifier, work.window_reviews
        results = predict.score(items, model.encoder, work.engine, window, model.class_costs)
        scored = count_passed(results, read_ahead)
        writes: dict[Entry, Future[ObjectResult]] = {}
        for index, entry in enumerate(entry for bundle in bundles for entry in bundle):
            path = self._folder / f"{index:06}"
            output = Output(self._run, entry, path, work.engine.label_names)
            # Objects with a known result are encoded too, because the reviews of a bundle share batches.
            output.encode(scored)
            if entry in work.results:
                output.discard()
                self._in_work.end(entry)
                continue
            writes[entry] = self._pool.submit(self._commit_or_fail, output, work.heads[entry])
            if len(writes) >= _WRITES_WAITING:
                first = next(iter(writes))
                work.results[first] = writes.pop(first).result()
        read_ahead.over()
        work.results.update({entry: write.result() for entry, write in writes.items()})

    def _look_up(self, entry: Entry) -> tuple[Head | None, ObjectResult | None]:
        """Return the existing output of an object, and the object's result if it needs no scoring."""
        try:
            head = self._objects.head(target_uri(self._run, entry))
            result = self._finished_result(entry, head)
        except BaseException as error:
            return None, self._failure(entry, error)
        if result is None and (fatal := self._in_work.fatal(entry)):
            result = self._failure(entry, fatal)
        return head, result

    def _failure(self, entry: Entry, error: BaseException) -> ObjectResult:
        """Return a failed result if the error concerns this object alone; raise any other error."""
        if not is_object_error(error):
            raise error
        uri = self._run.input_uri(entry.key)
        data_error = as_data_error(error, uri)
        logger.warning("%s was not scored: %s", uri, data_error)
        return failure(entry, data_error)

    def _finished_result(self, entry: Entry, head: Head | None) -> ObjectResult | None:
        """Return the result of an object that needs no scoring: it is committed, or its output name is taken."""
        run = self._run
        if error := foreign(run, entry, head):
            return self._failure(entry, error)
        by_another_run = run.rescore and head is not None and head.metadata.get(RUN) != run.run
        if head is None or by_another_run or not is_committed(self._objects, run, entry, head):
            return None
        return result_of(entry, "found", Counts.from_metadata(head.metadata), etag=head.etag)

    def _open(
        self, entry: Entry, results: Mapping[Entry, ObjectResult]
    ) -> IO[bytes] | BaseException:
        result = results.get(entry)
        if result and result.state == "failed":
            return UnreadableDataError(result.error)  # so that it is not read again
        if too_long := self._run.name_too_long(entry.key):
            return too_long
        try:
            return self._objects.open(info(self._run, entry), *_range_of(entry))
        except BaseException as error:
            if not is_object_error(error):
                raise
            return error

    def _items(
        self,
        bundle: list[Entry],
        streams: Iterator[IO[bytes] | BaseException],
        read_ahead: ReadAheadMeter,
    ) -> Iterator[Review | End]:
        """Yield the reviews of each object, followed by its end."""
        self._in_work.begin(bundle)
        # not strict: the streams of later bundles follow
        for entry, stream in zip(bundle, streams, strict=False):
            if isinstance(stream, BaseException):
                read_ahead.unread(entry.bytes)
                yield End(stream)
                continue
            with stream:
                yield from self._reviews(entry, stream, read_ahead)

    def _reviews(
        self, entry: Entry, stream: IO[bytes], read_ahead: ReadAheadMeter
    ) -> Iterator[Review | End]:
        uri = self._run.input_uri(entry.key)
        columns, rows = self._run.columns, 0
        try:
            requested = [columns.id, columns.text, *columns.keep]
            decoded = reading.decode(uri, stream, entry.span, requested, self._run.encoding)
            required = [columns.text, *columns.keep] if entry.part == 0 else []
            checked = with_columns(decoded, required, uri)
            fraction = functools.partial(fraction_read, entry, stream)
            read = read_ahead.reading(checked, entry.bytes, fraction)
            reviews = (predict.to_review(row, columns) for row in read)
            # The limit applies to whole objects; a part is not judged by itself.
            allowed = self._run.max_rejected_share if entry.parts == 1 else 1.0
            for review in predict.within_fraction(reviews, allowed, uri):
                rows += 1
                yield review
        except BaseException as error:
            if not is_object_error(error):
                raise
            yield End(error)
        else:
            yield End(rows=rows)

    def _commit_or_fail(self, output: Output, before: Head | None) -> ObjectResult:
        try:
            return self._commit(output, before)
        except BaseException as error:
            return self._failure(output.entry, error)
        finally:
            output.discard()
            self._in_work.end(output.entry)

    def _commit(self, output: Output, before: Head | None) -> ObjectResult:
        """Write an object's rejects, and then its predictions, which are the commit marker."""
        entry = output.entry
        error = output.error or output.too_many_rejects()
        if error is not None:
            return self._failure(entry, error)
        return commit(
            self._objects,
            self._run,
            entry,
            output.counts,
            output.path,
            output.rejected_path,
            before,
        )


@dataclass(frozen=True)
class _Work:
    """State shared by all bundles of a shard: the model and its engine, and the known facts about its objects."""

    classifier: modeling.Classifier
    engine: Engine
    window_reviews: int
    heads: dict[Entry, Head | None]
    results: dict[Entry, ObjectResult]


def _range_of(entry: Entry) -> tuple[int, int | None]:
    byte_range = entry.span.byte_range if entry.span else None
    return byte_range or (0, None)
