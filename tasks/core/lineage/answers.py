"""Answers from the graph: the steps that led to a prediction, and whether a model was trained on a review."""

from collections.abc import Iterator, Mapping

from tasks.core.lineage.graph import Graph, Node
from tasks.core.lineage.parts import RegisteredVersion, ScoredRun, tagged
from tasks.core.lineage.records import TRAINING_ROWS, LineageRecords, version_id
from tasks.core.records import Promotion
from tasks.core.tags import (
    ACCURACY_TAG,
    BASE_MODEL_TAG,
    BASE_REVISION_TAG,
    CODE_TAG,
    DATA_DIGEST_TAG,
    FLOW_RUN_TAG,
    PARAMS_TAG,
    TEACHER_TAG,
    TEST_DIGEST_TAG,
)

Facts = dict[str, str]
_OF_TAGS = {
    BASE_MODEL_TAG: "base model",
    BASE_REVISION_TAG: "revision of it",
    TEACHER_TAG: "teacher",
    DATA_DIGEST_TAG: "training data (digest of the split)",
    TEST_DIGEST_TAG: "test set (digest)",
    ACCURACY_TAG: "accuracy on it",
    CODE_TAG: "training code",
    FLOW_RUN_TAG: "Prefect run of the training",
    PARAMS_TAG: "parameters of the training",
}


def way_back(records: LineageRecords, run: ScoredRun) -> Facts:
    """Return the facts from a scoring run back to the source of the training data, by name and in that order."""
    node = version_id(run.model, run.version)
    version = records.versions.get(node)
    facts = champion_facts(records, run)
    if version:
        facts |= gate_facts(records.graph, version)
        facts |= {label: version.tags[n] for n, label in _OF_TAGS.items() if version.tags.get(n)}
    facts |= evaluation_facts(records.graph, node, version)
    for step in training_chain(records.graph, node, version):
        # Another name is needed: `model` is the registered model.
        facts |= _prefixed("trained model" if step.kind == "model" else step.kind, step)
    return facts


def champion_facts(records: LineageRecords, run: ScoredRun) -> Facts:
    """Say whether the version was champion when the run was planned, since when and why, and what it is now."""
    version = records.versions.get(version_id(run.model, run.version))
    now = ", ".join(version.aliases) or "no alias" if version else "deleted from the registry"
    return {"champion then": _then(records, run), "the version now": now}


def _then(records: LineageRecords, run: ScoredRun) -> str:
    if not run.when:
        return "unknown: the time when the run was planned is not recorded"
    move = records.champion_move(run)
    if move is None:
        return f"unknown: the log has no move of {run.model} before {run.when}"
    if move.to_version == run.version:
        return f"yes, since {said_of_move(move)}"
    other = f"version {move.to_version}" if move.to_version else "nobody"
    reason = "the run requested this version, or had pinned it before that move"
    return f"no, {other} was, since {said_of_move(move)}; {reason}"


def said_of_move(move: Promotion) -> str:
    """Describe a move in one sentence."""
    before = f"version {move.from_version}" if move.from_version else "nobody"
    evidence = f", evidence {move.evidence}" if move.evidence else ""
    run = f", Prefect run {move.flow_run}" if move.flow_run else ""
    how = f"move {move.number}, {move.kind}, by {move.who}: {move.why}; before it: {before}"
    return f"{move.when} ({how}{evidence}{run})"


def gate_facts(graph: Graph, version: RegisteredVersion) -> Facts:
    """Return the gate's verdict on a version, clause by clause, from its folder or else from the version's tag."""
    node = version_id(version.name, version.version)
    for verdict in (graph[c] for c in graph.children(node) if graph[c].kind == "verdict"):
        if verdict.missing:
            return {"verdict of the gate": f"MISSING, {verdict.missing} {verdict.uri}".strip()}
        clauses = {k: v for k, v in verdict.facts.items() if k.startswith("clause ")}
        decision = verdict.facts.get("verdict", verdict.brief)
        return {"verdict of the gate": " ".join(filter(None, (decision, verdict.uri))), **clauses}
    return {"verdict of the gate": "none is recorded"}


def evaluation_facts(graph: Graph, node: str, version: RegisteredVersion | None) -> Facts:
    """Return the evaluation that registration used, or else all of the model, with figures and test digest."""
    tag = tagged(version).get("evaluation") if version else None
    models = [m for m in graph.parents(node) if graph[m].kind == "model"]
    evaluations = [
        graph[e] for m in models for e in graph.children(m) if graph[e].kind == "evaluation"
    ]
    chosen = [e for e in evaluations if e.uri == tag] or evaluations
    facts: Facts = {}
    for number, evaluation in enumerate(chosen):
        name = "evaluation" if not number else f"evaluation {number + 1}"
        facts |= _prefixed(name, evaluation)
    return facts


def training_chain(graph: Graph, node: str, version: RegisteredVersion | None) -> Iterator[Node]:
    """Yield the model, base model, tokens, training rows, split, validated, loaded and source of a version that exist.

    If several splits have the same training rows, yield the one that the version names.
    """
    tag = tagged(version) if version else {}
    split_names = {tag.get("split"), (version.tags if version else {}).get(DATA_DIGEST_TAG)}
    for model in (m for m in graph.parents(node) if graph[m].kind == "model"):
        yield graph[model]
        for kind in (
            "pretrained-base",
            "pretraining-tokens",
            "base-model",
            "tokens",
            TRAINING_ROWS,
        ):
            yield from graph.nearest(model, kind)[:1]
        splits = graph.nearest(model, "split")
        named = [s for s in splits if {s.uri, s.name} & split_names]
        for split in (named or splits)[:1]:
            yield split
            yield from _line(graph, split.id, ("validated", "loaded", "source"))


def _line(graph: Graph, node: str, kinds: tuple[str, ...]) -> Iterator[Node]:
    """Yield the direct parent of the first kind, its parent of the second, and so on."""
    for kind in kinds:
        parents = [p for p in graph.parents(node) if graph[p].kind == kind]
        if not parents:
            return
        node = parents[0]
        yield graph[node]


def facts_of_node(node: Node) -> Facts:
    """Return a node's place and facts, each prefixed with its kind."""
    return _prefixed(node.kind, node)


def _prefixed(name: str, node: Node) -> Facts:
    location = node.uri or node.name
    description = f"MISSING, {node.missing}: {location}" if node.missing else location
    return {name: description, **{f"{name}: {fact}": text for fact, text in node.facts.items()}}


def trained_on(graph: Graph, split: str) -> list[str]:
    """Return the versions trained on the rows of a split, and the versions distilled from them."""
    rows = [r for r in graph.children(split) if graph[r].kind == TRAINING_ROWS]
    return [v.name for r in rows for v in graph.nearest(r, "version", "downstream")]


def said_of_row(counts: Mapping[str, int], versions: list[str]) -> str:
    """Say which part of a split a review is in, and what that means for the models made from the split.

    Args:
        counts: rows of that name in train, validation and test.
        versions: versions trained on the split.
    """
    of = ", ".join(versions) or "no version that is registered"
    meaning = {
        "train": f"in train: {of} learned from it",
        "validation": f"in validation: the epoch of {of} was chosen by it",
        "test": "in test: models of this split were judged on it and did not learn from it",
    }
    sentences = [
        f"{meaning[part]}{f' ({count} rows have this name)' if count > 1 else ''}"
        for part, count in counts.items()
        if count
    ]
    return "; ".join(sentences) or "not in it: neither learned from nor tested on"
