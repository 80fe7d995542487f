"""The final messages of a flow on the command line."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tasks.core.evaluation.params import METRIC_NAMES
from tasks.core.readable import on_one_line
from tasks.runtime.reporting.terminal import Terminal
from tasks.runtime.settings import read_settings

if TYPE_CHECKING:
    from flows.stages.results import Demonstrated, Retrained, Tuned
    from tasks.core.records import Promotion
    from tasks.core.scoring.results import ScoreSummary
    from tasks.lineage.tracing import Provenance
    from tasks.registry.champion import History
    from tasks.registry.retention import Retained
    from tasks.scoring.verification import Proof


def show_retrained(console: Terminal, result: "Retrained") -> None:
    """Print the new version beside the baseline, the gate's verdict, the report, and the next command to type."""
    _show_version(console, result)
    console.print(next_command(result), soft_wrap=True)


def _show_version(console: Terminal, result: "Retrained") -> None:
    reviews = f"{result.evaluation.rows:,} test reviews"
    table = Table(title=f"{result.version}, {reviews}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("metric [interval]", no_wrap=True)
    table.add_column(f"{result.evaluation.model}, {result.train_rows:,} reviews", no_wrap=True)
    table.add_column("TF-IDF + log. regression", no_wrap=True)
    for key, name in METRIC_NAMES.items():
        if key in result.evaluation.metrics and key in result.baseline.metrics:
            ours, theirs = result.evaluation.metrics[key], result.baseline.metrics[key]
            table.add_row(name, str(ours), str(theirs))
    console.print(table)
    for clause in result.verdict.clauses:
        text = f"  {'passed' if clause.passed else 'FAILED'}  {clause.name}: {clause.text}"
        console.print(on_one_line(text), soft_wrap=True)
    if result.steps_reused:
        console.print(
            f"Reused, because nothing they depend on has changed: {', '.join(result.steps_reused)}."
        )
    standing = "is the champion" if result.promoted else "stays challenger"
    console.print(
        f"{result.version} {standing}; trained in {result.training_seconds:.0f} s. Report: {result.report_uri}",
        soft_wrap=True,
    )


def next_command(result: "Retrained") -> str:
    """Return the line that names the next command: scoring with a champion, or promoting a challenger by hand."""
    command = f"python -m flows {{}} --model-name {shlex.quote(result.version.name)}"
    if result.promoted:
        bucket = read_settings().bucket
        locations = f"--input s3://{bucket}/incoming/ --output s3://{bucket}/predictions/"
        return f"Next, to score reviews: {command.format('score')} {locations}"
    # Of a version that the gate passed, a person may have decided otherwise; `--overrule` covers both.
    return (
        f"Next, to promote it anyway: {command.format('promote')} --version {result.version.version} "
        "--who NAME --reason REASON --overrule"
    )


def show_tuned(console: Terminal, result: "Tuned") -> None:
    """Print the sweep on two lines, then its best model like a retrained one."""
    sweep = result.sweep
    settings = ", ".join(f"{name} {value:g}" for name, value in sweep.settings.items())
    console.print(
        f"{sweep.done} trials completed, {sweep.pruned} stopped early, {sweep.failed} failed ({sweep.trained_now} "
        f"trained in this run). Best: trial {sweep.best_trial}, validation {sweep.metric} {sweep.best_value:.4f}",
        soft_wrap=True,
    )
    console.print(f"  {settings}", soft_wrap=True)
    show_retrained(console, result.retrained)


def show_scored(console: Terminal, result: "ScoreSummary") -> None:
    """Print the counts and the locations of the outputs."""
    counts = result.counts
    shares, reasons = _counted(counts.labels), _counted(counts.reasons)
    console.print(
        f"Scored {counts.rows_out:,} of {counts.rows_in:,} reviews in {result.scored:,} objects with {result.model} "
        f"version {result.version}{f': {shares}' if shares else ''}; {counts.rows_rejected:,} rejected"
        f"{f' ({reasons})' if reasons else ''}; {result.scored_before:,} objects were scored before.",
    )
    console.print(f"  predictions  {result.root}/", soft_wrap=True)
    if counts.rows_rejected:
        console.print(f"  rejected     {result.root}/_rejected/", soft_wrap=True)
    console.print(f"  this run     {result.place}/", soft_wrap=True)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{on_one_line(name)} {count:,}" for name, count in sorted(counts.items()))


def show_proof(console: Terminal, result: "Proof") -> None:
    """Print that a run is complete."""
    console.print(
        f"Complete: {result.proven:,} of {result.objects:,} objects, {result.rows:,} rows, {result.model} version "
        f"{result.version}.",
    )


def show_provenance(console: Terminal, result: "Provenance") -> None:
    """Print the facts, one per line, then the upstream and the downstream lineage."""
    for line in result.lines():
        console.print(on_one_line(line), soft_wrap=True)


def show_move(console: Terminal, result: "Promotion") -> None:
    """Print the new champion, and the entry of the history."""
    console.print(
        f"{result.model} version {result.to_version} is the champion; before: {result.from_version or 'nobody'}.",
    )
    text = f"  move {result.number} ({result.kind}), {result.when}, {result.who}: {result.why}"
    console.print(on_one_line(text), soft_wrap=True)


def show_history(console: Terminal, result: "History") -> None:
    """Print every move, the newest first."""
    from tasks.registry.champion import rows_of

    _show_rows(console, f"Moves of the champion of {result.model}", rows_of(result))


def show_retained(console: Terminal, result: "Retained") -> None:
    """Print the decision about every version, with the reason."""
    from tasks.registry.retention import rows_of

    dry = ", a dry run: nothing is deleted" if result.dry_run else ""
    _show_rows(console, f"Versions of {result.rule.model}{dry}", rows_of(result))


def _show_rows(console: Terminal, title: str, rows: list[dict[str, str]]) -> None:
    if not rows:
        console.print(f"{title}: none.")
        return
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)


def show_demo(console: Terminal, result: "Demonstrated", seconds: float) -> None:
    """Print the last screen of `make demo`."""
    console.rule("Nightshift demo")
    _show_version(console, result.retrained)
    console.print(f"Model: {result.retrained.model_uri}", soft_wrap=True)
    console.print()
    show_scored(console, result.scored)
    console.print()
    for answer in result.sentences:
        console.print(_answer(answer), soft_wrap=True)
    home = read_settings().home
    console.print(f"\nThe demo took {seconds:.0f} s. All data, runs and history are in {home}/.")


def _answer(answer: dict[str, Any]) -> str:
    version = f"{answer['model']} version {answer['model_version']}"
    return f"{answer['label']} {float(answer['score']):.1%}  {answer['text']!r} ({version})"
