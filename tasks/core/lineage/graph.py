"""The lineage graph: its nodes and edges, walks in both directions, and its display.

Edges point from an input to what was made from it, so the graph has no cycle: source, loaded reviews, validated ones,
split, tokens, model, version, evaluation, verdict, move, scoring run, prediction. Something that is named but no longer
exists is a node too, marked as missing, so a chain with a gap can still be followed to both ends.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from pydantic import Field

from tasks.core.records import Record

Direction = Literal["upstream", "downstream"]
_SHORT = 12  # digits shown of a digest


class Node(Record):
    """One item that was made, or from which something was made."""

    kind: str
    name: str = Field(description="Unique among its kind: a digest, a version, a place.")
    uri: str = ""
    brief: str = Field(default="", description="The facts that matter most, in one phrase.")
    facts: dict[str, str] = Field(default_factory=dict)
    also: list[str] = Field(
        default_factory=list, description="Other names it is found by: digests, ids of runs."
    )
    missing: str = Field(default="", description="Why there is nothing to look at, if so.")

    @property
    def id(self) -> str:
        """The node's unique id in a graph."""
        return f"{self.kind} {self.name}"

    @property
    def title(self) -> str:
        """The name for people, with a digest cut short."""
        is_digest = len(self.name) >= 32 and all(c in "0123456789abcdef" for c in self.name)
        return f"{self.kind} {self.name[:_SHORT] if is_digest else self.name}"

    def __str__(self) -> str:
        details = [f"MISSING, {self.missing}" if self.missing else "", self.brief]
        text = ": ".join([self.title, "; ".join(filter(None, details))]).removesuffix(": ")
        return f"{text}  {self.uri}" if self.uri and self.uri != self.name else text


class Graph:
    """A directed acyclic graph of nodes."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._parents: dict[str, dict[str, None]] = {}  # in the order in which they were linked
        self._children: dict[str, dict[str, None]] = {}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._nodes

    def __getitem__(self, node_id: str) -> Node:
        return self._nodes[node_id]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def add(self, node: Node) -> str:
        """Add a node and return its id. An existing node replaces a missing one."""
        existing = self._nodes.get(node.id)
        if existing is None or (existing.missing and not node.missing):
            self._nodes[node.id] = node
        return node.id

    def link(self, parent: str, child: str) -> bool:
        """Link a child to a parent it was made from. Return False, and change nothing, if that would close a cycle.

        Raises:
            KeyError: one of them is not in the graph.
        """
        if parent not in self._nodes or child not in self._nodes:
            raise KeyError(parent if parent not in self._nodes else child)
        if parent == child or self._leads(child, parent):
            return False
        self._parents.setdefault(child, {})[parent] = None
        self._children.setdefault(parent, {})[child] = None
        return True

    def parents(self, node_id: str) -> list[str]:
        """Return the nodes that it was made from directly."""
        return list(self._parents.get(node_id, ()))

    def children(self, node_id: str) -> list[str]:
        """Return the nodes that were made from it directly."""
        return list(self._children.get(node_id, ()))

    def upstream(self, node_id: str) -> dict[str, None]:
        """Return all ancestors, the nearest first; a dictionary, because it keeps order and has a fast `in`."""
        return dict.fromkeys(_walk(node_id, self.parents))

    def downstream(self, node_id: str) -> dict[str, None]:
        """Return all descendants, the nearest first."""
        return dict.fromkeys(_walk(node_id, self.children))

    def _leads(self, start: str, end: str) -> bool:
        """True if `end` descends from `start`. Searches from both ends at once, so the shorter side limits the work."""
        after, before = _walk(start, self.children), _walk(end, self.parents)
        return any(end == one or start == other for one, other in zip(after, before, strict=False))

    def nearest(self, start: str, kind: str, direction: Direction = "upstream") -> list[Node]:
        """Return the ancestors or descendants of a kind, the nearest first."""
        walk = self.upstream if direction == "upstream" else self.downstream
        return [self[node_id] for node_id in walk(start) if self[node_id].kind == kind]

    def find(self, name: str) -> list[Node]:
        """Return the nodes of this name, place, digest or run. The first eight digits of a digest are enough."""
        exact = [n for n in self if name and name in (n.id, n.name, n.uri, *n.also)]
        if exact or len(name) < 8 or not all(c in "0123456789abcdef" for c in name):
            return exact
        return [n for n in self if any(alias.startswith(name) for alias in (n.name, *n.also))]


def _walk(start: str, neighbours: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """Yield everything reachable once, breadth first."""
    seen = {start}
    waiting = deque([start])
    while waiting:
        for neighbour in neighbours(waiting.popleft()):
            if neighbour not in seen:
                seen.add(neighbour)
                waiting.append(neighbour)
                yield neighbour


def counts(nodes: Iterable[Node]) -> str:
    """Count the nodes of each kind, in the order in which the kinds first appear."""
    kinds = Counter(node.kind for node in nodes)
    return ", ".join(f"{number:,} {_plural(kind, number)}" for kind, number in kinds.items())


def _plural(kind: str, number: int) -> str:
    return kind if number == 1 or kind.endswith(("s", "ed")) else f"{kind}s"


def tree(graph: Graph, start: str, direction: Direction, most: int = 5) -> list[str]:
    """Return one side of a node as indented lines, for a terminal.

    Args:
        graph: the graph.
        start: id of the node, which has no line of its own.
        direction: the side.
        most: neighbours of one kind that are shown; the others are counted.
    """
    neighbours = graph.parents if direction == "upstream" else graph.children
    shown: set[str] = {start}

    def lines(node_id: str, depth: int) -> Iterator[str]:
        of_kind: Counter[str] = Counter()
        for near in neighbours(node_id):
            node = graph[near]
            of_kind[node.kind] += 1
            if of_kind[node.kind] > most:
                continue
            if near in shown:
                yield f"{'  ' * depth}{node.title} (above)"
                continue
            shown.add(near)
            yield f"{'  ' * depth}{node}"
            yield from lines(near, depth + 1)
        for kind, number in of_kind.items():
            if number > most:
                more = number - most
                yield f"{'  ' * depth}... and {more:,} more {_plural(kind, more)}"

    return list(lines(start, 0))


def table(graph: Graph, start: str, most: int = 200) -> list[dict[str, str]]:
    """Return both sides of a node as table rows for a page, from the farthest upstream to the farthest downstream."""
    before, after = list(graph.upstream(start))[::-1], list(graph.downstream(start))
    sides = (("upstream", before[-most:]), ("start", [start]), ("downstream", after[:most]))
    return [
        {
            "side": side,
            "what": graph[node_id].title,
            "facts": f"MISSING, {graph[node_id].missing}"
            if graph[node_id].missing
            else graph[node_id].brief,
            "place": graph[node_id].uri,
        }
        for side, listed in sides
        for node_id in listed
    ]
