"""The graph of what was made from what: walks from both ends agree, whatever the edges; what is shown of it."""

import graphlib

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.lineage.graph import Graph, Node, counts, table, tree

Edges = list[tuple[int, int]]
edges = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40)


def graph_of(wanted: Edges) -> tuple[Graph, set[tuple[str, str]]]:
    """A graph of twelve nodes, and the edges it took."""
    graph = Graph()
    ids = [graph.add(Node(kind="step", name=str(i))) for i in range(12)]
    taken = {(ids[a], ids[b]) for a, b in wanted if graph.link(ids[a], ids[b])}
    return graph, taken


@given(edges)
def test_no_circle_is_taken_in_and_nothing_else_is_left_out(wanted: Edges) -> None:
    graph, taken = graph_of(wanted)
    order = graphlib.TopologicalSorter({n.id: graph.parents(n.id) for n in graph})
    place = {node: i for i, node in enumerate(order.static_order())}  # raises on a circle
    assert all(place[parent] < place[child] for parent, child in taken)
    for a, b in wanted:
        parent, child = f"step {a}", f"step {b}"
        circle = parent == child or child in graph.upstream(parent)
        assert ((parent, child) in taken) != circle


@given(edges)
def test_both_directions_agree(wanted: Edges) -> None:
    graph, taken = graph_of(wanted)
    ids = [node.id for node in graph]
    up = {i: set(graph.upstream(i)) for i in ids}
    down = {i: set(graph.downstream(i)) for i in ids}
    for a in ids:
        assert a not in up[a] | down[a]
        assert set(graph.children(a)) <= down[a] and set(graph.parents(a)) <= up[a]
        for b in ids:
            assert (b in down[a]) == (a in up[b])
    closed = set(taken)  # the transitive closure, worked out in another way
    for middle in ids:
        closed |= {(a, b) for a in ids for b in ids if {(a, middle), (middle, b)} <= closed}
    assert closed == {(a, b) for a in ids for b in down[a]}


@given(edges, st.integers(0, 11), st.sampled_from(["upstream", "downstream"]))
def test_the_tree_shows_everything_once(wanted: Edges, at: int, side: str) -> None:
    graph, _ = graph_of(wanted)
    start = f"step {at}"
    walk = graph.upstream(start) if side == "upstream" else graph.downstream(start)
    shown = tree(graph, start, side, most=12)  # type: ignore[arg-type]
    assert sorted(s.strip() for s in shown if not s.endswith("(above)")) == sorted(walk)
    assert len(table(graph, start)) == 1 + len(graph.upstream(start)) + len(graph.downstream(start))


def test_many_of_a_kind_are_counted() -> None:
    graph = Graph()
    start = graph.add(Node(kind="version", name="reviews/1"))
    for night in range(9):
        graph.link(start, graph.add(Node(kind="scoring run", name=f"n{night}", brief="3 objects")))
    assert tree(graph, start, "downstream", most=2) == [
        "scoring run n0: 3 objects",
        "scoring run n1: 3 objects",
        "... and 7 more scoring runs",
    ]
    assert counts(graph) == "1 version, 9 scoring runs"


def test_what_is_there_takes_the_place_of_what_was_missed() -> None:
    graph = Graph()
    gone = Node(kind="split", name="a" * 32, uri="s3://b/x", missing="its folder is gone")
    graph.add(gone)
    assert str(gone) == "split aaaaaaaaaaaa: MISSING, its folder is gone  s3://b/x"
    graph.add(Node(kind="split", name="a" * 32, brief="60 rows"))
    graph.add(gone)
    assert [n.missing for n in graph] == [""]
    assert graph.find("a" * 8) == graph.find("a" * 32) and not graph.find("a" * 7)
