"""Reviews that versions of a model have scored: what arrives, without labels, to compare engines on."""

import logging
from collections.abc import Iterator

from tasks.connect import exact_objects
from tasks.connectors.exact_objects import ExactObjects
from tasks.core import formats, scoring
from tasks.core.blame import is_the_objects
from tasks.core.errors import NightshiftError, StoreAwayError
from tasks.core.scoring_plan import Columns, Entry, ScoringRun
from tasks.lineage_store import runs_below
from tasks.score_marks import marks_of
from tasks.score_store import info, read_result, read_run, read_shard

logger = logging.getLogger(__name__)

_MOST_RUNS = 30  # of each place where predictions lie
_MOST_OF_ONE = 500  # reviews of an object, so that it is not all there is
_ROUNDED_TO = 500


def texts_scored_before(model: str, most: int) -> list[str]:
    """Texts of reviews that were scored, each once, at most so many; the same ones while there are no more of them.

    Their number is a multiple of 500, or all that were asked for: a night with a few more reviews is no reason to
    compare engines again. Reviews that cannot be read any more are passed over.

    Args:
        model: of the registry, whichever version.
        most: texts.
    """
    objects, found = exact_objects(), dict[str, None]()
    try:
        for run, entry in _scored(objects, model):
            for text in _texts(objects, run, entry):
                found[text] = None
            if len(found) >= most:
                return list(found)[:most]
    except StoreAwayError:
        raise
    except (
        NightshiftError
    ) as error:  # a record of another version of the code, a bucket that is gone
        logger.info("Some reviews that were scored cannot be read: %s", error)
    return list(found)[: len(found) // _ROUNDED_TO * _ROUNDED_TO]


def _scored(objects: ExactObjects, model: str) -> Iterator[tuple[ScoringRun, Entry]]:
    """What was scored without an error, as it was read then."""
    for mark in marks_of(model):
        for place in sorted(runs_below(objects, mark.root))[:_MOST_RUNS]:
            if run := read_run(objects, place):
                for number in range(run.shards):
                    yield from ((run, entry) for entry in _done(objects, run, number))


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
            for row in formats.decode(uri, stream, entry.span, [column]):
                review = scoring.to_review(row, Columns(text=column))
                if not review.problem:
                    texts.append(review.text)
                if len(texts) == _MOST_OF_ONE:
                    break
    except BaseException as error:
        if not is_the_objects(error):
            raise
        logger.info("%s was scored, and cannot be read any more", uri)
    return texts
