"""Build the lineage graph from stored records.

Two splits may hold the same training rows (another limit of test rows) or the same test rows (another limit of
training rows). Steps depend on the rows and not on the split, so rows are nodes of their own: `training rows` stands
between a split and tokens, `test rows` between a split and evaluations. So a version that was only tested on some rows
does not look trained on them.

Edges come from the lineage tag of each version, which names the folder of every step, and from the digests that
manifests name among their inputs. If a version is older than the tag, or deleted, the digests are the only source.
"""

import re
from collections.abc import Mapping, Sequence

from tasks.core.lineage.facts import facts_of, inputs_of, names_of
from tasks.core.lineage.graph import Graph, Node
from tasks.core.lineage.parts import RegisteredVersion, ScoredRun, folder_of, in_force, tagged
from tasks.core.records import COMPARED, Manifest, Promotion, source_files
from tasks.core.tags import ACCURACY_TAG, CODE_TAG, ENGINE_TAG, FLOW_RUN_TAG, VERDICT_TAG

TRAINING_ROWS, TEST_ROWS = "training rows", "test rows"
GONE = "its folder is gone"
_DIGEST = re.compile(r"[0-9a-f]{32}([0-9a-f]{32})?")
# Inputs that name folders, and the kind of each. With them, a deleted folder is reported as missing.
_NAMED = {
    "loaded": "loaded",
    "validated": "validated",
    "held_out": "test-set",
    "tokens": "tokens",
    "base_model": "base-model",
    "pretraining_tokens": "pretraining-tokens",
    "model": "model",
    "teacher": "model",
    "lessons": "lessons",
}
# The steps that the lineage tag names, and the steps that each may be made from.
_STEPS: dict[str, tuple[str, ...]] = {
    "validated": ("loaded",),
    "test-set": ("validated",),
    "split": ("validated", "test-set"),
    "tokens": ("split", "base-model"),
    "lessons": ("split",),
    "pretraining-tokens": ("split", "base-model"),
    "pretrained-base": ("pretraining-tokens", "base-model"),
    "model": ("tokens", "pretrained-base", "base-model", "lessons"),
    "evaluation": ("model", "split"),
    "baseline": ("split",),
    "behaviour": ("model",),
    "inspection": ("split",),
    "verdict": ("evaluation", "baseline", "behaviour", "inspection"),
    "report": ("evaluation",),
}
# The rows of a split that each step depends on.
_ROWS_OF = {
    "tokens": TRAINING_ROWS,
    "lessons": TRAINING_ROWS,
    "pretraining-tokens": TRAINING_ROWS,
    "evaluation": TEST_ROWS,
    "baseline": TEST_ROWS,
}


def version_id(name: str, version: str) -> str:
    """Return the id of the node of a version."""
    return f"version {name}/{version}"


def move_id(move: Promotion) -> str:
    """Return the id of the node of a move."""
    return f"move {move.model}/{move.number}"


class LineageRecords:
    """Builds a graph from records that were written in any order.

    Args:
        manifests: of every prepared folder, with the folder's URI.
        unreadable: URI of a folder, and what is wrong with its manifest.
        versions: every version that the registry has.
        moves: of every model.
    """

    def __init__(
        self,
        manifests: Sequence[tuple[str, Manifest]],
        unreadable: Mapping[str, str],
        versions: Sequence[RegisteredVersion],
        moves: Sequence[Promotion],
    ) -> None:
        self.graph = Graph()
        self.moves = list(moves)
        self.versions = {version_id(v.name, v.version): v for v in versions}
        self.manifests = {f"{m.kind} {m.digest}": m for _, m in manifests}
        self._node_ids: dict[str, str] = {}  # digest among a manifest's inputs -> id of a node
        for uri, manifest in manifests:
            self._add_folder(uri, manifest)
        for uri, problem in unreadable.items():
            self._require_folder(uri, f"its manifest cannot be read: {problem}")
        for version in versions:
            self._add_version(version)
        # Link tags before inputs, so that the parents named by the tag come first.
        for version in versions:
            self._link_tag(version)
        for _, manifest in manifests:
            self._link_inputs(manifest)
        for move in sorted(moves, key=lambda m: (m.model, m.number)):
            self._add_move(move)

    def _add_folder(self, uri: str, manifest: Manifest) -> None:
        brief, facts = facts_of(manifest)
        node = Node(
            kind=manifest.kind,
            name=manifest.digest,
            uri=uri,
            brief=brief,
            facts=facts,
            also=names_of(manifest),
        )
        self._node_ids[manifest.digest] = self.graph.add(node)
        if manifest.kind == "loaded" and (source := facts.get("source")):
            self._link_parent(Node(kind="source", name=source), node.id)
        if {"train_digest", "test_digest"} <= manifest.summary.keys():  # a split
            for rows, name in ((TRAINING_ROWS, "train_digest"), (TEST_ROWS, "test_digest")):
                if digest := str(manifest.summary.get(name, "")):
                    self._node_ids[digest] = self.graph.add(Node(kind=rows, name=digest))
                    self.graph.link(node.id, self._node_ids[digest])

    def _link_parent(self, parent: Node, child: str) -> None:
        self.graph.link(self.graph.add(parent), child)

    def _require_folder(self, uri: str, missing: str = GONE) -> str:
        """Return the node of a folder that a record names, whether the folder exists or not."""
        parts = folder_of(uri)
        if parts is None:  # for example a report stored elsewhere: it is named but not looked at
            return self.graph.add(Node(kind="place", name=uri, uri=uri))
        folder, kind, digest = parts
        node = self.graph.add(Node(kind=kind, name=digest, uri=folder, missing=missing))
        self._node_ids.setdefault(digest, node)
        return node

    def _link_inputs(self, manifest: Manifest) -> None:
        child = f"{manifest.kind} {manifest.digest}"
        for name, value in inputs_of(manifest.inputs):
            if name == COMPARED:
                continue
            parent = self._node_ids.get(value)
            if parent is None and _DIGEST.fullmatch(value):
                parent = self._missed(manifest.kind, name, value)
            if parent is not None:
                self.graph.link(parent, child)

    def _missed(self, kind: str, name: str, digest: str) -> str | None:
        """Return the node of an input whose folder is gone; None if the text names no folder."""
        if name in _NAMED and len(digest) == 32:
            gone = Node(kind=_NAMED[name], name=digest, missing=GONE)
        elif kind in ("tokens", "lessons", "pretraining-tokens") and name == "rows":
            gone = Node(kind=TRAINING_ROWS, name=digest, missing="the split that they were in")
        elif kind == "evaluation" and name == "test":
            gone = Node(kind=TEST_ROWS, name=digest, missing="the split that they were in")
        else:
            return None
        self._node_ids[digest] = self.graph.add(gone)
        return self._node_ids[digest]

    def _add_version(self, version: RegisteredVersion) -> None:
        tags = version.tags
        facts = {
            "aliases": ", ".join(version.aliases),
            "accuracy": tags.get(ACCURACY_TAG, ""),
            "engine": tags.get(ENGINE_TAG, ""),
            "model digest": version.model_digest,
            "MLflow run": version.run_id,
            "Prefect run": tags.get(FLOW_RUN_TAG, ""),
            "code": tags.get(CODE_TAG, ""),
            "verdict": tags.get(VERDICT_TAG, ""),
        }
        brief = [*version.aliases, f"accuracy {facts['accuracy']}" if facts["accuracy"] else ""]
        node = Node(
            kind="version",
            name=version.title,
            brief=", ".join(filter(None, brief)),
            facts={name: text for name, text in facts.items() if text},
            also=[run] if (run := tags.get(FLOW_RUN_TAG)) else [],
        )
        self.graph.add(node)
        self._node_ids[f"{version.name} version {version.version}"] = node.id

    def _link_tag(self, version: RegisteredVersion) -> None:
        steps = {name: self._require_folder(uri) for name, uri in tagged(version).items()}
        for name, parents in _STEPS.items():
            for parent in parents:
                if {name, parent} <= steps.keys():
                    self._link_step(steps, parent, name)
        node = version_id(version.name, version.version)
        model = steps.get("model") or self._model(version.model_digest)
        if model:
            self.graph.link(model, node)
        for output in ("verdict", "report"):
            if output in steps:
                self.graph.link(node, steps[output])
        if "verdict" not in steps and (verdict := version.tags.get(VERDICT_TAG)):
            old = Node(kind="verdict", name=f"on {version.title}", brief=verdict)
            self.graph.link(node, self.graph.add(old))

    def _link_step(self, steps: Mapping[str, str], parent: str, name: str) -> None:
        """Link a step to the rows it depends on if the split names them, otherwise to the split."""
        source = steps[parent]
        if parent == "split" and (kind := _ROWS_OF.get(name)):
            rows = [c for c in self.graph.children(source) if self.graph[c].kind == kind]
            source = rows[0] if rows and not self.graph[steps[name]].missing else source
        if source not in self.graph.upstream(steps[name]):
            self.graph.link(source, steps[name])

    def _model(self, digest: str) -> str | None:
        if not digest:
            return None
        return self.graph.add(Node(kind="model", name=digest, missing=GONE))

    def _add_move(self, move: Promotion) -> None:
        node = Node(
            kind="move",
            name=f"{move.model}/{move.number}",
            brief=f"{move.when}: champion {move.from_version or 'nobody'} -> {move.to_version or 'nobody'} "
            f"({move.kind}, by {move.who}: {move.why})",
            facts={k: str(v) for k, v in move if v and k not in ("number", "model")},
            also=[move.flow_run] if move.flow_run else [],
        )
        self.graph.add(node)
        if move.to_version:
            self.graph.link(self._require_version(move.model, move.to_version), node.id)
        if move.evidence:
            self.graph.link(self._require_folder(move.evidence), node.id)

    def _require_version(self, name: str, version: str, digest: str = "") -> str:
        """Return the node of a version that the registry may have lost; its digest links it to its model."""
        title = f"{name}/{version}"
        gone = Node(kind="version", name=title, missing="deleted from the registry")
        node = self.graph.add(gone)
        if self.graph[node].missing and (model := self._model(digest)):
            self.graph.link(model, node)
        return node

    def add_run(self, run: ScoredRun) -> str:
        """Add a scoring run, linked to its version and the move that made it champion at the time; return its id."""
        node = Node(
            kind="scoring run",
            name=run.place,
            uri=run.place,
            brief=", ".join(filter(None, (run.when, run.brief))),
            facts=dict(run.facts),
            also=[run.flow_run] if run.flow_run else [],
            missing=run.missing,
        )
        self.graph.add(node)
        self.graph.link(self._require_version(run.model, run.version, run.model_digest), node.id)
        move = self.champion_move(run)
        if move and move.to_version == run.version:
            self.graph.link(move_id(move), node.id)
        for uri in run.predictions:
            self.graph.link(node.id, self.graph.add(Node(kind="predictions", name=uri, uri=uri)))
        return node.id

    def champion_move(self, run: ScoredRun) -> Promotion | None:
        """Return the move in force when a run was planned, whichever version it made champion."""
        return in_force((m for m in self.moves if m.model == run.model), run.when)

    def named(self, name: str) -> list[str]:
        """Return ids of the nodes that a name may mean: a version or its alias, a place, a digest, a run, a source."""
        model, _, which = name.rpartition("/")
        for version in self.versions.values():
            if version.name == model and which in (version.version, *version.aliases):
                return [version_id(version.name, version.version)]
        if version_id(model, which) in self.graph:  # a deleted version that its moves still name
            return [version_id(model, which)]
        if folder := folder_of(name):
            node_id = f"{folder[1]} {folder[2]}"
            return [node_id] if node_id in self.graph else []
        if node_ids := [node.id for node in self.graph.find(name.rstrip("/"))]:
            return node_ids
        below = name.rstrip("/") + "/"
        return [
            node
            for node, manifest in self.manifests.items()
            if manifest.kind == "loaded"
            and any(o == name or o.startswith(below) for o in source_files(manifest.inputs))
        ]
