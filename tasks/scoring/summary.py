"""The outcome of a scoring run for programs and people: markers beside the predictions, tables on the run's page."""

import logging
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError as PydanticError

from tasks.connectors.storage.conditional_writes import ExactObjects
from tasks.connectors.storage.object_store import parse_uri
from tasks.core.digests import canonical_json
from tasks.core.markdown import Markdown, bullets, code, link, table
from tasks.core.readable import without_passwords
from tasks.core.scoring.plan import ScoringRun
from tasks.core.scoring.results import Counts, ScoreSummary
from tasks.runtime.reporting import artifacts
from tasks.runtime.reporting.findings import keep_findings
from tasks.runtime.settings import read_settings
from tasks.scoring.store.success_markers import mark_finished

logger = logging.getLogger(__name__)


def publish_summary(
    objects: ExactObjects, run: ScoringRun, summary: ScoreSummary, rows: list[dict[str, Any]]
) -> None:
    """Write the markers for other programs, and publish the tables for people."""
    last = _last_summary(objects, run)
    mark_finished(objects, run, summary)
    if summary.counts.rows_out:
        objects.store.write_bytes(canonical_json(summary.model_dump()).encode(), _last_uri(run))
    log = logger.info if summary.complete else logger.warning
    log("Finished in %.1f s: %s", summary.seconds, _headline(summary))
    artifacts.publish_table("scored", rows, _headline(summary))
    artifacts.publish_text("summary", summary_text(summary, last), _headline(summary))
    if summary.counts.rows_rejected:
        _keep_rejects(objects, run, summary.counts.rows_rejected)


def _keep_rejects(objects: ExactObjects, run: ScoringRun, rows: int) -> None:
    """Copy the rejected rows, including those of earlier runs of the version, and log where they are."""
    prefix = f"{run.root}/_rejected/"
    listed = {item.uri.removeprefix(prefix): item.uri for item in objects.store.scan(prefix)}
    folder = keep_findings(objects.store, f"rejected/{run.model.name}-{run.model.version}", listed)
    where = f"{folder}/" if folder else prefix
    logger.warning(
        "%s rows were rejected; each is listed with its reason below %s", f"{rows:,}", where
    )


def _last_uri(run: ScoringRun) -> str:
    """Return the URI of the last summary, of any version of the model, that had something to score."""
    return f"{run.root.rpartition('/')[0]}/_last.json"


def _last_summary(objects: ExactObjects, run: ScoringRun) -> ScoreSummary | None:
    """Return the summary of the previous run, if there is one that this version can read."""
    content = objects.store.read_bytes(_last_uri(run))
    with suppress(PydanticError):
        return ScoreSummary.model_validate_json(content) if content else None
    return None


def summary_text(summary: ScoreSummary, last: ScoreSummary | None) -> Markdown:
    """Render a run as markdown: counts, reasons, and the fractions of the labels beside those of the previous run."""
    locations = bullets(
        Markdown("{}: {}").format(what, place_link(folder))
        for what, folder in (
            ("Predictions", summary.root),
            ("Rejected rows", f"{summary.root}/_rejected"),
            ("Records of the run", summary.place),
        )
    )
    shares = Markdown("")
    if summary.counts.rows_out:
        shares = Markdown("\n") + table(
            ["label", "fraction", "in the previous run"], _shares(summary.counts, last)
        )
    return Markdown("# {}\n\n{}\n{}{}\n{}").format(
        _headline(summary),
        locations,
        table(["", ""], _figures(summary)),
        shares,
        bullets(summary.errors),
    )


def _figures(summary: ScoreSummary) -> list[tuple[str, str]]:
    counts = summary.counts
    return [
        (
            "objects scored, failed, overwritten during the run",
            f"{summary.scored:,}, {summary.failed:,}, {summary.overwritten:,}",
        ),
        ("objects scored before", f"{summary.scored_before:,}"),
        (
            "rows in, scored, rejected",
            f"{counts.rows_in:,}, {counts.rows_out:,}, {counts.rows_rejected:,}",
        ),
        *((f"rejected: {reason}", f"{n:,}") for reason, n in sorted(counts.reasons.items())),
        (
            "seconds, reviews a second",
            f"{summary.seconds:,.0f}, {summary.reviews_per_second:,.1f}",
        ),
    ]


def _shares(counts: Counts, last: ScoreSummary | None) -> list[tuple[str, str, str]]:
    before = last.counts if last else Counts()

    def old(label: str) -> str:
        return f"{before.labels.get(label, 0) / before.rows_out:.1%}" if before.rows_out else ""

    return [
        (label, f"{number / counts.rows_out:.1%}", old(label))
        for label, number in sorted(counts.labels.items())
    ]


def place_link(folder: str) -> Markdown:
    """Render a folder of the object store as markdown: a link if its web pages are known, else its name to copy."""
    bucket, prefix = parse_uri(f"{folder}/")
    if not (template := read_settings().store_pages):
        return code(f"{folder}/")
    page = template.replace("{bucket}", quote(bucket)).replace("{prefix}", quote(prefix))
    return link(f"{folder}/", without_passwords(page))


def _headline(summary: ScoreSummary) -> str:
    counts = summary.counts
    return (
        f"{counts.rows_out:,} of {counts.rows_in:,} reviews in {summary.scored:,} objects scored by {summary.model} "
        f"version {summary.version}, {summary.reviews_per_second:,.1f} reviews/s; {summary.failed} objects failed, "
        f"{summary.scored_before:,} were scored before"
    )
