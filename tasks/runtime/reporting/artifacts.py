"""Artifacts on a run's page in the Prefect UI: tables, pictures, progress. Outside a run nothing is published.

The UI also renders descriptions and table cells as Markdown, so they are escaped here.
"""

import base64
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from tasks.core.evaluation.params import METRIC_NAMES
from tasks.core.evaluation.records import EvaluationSummary
from tasks.core.markdown import Markdown, code, escape, table
from tasks.core.readable import without_passwords
from tasks.core.records import Finding, ModelVersion
from tasks.core.release.gate.evidence import Verdict

logger = logging.getLogger(__name__)

_STEP_PERCENT = 4.0  # progress is sent again after this much change,
_STEP_SECONDS = 30.0  # or after this time


def in_a_run() -> bool:
    """True inside a flow or task run."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


class Progress:
    """A progress bar on the run's page. An update is sent only if it has moved."""

    def __init__(self, key: str, description: str) -> None:
        self._sent, self._when = 0.0, time.monotonic()
        self._id: UUID | None = None
        if in_a_run():
            artifact_id: Any = create_progress_artifact(
                0.0, key=key, description=_shown(description)
            )
            self._id = artifact_id

    def at(self, done: float, total: float) -> None:
        """Set the progress to `done` of `total` units."""
        percent = 100.0 * done / total if total else 100.0
        if not self._id or percent <= self._sent:
            return
        waited = time.monotonic() - self._when
        moved = percent - self._sent
        if moved >= _STEP_PERCENT or percent >= 100.0 or waited >= _STEP_SECONDS:
            self._sent, self._when = percent, time.monotonic()
            try:
                update_progress_artifact(self._id, progress=min(percent, 100.0))
            except (httpx.HTTPError, PrefectException) as error:  # no reason to lose a training
                logger.warning("Progress could not be shown: %s", type(error).__name__)


def publish_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Publish a table. Texts in it and its description are shown literally."""
    if in_a_run():
        create_table_artifact(table_cells(rows), key=key, description=_shown(description))


def table_cells(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that are safe for the UI: numbers unchanged, names and all other values escaped."""
    return [
        {
            _shown(name): value if isinstance(value, int | float | None) else _shown(value)
            for name, value in row.items()
        }
        for row in rows
    ]


def publish_text(key: str, text: Markdown, description: str) -> None:
    """Publish a page of text. Raises TypeError if it is not `Markdown`, the type that escapes names in it."""
    if not isinstance(text, Markdown):  # pyright: ignore[reportUnnecessaryIsInstance] - not all callers are checked
        raise TypeError("a page is built with tasks.core.markdown")
    if in_a_run():
        create_markdown_artifact(str(text), key=key, description=_shown(description))


def publish_link(key: str, url: str, description: str) -> None:
    """Publish a link. A path is shown as text, because browsers do not follow links to files."""
    if not in_a_run():
        return
    if url.startswith(("http://", "https://")):
        address = url.replace(")", "%29").replace(" ", "%20")
        text, caption = _shown(url), _shown(description)
        create_link_artifact(link=address, link_text=text, key=key, description=caption)
    else:
        create_markdown_artifact(f"{code(url)}\n", key=key, description=_shown(description))


def _shown(text: object) -> str:
    return str(escape(text))


def this_runs_url() -> str:
    """Return the URL of the current flow run's page; '' outside of one."""
    return without_passwords(flow_run.ui_url or "") if flow_run.id else ""


def publish_picture(path: Path, description: str) -> None:
    """Publish a PNG. It is embedded in the artifact, so it shows wherever the UI is opened."""
    if in_a_run():
        content = base64.b64encode(path.read_bytes()).decode()
        key = path.stem.replace("_", "-")
        shown = f"data:image/png;base64,{content}"
        create_image_artifact(shown, key=key, description=_shown(description))


def publish_findings(
    findings: Sequence[Finding], class_rows: Mapping[str, Mapping[str, int]]
) -> None:
    """Publish the validation report: the findings, and how many reviews of each class are left."""
    order = {"error": 0, "warning": 1, "note": 2}
    rows = [f.model_dump() for f in sorted(findings, key=lambda f: order[f.severity])]
    counts = "; ".join(
        f"{split}: " + ", ".join(f"{name} {count:,}" for name, count in classes.items())
        for split, classes in class_rows.items()
    )
    nothing = [
        {"severity": "ok", "rule": "all", "split": "all", "count": 0, "message": "nothing found"}
    ]
    publish_table("validation", rows or nothing, f"Reviews left after validation - {counts}")


def evaluation_text(
    model: EvaluationSummary, baseline: EvaluationSummary, verdict: Verdict, version: ModelVersion
) -> Markdown:
    """Return the evaluation as markdown: both models side by side, then the gate's clauses."""
    figures = [
        (name, model.metrics[key], baseline.metrics[key])
        for key, name in METRIC_NAMES.items()
        if key in model.metrics and key in baseline.metrics
    ]
    failed = Markdown("**FAILED**")
    clauses = [(c.name, "passed" if c.passed else failed, c.text) for c in verdict.clauses]
    return Markdown(
        "# {}: {}\n\nTest set: {:,} reviews. Intervals are bootstrap percentiles.\n\n{}\n{}"
    ).format(
        version,
        "passed the gate" if verdict.promote else "refused by the gate",
        model.rows,
        table(["metric", f"fine-tuned {model.model}", baseline.model], figures),
        table(["gate clause", "outcome", "figures"], clauses),
    )
