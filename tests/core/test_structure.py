"""Dividing graphs into scopes: what belongs to which body, which edges are ignored, and every way to leak."""

from typing import Any

import pytest

from gorax_engine.core.structure import GraphEdge, GraphNode, divide, imply, topological_order

TYPES = {"l": "loop", "p": "parallel", "y": "try", "r": "retry", "x": "circuit_breaker", "m": "loop", "z2": "try"}


class Divided:
    """A graph written as `t>l l:body>a`, divided. The type of a node is that of its first letter in `TYPES`."""

    def __init__(self, edges: str, configs: dict[str, dict[str, Any]] | None = None, more: str = "") -> None:
        configs = configs or {}
        pairs = [edge.partition(">")[::2] for edge in edges.split()]
        parts = [(*source.partition(":")[::2], target) for source, target in pairs]
        names = [*dict.fromkeys([name for source, _, target in parts for name in (source, target)] + more.split())]
        self.names = names
        self.told: list[tuple[str, int | str]] = []
        nodes = [GraphNode(name, TYPES.get(name[0], "plain"), configs.get(name, {})) for name in names]
        nodes = [GraphNode(node.id, "catch", node.config) if node.id[0] == "k" else node for node in nodes]
        links = [
            GraphEdge(names.index(source), names.index(target), label or None, at)
            for at, (source, label, target) in enumerate(parts)
        ]
        implied = imply(nodes, links, self._report)
        order = topological_order(len(nodes), implied)
        assert order is not None
        self.structure = divide(nodes, implied, order, self._report)

    def _report(self, code: str, edge: int | None, node: int | None, message: str) -> None:
        assert message.endswith(".")
        assert (edge is None) != (node is None)
        self.told.append((code, edge if edge is not None else self.names[node or 0]))

    @property
    def bodies(self) -> dict[str, list[str]]:
        """The members of each body, by scope and name of the body."""
        return {
            "top" if part.owner is None else f"{self.names[part.owner]}:{part.name}"
            + (str(part.handler) if part.name == "catch" else ""): [self.names[at] for at in part.members]
            for part in self.structure.parts
        }  # fmt: skip

    @property
    def edges(self) -> dict[str, list[str]]:
        return {
            name: [f"{self.names[edge.source]}>{self.names[edge.target]}" for edge in part.edges]
            for name, part in zip(self.bodies, self.structure.parts, strict=True)
        }


def test_a_graph_without_scopes_is_one_part() -> None:
    divided = Divided("t>a a>b t>b")
    assert divided.bodies == {"top": ["t", "a", "b"]}
    assert divided.edges == {"top": ["t>a", "t>b", "a>b"]}
    assert divided.told == []


def test_a_body_is_what_is_reached_from_its_entry_and_not_from_an_exit() -> None:
    divided = Divided("t>l l:body>a a>b a>c b>d l:done>z z>w l:error>e")
    assert divided.bodies == {"top": ["t", "l", "z", "w", "e"], "l:body": ["a", "b", "c", "d"]}
    assert divided.edges == {"top": ["t>l", "l>z", "l>e", "z>w"], "l:body": ["a>b", "a>c", "b>d"]}
    assert divided.told == []


@pytest.mark.parametrize("scope", ["l", "r", "x", "y"])
def test_of_edges_without_labels_the_first_is_the_body(scope: str) -> None:
    divided = Divided(f"t>{scope} {scope}>a {scope}>b a>c b>d")
    assert list(divided.bodies.values()) == [["t", scope, "b", "d"], ["a", "c"]]
    assert divided.told == []


def test_beside_a_labelled_entry_an_edge_without_label_leads_out() -> None:
    assert Divided("t>l l>z l:body>a").bodies == {"top": ["t", "l", "z"], "l:body": ["a"]}
    assert Divided("t>l l:anything>z l>a").bodies == {"top": ["t", "l", "z"], "l:body": ["a"]}


def test_a_body_may_have_several_entries() -> None:
    divided = Divided("t>l l:body>a l:body>b a>b")
    assert divided.bodies["l:body"] == ["a", "b"]


def test_branches_have_the_names_of_their_labels_or_of_their_first_nodes() -> None:
    divided = Divided("t>p p:left>a a>c p:left>d p>b p:done>z p:error>e")
    assert divided.bodies == {"top": ["t", "p", "z", "e"], "p:left": ["a", "c", "d"], "p:b": ["b"]}
    assert divided.told == []


def test_the_bodies_of_a_try() -> None:
    divided = Divided("t>y y:try>a a>b y:catch>c y:finally>f y:done>z y:error>e")
    assert divided.bodies == {
        "top": ["t", "y", "z", "e"],
        "y:try": ["a", "b"],
        "y:catch0": ["c"],
        "y:finally": ["f"],
    }


def test_each_catch_node_heads_a_handler_and_the_rest_is_one() -> None:
    divided = Divided("t>y y>a y:catch>k1 y:catch>c y:catch>k2 y:catch>d k1>e")
    assert divided.bodies == {
        "top": ["t", "y"],
        "y:try": ["a"],
        "y:catch0": ["k1", "e"],
        "y:catch1": ["k2"],
        "y:catch2": ["c", "d"],
    }


def test_handlers_that_the_config_has_take_the_catch_edges_in_their_order() -> None:
    configs = {"y": {"catches": [{"error_types": ["a"]}, {"nodes": ["named"]}, {}]}}
    divided = Divided("t>y y:try>a y:catch>c y:catch>d y:catch>k", configs, more="named")
    assert divided.bodies == {
        "top": ["t", "y"],
        "y:try": ["a"],
        "y:catch0": ["c"],
        "y:catch1": ["named"],
        "y:catch2": ["d"],
        "y:catch3": ["k"],
    }


def test_lists_in_a_config_are_bodies_in_sequence() -> None:
    configs = {"y": {"try_nodes": ["a", "b", "c"], "catch_nodes": ["d", "e"], "finally_nodes": ["f"]}}
    divided = Divided("t>y y>z", configs, more="a b c d e f")
    assert divided.told == []
    assert divided.bodies == {
        "top": ["t", "y", "z"],
        "y:try": ["a", "b", "c"],
        "y:catch0": ["d", "e"],
        "y:finally": ["f"],
    }
    assert divided.edges["y:try"] == ["a>b", "b>c"]
    assert divided.edges["y:catch0"] == ["d>e"]


def test_where_edges_join_listed_nodes_they_are_the_order() -> None:
    configs = {"p": {"branches": [{"name": "one", "nodes": ["a", "b", "c", "d"]}]}}
    assert sorted(Divided("t>p a>c a>b b>d c>d", configs).edges["p:one"]) == ["a>b", "a>c", "b>d", "c>d"]
    divided = Divided("t>p a>c c>b", configs, more="d")
    assert sorted(divided.edges["p:one"]) == ["a>c", "c>b"]
    assert divided.told == []
    backward = {"p": {"branches": [{"name": "one", "nodes": ["a", "b", "c"]}]}}
    assert sorted(Divided("t>p c>a", backward, more="b").edges["p:one"]) == ["a>b", "c>a"]


def test_an_edge_to_a_listed_node_needs_no_label() -> None:
    configs = {"p": {"branches": [{"name": "one", "nodes": ["a", "b"]}, {"name": "two", "nodes": ["c"]}]}}
    divided = Divided("t>p p>a p>c p>z", configs, more="b")
    assert divided.bodies == {"top": ["t", "p", "z"], "p:one": ["a", "b"], "p:two": ["c"]}


def test_a_list_that_names_no_node() -> None:
    assert Divided("t>y y:try>a", {"y": {"catch_nodes": ["gone", 3]}}).told == [
        ("unknown_reference", "y"),
        ("unknown_reference", "y"),
    ]


def test_scopes_nest() -> None:
    divided = Divided("t>l l:body>y y:try>m m:body>a m:done>b y:finally>f y:done>c l:done>z")
    assert divided.bodies == {
        "top": ["t", "l", "z"],
        "l:body": ["y", "c"],
        "y:try": ["m", "b"],
        "y:finally": ["f"],
        "m:body": ["a"],
    }
    names, structure = divided.names, divided.structure
    assert [names[at] for at in structure.chain(names.index("a"))] == ["l", "y", "m", "a"]
    assert [names[at] for at in structure.chain(names.index("t"))] == ["t"]
    assert [part.name for part in structure.bodies[names.index("y")]] == ["try", "finally"]


def test_scopes_in_sequence_share_nothing() -> None:
    divided = Divided("t>l l:body>a l:done>m m:body>b m:done>z")
    assert divided.bodies == {"top": ["t", "l", "m", "z"], "l:body": ["a"], "m:body": ["b"]}


def test_an_edge_to_what_an_exit_reaches_is_ignored_with_a_warning() -> None:
    divided = Divided("t>l l:body>a a>z l:done>w w>z a>w")
    assert divided.told == [("edge_ignored", 2), ("edge_ignored", 5)]
    assert divided.bodies == {"top": ["t", "l", "z", "w"], "l:body": ["a"]}
    assert divided.edges["top"] == ["t>l", "l>w", "w>z"]
    nested = Divided("t>l l:body>y y:try>a y:done>b a>b a>z l:done>z")
    assert nested.told == [("edge_ignored", 5), ("edge_ignored", 4)]
    assert nested.bodies == {"top": ["t", "l", "z"], "l:body": ["y", "b"], "y:try": ["a"]}


@pytest.mark.parametrize(
    ("edges", "told"),
    [
        ("t>l l:body>a t>a", [("scope_leak", 2)]),
        ("t>l l:body>a a>b t>c c>b", [("scope_leak", 4)]),
        ("t>y y:try>a y:catch>c a>c", [("scope_leak", "c")]),
        ("t>y y:try>a y:catch>a", [("scope_leak", "a")]),
        ("t>p p:one>a p:two>b a>c b>c", [("scope_leak", "c"), ("scope_leak", 4)]),
        ("t>l l:body>a t>m m:body>b a>b", [("scope_leak", 3)]),
        ("t>l l:body>y y:try>a t>a", [("scope_leak", 3)]),
    ],
)
def test_other_edges_across_a_border_leak(edges: str, told: list[tuple[str, int | str]]) -> None:
    leaks = Divided(edges).told
    assert leaks == told


@pytest.mark.parametrize(
    ("edges", "scope"),
    [
        ("t>l l:done>z", "l"),
        ("t>l", "l"),
        ("t>y y:catch>c", "y"),
        ("t>p p:done>z", "p"),
        ("t>p", "p"),
        ("t>r r:error>z", "r"),
    ],
)
def test_a_scope_needs_a_body(edges: str, scope: str) -> None:
    assert Divided(edges).told == [("invalid_config", scope)]


def test_an_entry_that_an_exit_reaches_too_is_no_body() -> None:
    assert Divided("t>l l:body>a l:done>a").told == [("invalid_config", "l")]


def test_circles_have_no_order() -> None:
    assert topological_order(2, [GraphEdge(0, 1, None, 0), GraphEdge(1, 0, None, 1)]) is None
    assert topological_order(3, [GraphEdge(2, 0, None, 0)]) == [1, 2, 0]
