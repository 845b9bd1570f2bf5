"""What reading a definition says about scopes: bodies, borders, what can be seen from where."""

from __future__ import annotations

from typing import Any

import pytest

from gorax_engine.core.model import Json
from gorax_engine.core.reading import Reading, read
from tests.core.walk.test_language import FAIL, TYPES, flow, run, say, scope

LOOP = scope("loop", source=3)


def codes(definition: Json) -> set[str]:
    reading = read(definition, TYPES)
    return {problem.code for problem in (*reading.problems, *reading.warnings)}


def the(reading: Reading, code: str) -> tuple[str, str]:
    (problem,) = [each for each in (*reading.problems, *reading.warnings) if each.code == code]
    return problem.pointer, problem.message


class TestBodies:
    @pytest.mark.parametrize("edges", ["s-body>a s-done>b", "s>a s>b", "s>a s-elsewhere>b", "s-body>a s>b"])
    @pytest.mark.parametrize("kind", ["loop", "retry", "circuit_breaker"])
    def test_entries_and_exits(self, kind: str, edges: str) -> None:
        config = {"source": 2} if kind == "loop" else {}
        finished = run(flow(f"start>s {edges}", s=scope(kind, **config)))
        assert finished.output == {"b": "b"}
        assert finished.begun.count("b") == 1

    def test_of_a_try_the_first_unlabelled_edge_is_the_body(self) -> None:
        finished = run(flow("start>t t>a t-catch>c t>after", t=scope("try"), a=FAIL))
        assert finished.output == {"after": "after"}
        assert "c" in finished.ran

    def test_error_is_no_exit_of_its_own(self) -> None:
        assert run(flow("start>s s-body>a s-error>mend", s=LOOP, a=FAIL)).output == {"mend": "mend"}

    def test_the_handle_of_an_editor_will_do(self) -> None:
        definition = flow("start>s s-body>a s-done>b", s=LOOP)
        for edge in definition["edges"]:
            if "label" in edge:
                edge["sourceHandle"] = edge.pop("label")
        assert run(definition).output == {"b": "b"}

    def test_nodes_that_a_config_lists_run_in_sequence_where_no_edge_joins_them(self) -> None:
        branches = [{"name": "left", "nodes": ["a", "b"]}, {"name": "right", "nodes": ["c", "d"]}]
        definition = flow(
            "start>p d>c p-done>after", p=scope("parallel", branches=branches), a=say("1"), b=say("steps.a"),
            d=say("2"), c=say("steps.d"),
        )  # fmt: skip
        outputs = [each["output"] for each in run(definition).outputs["p"]["branches"]]
        assert outputs == [1, 2]

    def test_a_list_that_names_no_node(self) -> None:
        definition = flow("start>p", p=scope("parallel", branches=[{"name": "left", "nodes": ["nowhere"]}]))
        assert the(read(definition, TYPES), "unknown_reference")[0] == "/nodes/1"

    def test_an_empty_body_is_refused(self) -> None:
        assert "empty" in the(read(flow("start>s s-done>b", s=LOOP), TYPES), "invalid_config")[1]


class TestBorders:
    def test_an_edge_to_what_the_exit_leads_to_is_ignored_with_a_warning(self) -> None:
        definition = flow("start>s s-body>a a>after s-done>after", s=LOOP)
        reading = read(definition, TYPES)
        assert reading.problems == ()
        assert the(reading, "edge_ignored")[0] == "/edges/2"
        assert run(definition).begun.count("after") == 1

    @pytest.mark.parametrize(
        "edges",
        ["start>s s-body>a start>a", "start>s s-body>a a>b start>b", "start>p p-x>a p-y>a", "start>p p-x>a p-y>b a>b"],
    )
    def test_any_other_edge_across_a_border_leaks(self, edges: str) -> None:
        assert "scope_leak" in codes(flow(edges, **({"s": LOOP} if "s-" in edges else {"p": scope("parallel")})))

    def test_an_edge_into_a_body_of_an_inner_scope_leaks_too(self) -> None:
        definition = flow("start>s s-body>a a>t t-try>b a>b", s=LOOP, t=scope("try"))
        assert "scope_leak" in codes(definition)

    def test_a_join_that_needs_more_than_can_come(self) -> None:
        join = scope("join", join_strategy="wait_n", required_count=3)
        pointer, message = the(read(flow("start>a start>b a>j b>j", j=join), TYPES), "invalid_config")
        assert pointer == "/nodes/3/config/required_count"
        assert "3 arrivals" in message


class TestWhatCanBeSeen:
    def faults(self, edges: str, output: Json = None, **nodes: Any) -> set[str]:
        return {problem.code for problem in read(flow(edges, output, **nodes), TYPES).problems}

    def test_a_body_sees_what_came_before_its_scope(self) -> None:
        assert self.faults("start>a a>s s-body>b", s=LOOP, b=say("steps.a")) == set()

    def test_steps_of_a_loop_are_in_its_iterations_alone(self) -> None:
        assert self.faults("start>s s-body>b s-done>c", s=LOOP, c=say("steps.b")) == {"not_before"}
        assert self.faults("start>s s-body>b", "{{ steps.b }}", s=LOOP) == {"not_before"}
        assert self.faults("start>s s-body>b s-done>c", s=LOOP, c=say("steps.s.iterations[0].output")) == set()

    @pytest.mark.parametrize("kind", ["try", "parallel", "retry", "circuit_breaker"])
    def test_steps_of_other_scopes_can_be_seen_after_them(self, kind: str) -> None:
        assert self.faults("start>s s>b s-done>c", "{{ steps.b }}", s=scope(kind), c=say("steps.b")) == set()

    @pytest.mark.parametrize("kind", ["loop", "try", "retry"])
    def test_the_scope_around_is_not_over(self, kind: str) -> None:
        config = {"source": 1} if kind == "loop" else {}
        assert self.faults("start>s s>b", s=scope(kind, **config), b=say("steps.s")) == {"not_before"}

    def test_a_catch_and_a_finally_see_the_try(self) -> None:
        edges = "start>t t-try>a t-catch>c t-finally>f"
        assert self.faults(edges, t=scope("try"), c=say("steps.a"), f=say("[steps.a, steps.c]")) == set()
        assert self.faults(edges, t=scope("try"), a=say("steps.c")) == {"not_before"}
        assert self.faults(edges, t=scope("try"), c=say("steps.f")) == {"not_before"}

    def test_branches_and_handlers_don_t_see_each_other(self) -> None:
        assert self.faults("start>p p-x>a p-y>b", p=scope("parallel"), b=say("steps.a")) == {"not_before"}
        nodes = {"h": scope("catch"), "i": scope("catch")}
        assert self.faults("start>t t-try>a t-catch>h t-catch>i h>b", t=scope("try"), **nodes) == set()

    @pytest.mark.parametrize("name", ["item", "loop", "i", "k"])
    def test_names_of_a_loop_are_known_in_its_body_alone(self, name: str) -> None:
        loop = scope("loop", source=1, index_variable="i", key_variable="k")
        assert self.faults("start>s s-body>b", s=loop, b=say(f"{name} == 1")) == set()
        assert self.faults("start>s s-body>b s-done>c", s=loop, c=say(f"{name} == 1")) == {"unknown_reference"}

    def test_the_error_is_known_in_its_handler_alone(self) -> None:
        edges = "start>t t-try>a t-catch>c t-finally>f"
        assert self.faults(edges, t=scope("try"), c=say("error.code")) == set()
        assert self.faults(edges, t=scope("try"), f=say("error.code")) == {"unknown_reference"}

    @pytest.mark.parametrize("name", ["trigger", "steps", "env", "vars", "credentials", "loop", "true", "1x", "a.b"])
    def test_names_that_a_variable_can_t_have(self, name: str) -> None:
        loop = scope("loop", source=1, item_variable=name)
        assert self.faults("start>s s-body>b", s=loop) == {"invalid_config"}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("loop", {}),
        ("loop", {"source": 1, "while": "true"}),
        ("loop", {"source": 1, "max_iterations": 100_001}),
        ("loop", {"source": 1, "on_error": "ignore"}),
        ("loop", {"source": 1, "break_conditions": [{"field": "item"}]}),
        ("parallel", {"wait_mode": "some"}),
        ("parallel", {"branches": [{"name": "done", "nodes": ["b"]}]}),
        ("parallel", {"branches": [{"name": "a.b", "nodes": ["b"]}]}),
        ("try", {"catches": [{"error_patterns": ["("]}]}),
        ("try", {"catches": [{"propagate_as": "two words"}]}),
        ("retry", {"max_attempts": 0}),
        ("retry", {"strategy": "soon"}),
        ("circuit_breaker", {"failure_threshold": 2}),
    ],
)
def test_bad_configs(kind: str, config: dict[str, Any]) -> None:
    assert "invalid_config" in codes(flow("start>s s>b", s=scope(kind, **config)))


@pytest.mark.parametrize(
    "config", [{"join_strategy": "wait_n"}, {"join_strategy": "some"}, {"on_timeout": "hope"}, {"timeout": "soon"}]
)
def test_bad_joins(config: dict[str, Any]) -> None:
    assert "invalid_config" in codes(flow("start>j", j=scope("join", **config)))


@pytest.mark.parametrize("config", [{}, {"workflow_id": "x", "mode": "later"}, {"workflow_id": "x", "timeout": "soon"}])
def test_bad_sub_workflows(config: dict[str, Any]) -> None:
    assert "invalid_config" in codes(flow("start>s", s=scope("sub_workflow", **config)))
