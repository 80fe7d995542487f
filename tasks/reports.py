"""What people see on a run's page in the Prefect UI: tables, pictures, progress. Outside a run nothing is published."""

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

from tasks.core.gate import Verdict
from tasks.core.markdown import cell
from tasks.core.metrics import METRIC_NAMES
from tasks.core.records import EvaluationSummary, Finding, ModelVersion

logger = logging.getLogger(__name__)

_STEP_PERCENT = 4.0  # how far progress must have moved to be sent again,
_STEP_SECONDS = 30.0  # unless it was sent so long ago


def in_a_run() -> bool:
    """True inside a flow or task run."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


class Progress:
    """A progress bar on the run's page; sent only when it has moved."""

    def __init__(self, key: str, description: str) -> None:
        self._sent, self._when = 0.0, time.monotonic()
        self._id: UUID | None = None
        if in_a_run():
            made: Any = create_progress_artifact(0.0, key=key, description=description)
            self._id = made

    def at(self, done: float, total: float) -> None:
        """So much of so much is done."""
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
    """A table."""
    if in_a_run():
        create_table_artifact(rows, key=key, description=description)


def publish_text(key: str, markdown: str, description: str) -> None:
    """A page of text."""
    if in_a_run():
        create_markdown_artifact(markdown, key=key, description=description)


def publish_link(key: str, url: str, description: str) -> None:
    """A link. Browsers follow none to a file, so that a path is shown as text."""
    if not in_a_run():
        return
    if url.startswith(("http://", "https://")):
        create_link_artifact(link=url, link_text=url, key=key, description=description)
    else:
        create_markdown_artifact(f"`{url}`\n", key=key, description=description)


def this_runs_url() -> str:
    """The page of the flow run under way; empty outside of one."""
    return flow_run.ui_url or "" if flow_run.id else ""


def publish_picture(path: Path, description: str) -> None:
    """A PNG, carried in the artifact itself, so that it shows wherever the UI is opened."""
    if in_a_run():
        content = base64.b64encode(path.read_bytes()).decode()
        key = path.stem.replace("_", "-")
        create_image_artifact(f"data:image/png;base64,{content}", key=key, description=description)


def publish_findings(
    findings: Sequence[Finding], class_rows: Mapping[str, Mapping[str, int]]
) -> None:
    """The validation report: what was found, and how many reviews of each class are left."""
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
) -> str:
    """The evaluation as markdown: both models side by side, then the gate's clauses."""
    lines = [
        f"# {version}: {'passed the gate' if verdict.promote else 'refused by the gate'}",
        "",
        f"Test set: {model.rows:,} reviews. Intervals are bootstrap percentiles.",
        "",
        f"| metric | fine-tuned {model.model} | {baseline.model} |",
        "|---|---|---|",
    ]
    for key, name in METRIC_NAMES.items():
        if key in model.metrics and key in baseline.metrics:
            lines.append(f"| {name} | {model.metrics[key]} | {baseline.metrics[key]} |")
    lines += ["", "| gate clause | outcome | figures |", "|---|---|---|"]
    lines += [
        f"| {c.name} | {'passed' if c.passed else '**FAILED**'} | {cell(c.text)} |"
        for c in verdict.clauses
    ]
    return "\n".join(lines) + "\n"
