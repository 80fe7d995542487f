"""Reviews that versions of a model have scored: unlabelled production data to compare engines on."""

import logging
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from uuid import UUID

from pydantic import ValidationError as PydanticError

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.blame import is_object_error
from tasks.core.data.texts import matching_form
from tasks.core.errors import NightshiftError, StoreUnavailableError
from tasks.core.formats import reading
from tasks.core.scoring import predict
from tasks.core.scoring.plan import Columns, ScoringRun
from tasks.core.scoring.sharding import Entry
from tasks.registry.usage_records import marks_of
from tasks.runtime.clients import exact_objects
from tasks.scoring.store.run_store import info, read_result, read_run, read_shard, runs_below

logger = logging.getLogger(__name__)

_MOST_RUNS = 30  # per root with predictions
_MOST_OBJECTS = 5_000  # objects opened
_MOST_OF_ONE = 500  # reviews per object, so that one object does not supply all
_ROUNDED_TO = 500
_Seen = set[tuple[str, str, int, str]]  # an object, its ETag, its part, its column


def texts_scored_before(model: str, most: int, excluded: Collection[str] = ()) -> list[str]:
    """Return at most `most` distinct texts of reviews that were scored, the latest runs first.

    The count is a multiple of 500, or `most`: a few more reviews after a night are no reason to compare engines again.
    Reviews that can no longer be read are skipped.

    Args:
        model: the registered model; any version counts.
        most: the largest number of texts.
        kept_out: matching forms of texts to exclude, such as those of the test set.
    """
    objects, texts, seen = exact_objects(), dict[str, None](), _Seen()
    for run_uri in _latest_runs(objects, model):
        with _skip_unreadable(run_uri):
            for text in _texts_of_run(objects, run_uri, seen):
                if text not in texts and matching_form(text) not in excluded:
                    texts[text] = None
                if len(texts) >= most:
                    return list(texts)
    return list(texts)[: len(texts) // _ROUNDED_TO * _ROUNDED_TO]


@contextmanager
def _skip_unreadable(uri: str) -> Generator[None]:
    """Skip a location that cannot be read, unless the store itself is unavailable."""
    try:
        yield
    except StoreUnavailableError:
        raise
    except NightshiftError as error:  # a bucket that is gone, a record of another version
        logger.info("Skipping scored reviews that can no longer be read: %s", error)
    except PydanticError:
        logger.info("Skipping scored reviews with a record of another version of the code: %s", uri)


def _latest_runs(objects: ExactObjects, model: str) -> Iterator[str]:
    """Yield the URIs of a model's run records: the latest root first, and below each its latest runs first."""
    for mark in marks_of(model):
        runs: list[str] = []
        with _skip_unreadable(mark.root):
            runs = sorted(runs_below(objects, mark.root), key=_age, reverse=True)
        yield from runs[:_MOST_RUNS]


def _age(run_uri: str) -> tuple[bool, str]:
    """Return a sort key for runs: a Prefect run ID begins with its time (UUIDv7), other IDs are random."""
    name = run_uri.rpartition("/")[2]
    try:
        return UUID(name).version == 7, name
    except ValueError:
        return False, name


def _texts_of_run(objects: ExactObjects, run_uri: str, seen: _Seen) -> Iterator[str]:
    """Yield texts of objects scored without an error, unchanged since then, and not yielded for another run."""
    run = read_run(objects, run_uri) if len(seen) < _MOST_OBJECTS else None
    if run is None:
        return
    for number in range(run.shards):
        for entry in _done(objects, run, number):
            key = (run.input_uri(entry.key), entry.etag, entry.part, run.columns.text)
            if len(seen) == _MOST_OBJECTS:
                return
            if key not in seen:
                seen.add(key)
                yield from _texts(objects, run, entry)


def _done(objects: ExactObjects, run: ScoringRun, number: int) -> Iterator[Entry]:
    result = read_result(objects, run, number)
    if result is None:
        return
    scored = {(o.key, o.part) for o in result.objects if o.state in ("scored", "found")}
    for bundle in read_shard(objects, run, number).bundles:
        yield from (entry for entry in bundle if (entry.key, entry.part) in scored)


def _texts(objects: ExactObjects, run: ScoringRun, entry: Entry) -> list[str]:
    """Return the first texts of an object; none if the object has changed since."""
    uri, column = run.input_uri(entry.key), run.columns.text
    span = entry.span.byte_range if entry.span else None
    texts: list[str] = []
    try:
        with objects.open(info(run, entry), *(span or (0, None))) as stream:
            for row in reading.decode(uri, stream, entry.span, [column], run.encoding):
                review = predict.to_review(row, Columns(text=column))
                if not review.problem:
                    texts.append(review.text)
                if len(texts) == _MOST_OF_ONE:
                    break
    except BaseException as error:
        if not is_object_error(error):
            raise
        logger.info("Skipping %s: it was scored, but can no longer be read", uri)
    return texts
