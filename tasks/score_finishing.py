"""The last step of a scoring run: parts become whole objects, all is counted, and the store says if it is done."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, get_args

from pydantic import ValidationError as PydanticError

from tasks import reports
from tasks.connect import exact_objects
from tasks.connectors.exact_objects import FINGERPRINT, ExactObjects, Head
from tasks.connectors.object_store import ObjectInfo, parse_uri
from tasks.core import formats
from tasks.core.digests import canonical_json
from tasks.core.errors import DataError, OverwrittenError, StoreError, UnreadableDataError
from tasks.core.score_results import Counts, ObjectResult, ScoreSummary, State
from tasks.core.scoring_plan import Entry, Names, ScoringRun
from tasks.score_outputs import (
    RUN,
    contested,
    foreign,
    is_made_of,
    is_of_another_version,
    mark_of,
    newer,
    too_many_rejects,
)
from tasks.score_store import (
    INCOMPLETE,
    SUCCESS,
    info,
    read_result,
    read_shard,
    require_run,
    result_uri,
)
from tasks.steps import step, work_folder

logger = logging.getLogger(__name__)

_SHOWN = 1_000
_ERRORS = 20


@step
def finish_scoring(place: str, started: float) -> ScoreSummary:
    """Join the parts, count everything, prove it from the store, and write `_SUCCESS` or `_INCOMPLETE`.

    Args:
        place: of the frozen run.
        started: `time.time()` when scoring began.
    Raises:
        StoreError: a shard has no result, or the lists do not hold what the manifest says.
    """
    objects = exact_objects()
    run = require_run(objects, place)
    tally = Tally(run, objects)
    joined: list[Entry] = []
    for number in range(run.shards):
        for result in _wholes(objects, run, number, joined):
            if not tally.add(result):  # it was there: whoever tries again scores it again
                objects.store.delete(result_uri(run, number))
    if tally.objects != run.objects:
        raise StoreError(
            f"The lists of the frozen run hold {tally.objects:,} objects, its manifest says {run.objects:,}",
            run.place,
            "start a new run; what is scored stays scored",
        )
    summary = tally.summary(time.time() - started)
    _publish(objects, run, summary, tally.table())
    for entry in joined:
        _remove_parts(objects, run, entry)
    return summary


class Tally:
    """Adds up what became of each object, and looks whether the store still has it.

    A million objects cost 16 MB: of each listed output the hash of its name and ETag is kept.

    Args:
        run: the frozen run.
        objects: the store.
    """

    def __init__(self, run: ScoringRun, objects: ExactObjects) -> None:
        self._run, self._objects = run, objects
        self._there = Names(_listed(objects, run))
        self._counts, self.objects = Counts(), 0
        self._states = dict.fromkeys(get_args(State), 0)
        self._bad: list[ObjectResult] = []
        self._good: list[ObjectResult] = []

    def add(self, result: ObjectResult) -> bool:
        """Count one object; False when it is said to be scored and the store does not have it."""
        claimed = result.state in ("scored", "found")
        if claimed:
            result = self._looked_up(result)
        good = result.state in ("scored", "found")
        self.objects += 1
        self._counts = self._counts.plus(result.counts)
        self._states[result.state] += 1
        kept = self._good if good else self._bad
        if len(kept) < _SHOWN:
            kept.append(result)
        return good or not claimed

    def _looked_up(self, result: ObjectResult) -> ObjectResult:
        """The same result, or what is the matter with its output."""
        run, entry = self._run, Entry(result.key, result.size, result.etag)
        uri = run.output_uri(result.key)
        rejected = run.rejected_uri(result.key, run.fingerprint(entry))
        problem: DataError | StoreError | None = None
        if f"{uri}|{result.output_etag}" not in self._there:
            head = self._objects.head(uri)
            if head is None:
                problem = StoreError(
                    "An output is not in the store, though it was written", uri, "run again"
                )
            elif is_of_another_version(run, entry, head):
                problem = newer(run, entry)
            elif not is_made_of(run, entry, head):
                problem = contested(run, entry)
        missing = result.counts.rows_rejected and rejected not in self._there
        if problem is None and missing and self._objects.head(rejected) is None:  # joined just now
            problem = StoreError(
                "The rejected rows are not in the store, though they were written",
                rejected,
                "run again",
            )
        if problem is None:
            return result
        state = "overwritten" if isinstance(problem, OverwrittenError) else "failed"
        return result.model_copy(update={"state": state, "error": str(problem), "counts": Counts()})

    def summary(self, seconds: float) -> ScoreSummary:
        """All of it."""
        run, states = self._run, self._states
        return ScoreSummary(
            place=run.place,
            root=run.root,
            model=run.model.name,
            version=run.model.version,
            objects=run.objects,
            scored_before=run.scored_before,
            scored=states["scored"] + states["found"],
            failed=states["failed"],
            overwritten=states["overwritten"],
            counts=self._counts,
            seconds=round(seconds, 2),
            reviews_per_second=round(self._counts.rows_out / max(seconds, 1e-9), 2),
            errors=[_said(run.input_uri(r.key), r.error) for r in self._bad[:_ERRORS]],
        )

    def table(self) -> list[dict[str, Any]]:
        """The first thousand objects for people, those that failed first."""
        return [
            {
                "input": self._run.input_uri(r.key),
                "state": r.state,
                "rows in": r.counts.rows_in,
                "scored": r.counts.rows_out,
                "rejected": r.counts.rows_rejected,
                "error": r.error,
            }
            for r in (self._bad + self._good)[:_SHOWN]
        ]


def _said(uri: str, error: str) -> str:
    """An object's error, with its name once."""
    return error if uri in error else f"{uri}: {error}"


def _listed(objects: ExactObjects, run: ScoringRun) -> Iterator[str]:
    """Name and ETag of each output that the store lists; of rejects the name, which tells what they are made of."""
    rejected, own = f"{run.root}/_rejected/", f"{run.root}/_runs/"
    for item in objects.store.scan(run.root):
        if item.uri.startswith(rejected):
            yield item.uri
        elif not item.uri.startswith(own):
            yield f"{item.uri}|{item.etag}"


def _wholes(
    objects: ExactObjects, run: ScoringRun, number: int, joined: list[Entry]
) -> Iterator[ObjectResult]:
    """Results of the objects that end in a shard; the parts of a large one are joined on the way."""
    for entry, result in _results(objects, run, number):
        if entry.parts == 1:
            yield result.model_copy(update={"size": entry.size})
        elif entry.part == entry.parts - 1:
            parts = _parts_of(objects, run, number, entry)
            whole = _joined(objects, run, parts)
            if whole.state in ("scored", "found"):
                joined.append(entry)
            yield whole.model_copy(update={"size": entry.size})


def _results(
    objects: ExactObjects, run: ScoringRun, number: int
) -> list[tuple[Entry, ObjectResult]]:
    done = read_result(objects, run, number)
    if done is None:
        raise StoreError(
            "A shard has no result", result_uri(run, number), "run again; it goes on there"
        )
    entries = [e for bundle in read_shard(objects, run, number).bundles for e in bundle]
    return list(zip(entries, done.objects, strict=True))


def _parts_of(
    objects: ExactObjects, run: ScoringRun, number: int, last: Entry
) -> list[tuple[Entry, ObjectResult]]:
    """All parts of an object, in their order: they stand in the shards up to that of its last one."""
    found: list[tuple[Entry, ObjectResult]] = []
    while len(found) < last.parts and number >= 0:
        here = [(e, r) for e, r in _results(objects, run, number) if e.key == last.key]
        found, number = here + found, number - 1
    return found


def _joined(
    objects: ExactObjects, run: ScoringRun, parts: list[tuple[Entry, ObjectResult]]
) -> ObjectResult:
    """One object of its parts, unless one of them is missing or too much was rejected."""
    entry, uri = parts[0][0], run.output_uri(parts[0][0].key)
    counts = Counts()
    for _, result in parts:
        counts = counts.plus(result.counts)
    bad = next((r for _, r in parts if r.state not in ("scored", "found")), None)
    if bad:
        return ObjectResult(key=entry.key, etag=entry.etag, state=bad.state, error=bad.error)
    before = objects.head(uri)
    mark = mark_of(run, entry, counts)
    rejected = run.rejected_uri(entry.key, mark[FINGERPRINT])
    try:
        if error := too_many_rejects(run, entry.key, counts) or foreign(run, entry, before):
            raise error
        if before is None or not is_made_of(run, entry, before):
            objects.require_unchanged(
                info(run, entry)
            )  # else newer predictions may be there, or come
            etag = _write_joined(objects, run, parts, rejected, mark, before)
        elif (
            run.rescore and before.metadata.get(RUN) != run.run and _all_there(objects, run, parts)
        ):
            etag = _write_joined(objects, run, parts, rejected, mark, before)
        else:  # joined before this run died; or by another, which gives the same
            etag = before.etag
    except DataError as error:
        state: Any = "overwritten" if isinstance(error, OverwrittenError) else "failed"
        return ObjectResult(key=entry.key, etag=entry.etag, state=state, error=str(error))
    if etag is None:
        return ObjectResult(
            key=entry.key, etag=entry.etag, state="overwritten", error=str(newer(run, entry))
        )
    if before and (old := before.metadata.get(FINGERPRINT, "")) != mark[FINGERPRINT]:
        objects.store.delete(run.rejected_uri(entry.key, old))  # of what was replaced
    return ObjectResult(
        key=entry.key, etag=entry.etag, state="scored", counts=counts, output_etag=etag
    )


def _write_joined(
    objects: ExactObjects,
    run: ScoringRun,
    parts: list[tuple[Entry, ObjectResult]],
    rejected: str,
    mark: dict[str, str],
    before: Head | None,
) -> str | None:
    with work_folder("joined") as folder:
        there = objects.head(rejected)
        made = there is not None and there.metadata.get(FINGERPRINT) == mark[FINGERPRINT]
        if not made and any(result.counts.rows_rejected for _, result in parts):
            whole = _join(objects, run, parts, "rejected", folder / "rejected")
            objects.write(whole, rejected, mark, there)
        whole = _join(objects, run, parts, "output", folder / "output")
        return objects.write(whole, run.output_uri(parts[0][0].key), mark, before)


def _all_there(
    objects: ExactObjects, run: ScoringRun, parts: list[tuple[Entry, ObjectResult]]
) -> bool:
    return all(objects.head(run.part_uri(entry)) for entry, _ in parts)


def _join(
    objects: ExactObjects,
    run: ScoringRun,
    parts: list[tuple[Entry, ObjectResult]],
    kind: str,
    path: Path,
) -> Path:
    """All parts as one file. Raises UnreadableDataError when one of them is gone, or is not what was written."""
    name = run.output_uri(parts[0][0].key) if kind == "output" else "rejected.jsonl"
    with ExitStack() as stack, path.open("wb") as stream:
        streams: list[IO[bytes]] = []
        for entry, result in parts:
            if kind == "rejected" and not result.counts.rows_rejected:
                continue
            uri = run.part_uri(entry, kind)
            head = objects.head(uri)
            if (
                head is None
                or not head.whole
                or Counts.from_metadata(head.metadata) != _kept(result.counts)
            ):
                raise UnreadableDataError(
                    "A part of its predictions is gone, or is not what was written",
                    uri,
                    "run again",
                )
            item = ObjectInfo(*parse_uri(uri), head.size, head.etag)
            streams.append(stack.enter_context(objects.open(item, small_at_once=False)))
        formats.join(name, streams, stream)
    return path


def _kept(counts: Counts) -> Counts:
    """As metadata keep them."""
    return Counts.from_metadata(counts.to_metadata())


def _remove_parts(objects: ExactObjects, run: ScoringRun, entry: Entry) -> None:
    for item in list(objects.store.scan(run.part_uri(entry).rpartition("/")[0] + "/")):
        objects.store.delete(item.uri)


def _publish(
    objects: ExactObjects, run: ScoringRun, summary: ScoreSummary, table: list[dict[str, Any]]
) -> None:
    """The marks that other programs look for, and the table that people look at."""
    name, other = (SUCCESS, INCOMPLETE) if summary.complete else (INCOMPLETE, SUCCESS)
    last = _last_summary(objects, run)
    content = canonical_json(summary.model_dump()).encode()
    for folder in (run.place, run.root):
        objects.store.delete(f"{folder}/{other}")
        objects.store.write_bytes(content, f"{folder}/{name}")
    if summary.counts.rows_out:
        objects.store.write_bytes(content, _last_uri(run))
    reports.publish_table("scored", table, _headline(summary))
    reports.publish_text("summary", summary_text(summary, last), _headline(summary))


def _last_uri(run: ScoringRun) -> str:
    """Of the last summary of any version of the model in which there was something to score."""
    return f"{run.root.rpartition('/')[0]}/_last.json"


def _last_summary(objects: ExactObjects, run: ScoringRun) -> ScoreSummary | None:
    """What the run before came to, where there was one and this version can read it."""
    content = objects.store.read_bytes(_last_uri(run))
    with suppress(PydanticError):
        return ScoreSummary.model_validate_json(content) if content else None
    return None


def summary_text(summary: ScoreSummary, last: ScoreSummary | None) -> str:
    """A run as markdown: counts, reasons, and the shares of the labels beside those of the run before."""
    counts = summary.counts
    lines = [
        f"# {_headline(summary)}",
        "",
        f"Predictions: `{summary.root}/`",
        "",
        "| | |",
        "|---|---|",
        f"| objects scored, failed, overwritten in mid-run | {summary.scored:,}, {summary.failed:,}, "
        f"{summary.overwritten:,} |",
        f"| objects scored before | {summary.scored_before:,} |",
        f"| rows in, scored, rejected | {counts.rows_in:,}, {counts.rows_out:,}, {counts.rows_rejected:,} |",
        *(
            f"| rejected: {reason} | {count:,} |"
            for reason, count in sorted(counts.reasons.items())
        ),
        f"| seconds, reviews a second | {summary.seconds:,.0f}, {summary.reviews_per_second:,.1f} |",
    ]
    if counts.rows_out:
        before = last.counts if last else Counts()
        lines += ["", "| label | share | of the run before |", "|---|---|---|"]
        for label in sorted(counts.labels):
            share = counts.labels[label] / counts.rows_out
            old = f"{before.labels.get(label, 0) / before.rows_out:.1%}" if before.rows_out else ""
            lines.append(f"| {label} | {share:.1%} | {old} |")
    lines += ["", *(f"- {error}" for error in summary.errors)]
    return "\n".join(lines) + "\n"


def _headline(summary: ScoreSummary) -> str:
    counts = summary.counts
    return (
        f"{counts.rows_out:,} of {counts.rows_in:,} reviews in {summary.scored:,} objects scored by {summary.model} "
        f"version {summary.version}, {summary.reviews_per_second:,.1f} reviews/s; {summary.failed} objects failed, "
        f"{summary.scored_before:,} were scored before"
    )
