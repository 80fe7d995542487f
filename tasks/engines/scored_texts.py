"""Reviews that versions of a model have scored: what arrives, without labels, to compare engines on."""

import logging
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from uuid import UUID

from pydantic import ValidationError as PydanticError

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.core.blame import is_the_objects
from tasks.core.data.texts import matching_form
from tasks.core.errors import NightshiftError, StoreAwayError
from tasks.core.formats import reading
from tasks.core.scoring import predict
from tasks.core.scoring.plan import Columns, ScoringRun
from tasks.core.scoring.sharding import Entry
from tasks.registry.usage_records import marks_of
from tasks.runtime.clients import exact_objects
from tasks.scoring.store.run_store import info, read_result, read_run, read_shard, runs_below

logger = logging.getLogger(__name__)

_MOST_RUNS = 30  # of each place where predictions lie
_MOST_OBJECTS = 5_000  # that are opened
_MOST_OF_ONE = 500  # reviews of an object, so that it is not all there is
_ROUNDED_TO = 500
_Seen = set[tuple[str, str, int, str]]  # an object, its ETag, its part, its column


def texts_scored_before(model: str, most: int, kept_out: Collection[str] = ()) -> list[str]:
    """Texts of reviews that were scored, each once, at most so many; those of the latest runs first.

    Their number is a multiple of 500, or all that were asked for: a night with a few more reviews is no reason to
    compare engines again. Reviews that cannot be read any more are passed over.

    Args:
        model: of the registry, whichever version.
        most: texts.
        kept_out: matching forms of texts that are left out, as those of the test set.
    """
    objects, found, seen = exact_objects(), dict[str, None](), _Seen()
    for place in _latest_runs(objects, model):
        with _passing_over(place):
            for text in _texts_of_run(objects, place, seen):
                if text not in found and matching_form(text) not in kept_out:
                    found[text] = None
                if len(found) >= most:
                    return list(found)
    return list(found)[: len(found) // _ROUNDED_TO * _ROUNDED_TO]


@contextmanager
def _passing_over(place: str) -> Generator[None]:
    """What cannot be read there is no reason to leave out the rest, unless the store is away."""
    try:
        yield
    except StoreAwayError:
        raise
    except NightshiftError as error:  # a bucket that is gone, a record of another version
        logger.info("Some reviews that were scored cannot be read: %s", error)
    except PydanticError:
        logger.info("Some reviews that were scored cannot be read: no record of this code, %s", place)  # fmt: skip


def _latest_runs(objects: ExactObjects, model: str) -> Iterator[str]:
    """Where runs of a model keep their records: those of the latest place first, and of each its latest runs first."""
    for mark in marks_of(model):
        runs: list[str] = []
        with _passing_over(mark.root):
            runs = sorted(runs_below(objects, mark.root), key=_age, reverse=True)
        yield from runs[:_MOST_RUNS]


def _age(place: str) -> tuple[bool, str]:
    """Sorts runs: a run of Prefect has an ID that begins with its time (UUIDv7), others have a random one."""
    name = place.rpartition("/")[2]
    try:
        return UUID(name).version == 7, name
    except ValueError:
        return False, name


def _texts_of_run(objects: ExactObjects, place: str, seen: _Seen) -> Iterator[str]:
    """Of objects that were scored without an error, as they were read then, and that no other run has shown."""
    run = read_run(objects, place) if len(seen) < _MOST_OBJECTS else None
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
    """The first ones of an object; none where it is another one by now."""
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
        if not is_the_objects(error):
            raise
        logger.info("%s was scored, and cannot be read any more", uri)
    return texts
