"""The rules of parallel branches."""

from gorax_engine.core.model import SECOND
from tests.core.walk.flows import broken, fails, flow, formula, gives, node, step

TWO = "t>fan fan:left>a fan:right>b"


def test_all_branches_run_at_once_and_their_outputs_come_together() -> None:
    run = flow(f"{TWO} fan:done>z", {"fan": node("parallel")}, {"a": gives(1, after=2_000), "b": gives(2, after=30)})
    assert run.outputs["fan"] == {
        "branches": [
            {"branch_name": "left", "output": 1, "error": None, "duration_ms": 2},
            {"branch_name": "right", "output": 2, "error": None, "duration_ms": 0},
        ],
        "total_branches": 2,
        "completed_branches": 2,
    }
    assert run.began == ["t", "fan", "fan.left.a", "fan.right.b", "z"]
    assert run.busiest == 2


def test_a_branch_without_a_label_has_the_name_of_its_first_node() -> None:
    run = flow("t>fan fan>a fan>b fan:done>z", {"fan": node("parallel")})
    assert {"fan.a.a", "fan.b.b"} <= set(run.states)


def test_branches_that_the_config_lists_run_in_sequence_where_no_edge_joins_them() -> None:
    branches = [{"name": "one", "nodes": ["a", "b"]}, {"name": "two", "nodes": ["c", "d", "e"]}]
    run = flow("t>fan fan:done>z c>e e>d", {"fan": node("parallel", branches=branches), **{n: step() for n in "abcde"}})
    assert run.said == {"z": "z"}
    assert [name for name in run.began if ".one." in name] == ["fan.one.a", "fan.one.b"]
    assert [name for name in run.began if ".two." in name] == ["fan.two.c", "fan.two.e", "fan.two.d"]
    backward = [{"name": "one", "nodes": ["a", "b"]}]
    run = flow("t>fan b>a", {"fan": node("parallel", branches=backward)})
    assert run.began == ["t", "fan", "fan.one.b", "fan.one.a"]


def test_several_edges_to_one_branch_and_its_leaves() -> None:
    run = flow("t>fan fan:left>a fan:left>b fan:right>c", {"fan": node("parallel")})
    assert [branch["output"] for branch in run.said["fan"]["branches"]] == [{"a": "a", "b": "b"}, "c"]


def test_outputs_of_its_steps_are_seen_after_it() -> None:
    nodes = {"fan": node("parallel"), "a": formula("1"), "b": formula("2"), "z": formula("steps.a + steps.b")}
    assert flow(f"{TWO} fan:done>z", nodes).said == {"z": 3}


def test_max_concurrency_bounds_the_branches() -> None:
    edges = "t>fan fan:a>a fan:b>b fan:c>c c>d"
    run = flow(edges, {"fan": node("parallel", max_concurrency=2)}, {"a": gives(after=50), "b": gives(after=20)})
    assert run.began == ["t", "fan", "fan.a.a", "fan.b.b", "fan.c.c", "fan.c.d"]
    assert run.busiest == 2
    assert flow(edges, {"fan": node("parallel", max_concurrency=0)}).busiest == 3


def test_one_failure_stops_all() -> None:
    run = flow(f"{TWO} b>c", {"fan": node("parallel")}, {"a": fails(), "b": gives(after=50)})
    assert run.said == "failed: boom"
    assert run.states == {
        "fan": "failed",
        "fan.left.a": "failed",
        "fan.right.b": "cancelled",
        "fan.right.c": "skipped",
        "t": "completed",
    }


def test_a_branch_that_has_not_begun_when_all_is_stopped_has_no_rows() -> None:
    run = flow(TWO, {"fan": node("parallel", max_concurrency=1)}, {"a": fails()})
    assert "fan.right.b" not in run.states


def test_failure_mode_continue_waits_for_the_others() -> None:
    for mode in ({"failure_mode": "continue"}, {"error_strategy": "wait_all"}):
        run = flow(TWO, {"fan": node("parallel", **mode)}, {"a": fails(), "b": gives(2, after=50)})
        left, right = run.said["fan"]["branches"]
        assert (left["output"], left["error"]["code"], right["output"]) == (None, "boom", 2)
        assert (run.said["fan"]["total_branches"], run.said["fan"]["completed_branches"]) == (2, 1)
    older = node("parallel", error_strategy="fail_fast")
    assert flow(TWO, {"fan": older}, {"a": fails()}).said == "failed: boom"
    both = node("parallel", error_strategy="wait_all", failure_mode="stop_all")
    assert flow(TWO, {"fan": both}, {"a": fails()}).said == "failed: boom"


def test_the_first_success_is_enough_and_losers_are_cancelled_with_all_that_they_hold() -> None:
    nodes = {"fan": node("parallel", wait_mode="first"), "items": node("loop", source=3)}
    edges = "t>fan fan:left>items items:body>f fan:right>b fan:done>z"
    run = flow(edges, nodes, {"f": gives(after=1_000), "b": gives("won", after=50)})
    assert run.outputs["fan"] == {"first_completed": "right", "result": "won"}
    assert run.states["fan.left.items"] == "cancelled"
    assert run.states["fan.left.items[0].f"] == "cancelled"
    assert run.said == {"z": "z"}


def test_of_the_first_a_failure_is_no_success() -> None:
    run = flow(TWO, {"fan": node("parallel", wait_mode="first")}, {"a": fails(after=5), "b": gives("won", after=50)})
    assert run.said == {"fan": {"first_completed": "right", "result": "won"}}


def test_if_all_fail_the_last_error_counts() -> None:
    nodes = {"fan": node("parallel", wait_mode="first")}
    assert flow(TWO, nodes, {"a": fails("late", after=50), "b": fails("early", after=5)}).said == "failed: late"


def test_of_the_first_only_the_winner_s_outputs_are_seen() -> None:
    nodes = {
        "fan": node("parallel", wait_mode="first"),
        "z": formula("[steps.a ?? 'none', steps.b ?? 'none', steps.c ?? 'none']"),
    }
    run = flow("t>fan fan:left>a a>c fan:right>b fan:done>z", nodes, {"c": gives(after=90), "b": gives(2, after=50)})
    assert run.said == {"z": ["none", 2, "none"]}


def test_a_timeout_is_that_of_the_scope() -> None:
    nodes = {"fan": node("parallel", timeout="30s"), "z": formula("steps.fan.error.code")}
    run = flow(f"{TWO} fan:error>z", nodes, {"a": gives(after=31 * SECOND)})
    assert run.said == {"z": "timeout"}
    assert (run.states["fan"], run.states["fan.left.a"]) == ("failed", "cancelled")
    assert run.states["fan.right.b"] == "completed"
    assert 30 * SECOND < run.took < 30 * SECOND + 100


def test_paths_nest() -> None:
    nodes = {"fan": node("parallel"), "items": node("loop", source=4), "deep": node("parallel"), "a": formula("item")}
    run = flow("t>fan fan:left>items items:body>deep deep:x>a fan:right>b", nodes)
    assert run.outputs["fan.left.items[3].deep.x.a"] == 3


def test_a_branch_whose_steps_are_skipped_is_completed() -> None:
    run = flow(TWO, {"fan": node("parallel"), "a": step(when="false")})
    assert run.said["fan"]["branches"][0]["output"] == {}
    assert run.said["fan"]["completed_branches"] == 2


def test_a_handled_failure_in_a_branch_is_none() -> None:
    nodes = {"fan": node("parallel"), "a": broken(), "c": formula("steps.a.error.code")}
    assert flow(f"{TWO} a:error>c", nodes).said["fan"]["branches"][0]["output"] == "boom"
