"""The last step of a scoring run: parts become whole objects, all is counted, and the store says if it is done."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError as PydanticError

from tasks import reports
from tasks.connect import exact_objects
from tasks.connectors.exact_objects import ExactObjects
from tasks.connectors.object_store import ObjectInfo, parse_uri
from tasks.core import formats
from tasks.core.digests import canonical_json
from tasks.core.errors import StoreError
from tasks.core.score_results import Counts, ObjectResult, ScoreSummary, State
from tasks.core.scoring_plan import Entry, Names, ScoringRun
from tasks.score_outputs import is_scored, mark_of, too_many_rejects
from tasks.score_store import read_result, read_shard, require_run, result_uri
from tasks.steps import step, work_folder

logger = logging.getLogger(__name__)

SUCCESS, INCOMPLETE = "_SUCCESS", "_INCOMPLETE"
_SHOWN = 1_000
_ERRORS = 20


@step
def finish_scoring(place: str, started: float) -> ScoreSummary:
    """Join the parts, count everything, prove it from the store, and write `_SUCCESS` or `_INCOMPLETE`.

    Args:
        place: of the frozen run.
        started: `time.time()` when scoring began.
    Raises:
        StoreError: a shard has no result, or an output is not there.
    """
    objects = exact_objects()
    run = require_run(objects, place)
    tally = Tally(run, Names(item.uri for item in objects.store.scan(run.root)))
    for result in _whole(objects, run):
        tally.add(result)
    summary = tally.summary(time.time() - started)
    _publish(objects, run, summary, tally.table())
    return summary


class Tally:
    """Adds up what became of each object. A million of them cost no more memory than a thousand.

    Args:
        run: the frozen run.
        there: objects that the store lists below its root.
    """

    def __init__(self, run: ScoringRun, there: Names) -> None:
        self._run, self._there, self._counts = run, there, Counts()
        self._states = dict.fromkeys(get_args(State), 0)
        self._bad: list[ObjectResult] = []
        self._good: list[ObjectResult] = []

    def add(self, result: ObjectResult) -> None:
        """Count one object.

        Raises:
            StoreError: it is said to be scored, and its output is not in the store.
        """
        uri = self._run.output_uri(result.key)
        good = result.state in ("scored", "found")
        if good and result.parts == 1 and uri not in self._there:  # one of parts was just joined
            raise StoreError(
                "An output is not in the store, though it was written",
                uri,
                "run again; what is there is not scored again",
            )
        self._counts = self._counts.plus(result.counts)
        self._states[result.state] += 1
        kept = self._good if good else self._bad
        if len(kept) < _SHOWN:
            kept.append(result)

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
            overwritten=states["overwritten"] + states["outdated"],
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


def _whole(objects: ExactObjects, run: ScoringRun) -> Iterator[ObjectResult]:
    """Results of whole objects, in the order of the plan; parts are joined on the way."""
    waiting: list[tuple[Entry, ObjectResult]] = []
    for number in range(run.shards):
        done = read_result(objects, run.place, number)
        if done is None:
            raise StoreError(
                "A shard has no result",
                result_uri(run.place, number),
                "run again; it goes on there",
            )
        entries = [e for bundle in read_shard(objects, run.place, number).bundles for e in bundle]
        for entry, result in zip(entries, done.objects, strict=True):
            if entry.parts == 1:
                yield result
                continue
            waiting.append((entry, result))
            if len(waiting) == entry.parts:
                yield _joined(objects, run, waiting)
                waiting = []


def _joined(
    objects: ExactObjects, run: ScoringRun, parts: list[tuple[Entry, ObjectResult]]
) -> ObjectResult:
    """One object of its parts, unless one of them is missing or too much was rejected."""
    entry = parts[0][0]
    bad = next((r for _, r in parts if r.state not in ("scored", "found")), None)
    counts = Counts()
    for _, result in parts:
        counts = counts.plus(result.counts)
    error = None if bad else too_many_rejects(run, entry.key, counts)
    if bad or error:
        state: Any = bad.state if bad else "failed"
        said = bad.error if bad else str(error)
        _remove_parts(objects, run, [part for part, _ in parts])  # no run will ask for them
        return ObjectResult(key=entry.key, etag=entry.etag, state=state, error=said)
    mark = mark_of(run, entry, counts)
    before = objects.head(run.output_uri(entry.key))
    state = "scored"
    if not is_scored(run, entry, before):
        entries = [part for part, _ in parts]
        with work_folder("joined") as folder:
            if counts.rows_rejected:
                rejected = _join(objects, run, entries, "rejected", folder / "rejected")
                uri = run.rejected_uri(entry.key)
                objects.write(rejected, uri, mark, objects.head(uri))
            whole = _join(objects, run, entries, "output", folder / "output")
            ours = objects.write(whole, run.output_uri(entry.key), mark, before)
        state = "scored" if ours else "outdated"
    if objects.head(run.output_uri(entry.key)) is None:
        raise StoreError("What was joined is not in the store", run.output_uri(entry.key))
    _remove_parts(objects, run, [part for part, _ in parts])
    return ObjectResult(
        key=entry.key, etag=entry.etag, parts=entry.parts, state=state, counts=counts
    )


def _join(
    objects: ExactObjects, run: ScoringRun, entries: list[Entry], kind: str, path: Path
) -> Path:
    name = run.output_uri(entries[0].key) if kind == "output" else "rejected.jsonl"
    uris = [run.part_uri(entry, kind) for entry in entries]
    with ExitStack() as stack, path.open("wb") as stream:
        streams = [
            stack.enter_context(objects.open(part, small_at_once=False))
            for uri in uris
            if (part := _info(objects, uri))
        ]
        formats.join(name, streams, stream)
    return path


def _info(objects: ExactObjects, uri: str) -> ObjectInfo | None:
    head = objects.head(uri)
    return ObjectInfo(*parse_uri(uri), head.size, head.etag) if head else None


def _remove_parts(objects: ExactObjects, run: ScoringRun, entries: list[Entry]) -> None:
    for entry in entries:
        for kind in ("output", "rejected"):
            objects.store.delete(run.part_uri(entry, kind))


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
    reports.publish_table("scored", table, _headline(summary))
    reports.publish_text("summary", summary_text(summary, last), _headline(summary))


def _last_summary(objects: ExactObjects, run: ScoringRun) -> ScoreSummary | None:
    """What the run before came to, where there was one and this version can read it."""
    for name in (SUCCESS, INCOMPLETE):
        if content := objects.store.read_bytes(f"{run.root}/{name}"):
            with suppress(PydanticError):
                return ScoreSummary.model_validate_json(content)
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
