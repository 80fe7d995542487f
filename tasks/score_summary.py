"""What a scoring run came to, for programs and for people: marks beside the predictions, tables on the run's page."""

from contextlib import suppress
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError as PydanticError

from tasks import reports
from tasks.connectors.exact_objects import ExactObjects
from tasks.connectors.object_store import parse_uri
from tasks.core.digests import canonical_json
from tasks.core.score_results import Counts, ScoreSummary
from tasks.core.scoring_plan import ScoringRun
from tasks.score_success import mark_finished
from tasks.settings import read_settings


def publish_summary(
    objects: ExactObjects, run: ScoringRun, summary: ScoreSummary, table: list[dict[str, Any]]
) -> None:
    """The marks that other programs look for, and the table that people look at."""
    last = _last_summary(objects, run)
    mark_finished(objects, run, summary)
    if summary.counts.rows_out:
        objects.store.write_bytes(canonical_json(summary.model_dump()).encode(), _last_uri(run))
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
        f"- Predictions: {place_link(summary.root)}",
        f"- Rejected rows: {place_link(f'{summary.root}/_rejected')}",
        f"- Records of the run: {place_link(summary.place)}",
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


def place_link(folder: str) -> str:
    """A folder of the object store as markdown: a link where its pages are known, else its name to copy."""
    bucket, prefix = parse_uri(f"{folder}/")
    if not (template := read_settings().store_pages):
        return f"`{folder}/`"
    page = template.replace("{bucket}", quote(bucket)).replace("{prefix}", quote(prefix))
    return f"[{folder}/](<{page}>)"


def _headline(summary: ScoreSummary) -> str:
    counts = summary.counts
    return (
        f"{counts.rows_out:,} of {counts.rows_in:,} reviews in {summary.scored:,} objects scored by {summary.model} "
        f"version {summary.version}, {summary.reviews_per_second:,.1f} reviews/s; {summary.failed} objects failed, "
        f"{summary.scored_before:,} were scored before"
    )
