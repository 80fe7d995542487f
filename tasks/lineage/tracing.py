"""trace: follow lineage from any one thing to everything it was made from and everything made from it."""

import logging
import re
from typing import Any

from pydantic import Field

from tasks.connectors.storage.object_store import ObjectInfo, parse_uri
from tasks.core.errors import MissingDataError, StoreError, StoreUnavailableError
from tasks.core.formats import reading
from tasks.core.formats.delimited.formulas import unguarded
from tasks.core.formats.detection.names import said_by
from tasks.core.formats.registry import SPREADSHEETS
from tasks.core.lineage.answers import facts_of_node, said_of_row, trained_on, way_back
from tasks.core.lineage.graph import Direction, Node, counts, table, tree
from tasks.core.lineage.records import LineageRecords
from tasks.core.records import Record
from tasks.core.scoring.results import Counts
from tasks.lineage.reading import add_deleted_versions, add_runs, read_records, rows_named, run_at
from tasks.runtime.clients import exact_objects
from tasks.runtime.reporting import artifacts
from tasks.runtime.steps import step
from tasks.scoring.store.commit import RUN
from tasks.scoring.store.run_store import read_run

logger = logging.getLogger(__name__)

_SCORED = re.compile(r"(s3://.+/model=([^/]+)/version=([^/]+))(?:/(.+))?")
_SPLITS = 10  # searched for a review
_SHOWN = ("input", "row", "id", "label", "score")  # columns shown of a prediction; never its text

Facts = dict[str, str]


class Provenance(Record):
    """The upstream and downstream lineage of one thing."""

    start: str
    facts: dict[str, str] = Field(
        description="Each by its name; of a prediction in the order of the way back."
    )
    upstream: list[str] = Field(description="What it was made from: a tree, a node a line.")
    downstream: list[str] = Field(description="What was made of it, likewise.")

    def lines(self) -> list[str]:
        """All lines, for a terminal."""
        width = max(map(len, self.facts), default=0)
        lines = [f"{name:<{width}}  {text}" for name, text in self.facts.items()]
        for title, nodes in (("Made from", self.upstream), ("Made of it", self.downstream)):
            lines += [
                "",
                f"{title}:",
                *(f"  {line}" for line in nodes or ["nothing that is known"]),
            ]
        return lines


@step
def trace_lineage(start: str, row: int = 0, source_row: str = "") -> Provenance:
    """Trace a thing upstream and downstream.

    Args:
        start: predictions, a scoring run, a version (name/number or name/alias), a prepared folder, a digest, the id of
            a run, or a source's location.
        row: of predictions, the number of a row in the input; 0 for the object as a whole.
        source_row: a labelled review as its source names it, such as 'train.jsonl row 17': finds the splits that
            contain it, and the versions that learned from it; '' to skip this.
    Raises:
        MissingDataError: nothing is known of it, or there is no such row.
    """
    records = read_records()
    add_deleted_versions(records)
    nodes, facts = _resolve(records, start.rstrip("/"), row)
    versions = {v.name: v for node in nodes for v in _versions(records, node)}
    unmarked = [name for name in versions if not add_runs(records, *name.rsplit("/", 1))]
    if unmarked:
        facts["no scoring run is known of"] = (
            f"{', '.join(unmarked)} (runs without a usage record can only be traced from their predictions)"
        )
    if source_row:
        facts |= _of_review(records, nodes, source_row)
    provenance = Provenance(
        start=start,
        facts=facts,
        upstream=_side(records, nodes, "upstream"),
        downstream=_side(records, nodes, "downstream"),
    )
    _publish(records, nodes, provenance)
    return provenance


def _resolve(records: LineageRecords, start: str, row: int) -> tuple[list[str], Facts]:
    """Return the ids of the nodes that a start refers to, and the facts about it."""
    scored = _SCORED.fullmatch(start)
    if scored and scored[4]:
        return _of_scoring(records, start, scored, row)
    nodes = records.named(f"{scored[2]}/{scored[3]}" if scored else start)
    if not nodes:
        raise MissingDataError(
            "Nothing is known about it",
            start,
            "name predictions, a scoring run, a version such as reviews/3 or reviews/champion, prepared data, a "
            "digest, or a source as data.source.location had it",
        )
    facts: Facts = {}
    for node in nodes:
        facts |= facts_of_node(records.graph[node])
    return nodes, facts


def _of_scoring(
    records: LineageRecords, start: str, scored: re.Match[str], row: int
) -> tuple[list[str], Facts]:
    """Resolve a scoring run, or predictions of one, including the way back to the training data."""
    if scored[4].startswith("_runs/"):
        run = run_at(f"{scored[1]}/_runs/{scored[4].split('/')[1]}", required=True)
        node = records.add_run(run)
        return [node], facts_of_node(records.graph[node]) | way_back(records, run)
    facts, run_uri = _of_predictions(start, scored[1], row)
    run = run_at(run_uri)
    by = records.add_run(run)
    node = records.graph.add(Node(kind="predictions", name=start, uri=start))
    records.graph.link(by, node)
    text = f"MISSING, {run.missing}: {run_uri}" if run.missing else run_uri
    return [node], facts | {"scoring run": text, **run.facts} | way_back(records, run)


def _of_predictions(uri: str, root: str, row: int) -> tuple[Facts, str]:
    """Return the facts that an object with predictions holds, and the URI of the run that wrote it."""
    objects = exact_objects()
    head = objects.head(uri)
    if head is None or RUN not in head.metadata:
        raise MissingDataError(
            "Not an object with predictions",
            uri,
            "name one below .../model=<name>/version=<number>/",
        )
    facts, run_uri = {"prediction": uri}, f"{root}/_runs/{head.metadata[RUN]}"
    if row:
        item = ObjectInfo(*parse_uri(uri), head.size, head.etag)
        facts |= _row(item, row, _is_guarded(uri, run_uri))
    counted = Counts.from_metadata(head.metadata)
    facts |= {
        "rows in, scored, rejected": f"{counted.rows_in}, {counted.rows_out}, {counted.rows_rejected}",
        "input version (ETag)": head.metadata.get("input-etag", ""),
    }
    return facts, run_uri


def _is_guarded(uri: str, run_uri: str) -> bool:
    """True for a table whose run guarded formulas, by its plan. Without the plan, cells are shown unchanged."""
    try:
        run = read_run(exact_objects(), run_uri)
    except StoreUnavailableError:
        raise
    except StoreError:
        return False
    is_table = said_by(uri)[0] in SPREADSHEETS
    return run is not None and run.csv_formula_guard and is_table


def _row(item: ObjectInfo, row: int, is_guarded: bool) -> Facts:
    with exact_objects().open(item) as stream:
        for decoded in reading.decode(item.uri, stream, columns=_SHOWN):
            if decoded.values and int(decoded.values["row"]) == row:
                shown = {name: str(decoded.values[name]) for name in _SHOWN}
                return {n: unguarded(v) if is_guarded else v for n, v in shown.items()}
    raise MissingDataError(
        f"No prediction of row {row}", item.uri, "rows that were not scored are in _rejected/"
    )


def _versions(records: LineageRecords, node: str) -> list[Node]:
    """Return the versions whose scoring runs are downstream of a node."""
    graph = records.graph
    below = [node, *graph.downstream(node)]
    moved = [p for name in below if graph[name].kind == "move" for p in graph.parents(name)]
    ids = dict.fromkeys(name for name in [*below, *moved] if graph[name].kind == "version")
    return [graph[name] for name in ids]


def _of_review(records: LineageRecords, nodes: list[str], source_row: str) -> Facts:
    """Return the part of each split, upstream or downstream, that contains a labelled review."""
    graph = records.graph
    around = [n for node in nodes for n in (node, *graph.upstream(node), *graph.downstream(node))]
    splits = [graph[n] for n in dict.fromkeys(around) if graph[n].kind == "split"]
    facts: Facts = {}
    for split in splits[:_SPLITS]:
        manifest = records.manifests.get(split.id)
        row_counts = rows_named(split.uri, manifest, source_row) if manifest else None
        text = "not known: its rows are gone"
        if row_counts is not None:
            text = said_of_row(row_counts, trained_on(graph, split.id))
        facts[f"{source_row}, {split.title}"] = text
    if len(splits) > _SPLITS:
        more = f"not looked for in {len(splits) - _SPLITS} more splits; start from one of them"
        facts[f"{source_row}, others"] = more
    return facts or {source_row: "no split that could contain it is known, upstream or downstream"}


def _side(records: LineageRecords, nodes: list[str], direction: Direction) -> list[str]:
    """Return the trees of one direction, each below a line that counts its nodes."""
    lines: list[str] = []
    for node in nodes:
        walk = getattr(records.graph, direction)(node)
        if walk:
            title = f"{records.graph[node].title}: " if len(nodes) > 1 else ""
            lines.append(title + counts(records.graph[other] for other in walk))
            lines += tree(records.graph, node, direction)
    return lines


def _publish(records: LineageRecords, nodes: list[str], provenance: Provenance) -> None:
    facts: list[dict[str, Any]] = [{"what": k, "is": v} for k, v in provenance.facts.items()]
    title = f"Lineage of {provenance.start}"
    artifacts.publish_table("provenance", facts, title)
    rows: list[dict[str, Any]] = [row for node in nodes for row in table(records.graph, node)]
    artifacts.publish_table("lineage", rows, title)
    logger.info(
        "trace: %s was made from %s; made from it: %s",
        provenance.start,
        (provenance.upstream or ["nothing known"])[0],
        (provenance.downstream or ["nothing known"])[0],
    )
