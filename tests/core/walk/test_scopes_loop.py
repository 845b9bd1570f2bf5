"""The rules of loops."""

import gc
import time

import pytest

from gorax_engine.core.commands import OpenStep
from gorax_engine.core.model import Json
from tests.core.walk.flows import begin, broken, fails, flow, formula, gives, node, step

BODY = "t>items items:body>f"


def iterations(output: Json) -> list[Json]:
    return [each.get("output") for each in output["items"]["iterations"]]


def test_a_list_is_gone_through_in_its_order() -> None:
    run = flow(BODY, {"items": node("loop", source="trigger.body"), "f": formula("item * 10")}, body=[3, 1, 2])
    assert run.said == {
        "items": {
            "iteration_count": 3,
            "iterations": [
                {"index": 0, "item": 3, "output": 30},
                {"index": 1, "item": 1, "output": 10},
                {"index": 2, "item": 2, "output": 20},
            ],
        }
    }
    assert run.began == ["t", "items", "items[0].f", "items[1].f", "items[2].f"]
    assert set(run.states.values()) == {"completed"}


def test_an_object_is_gone_through_by_its_sorted_keys() -> None:
    loop = node("loop", source="trigger.body", key_variable="name")
    run = flow(BODY, {"items": loop, "f": formula("name + '=' + item + loop.key")}, body={"b": "2", "a": "1"})
    assert run.said["items"]["iterations"] == [
        {"index": 0, "item": "1", "key": "a", "output": "a=1a"},
        {"index": 1, "item": "2", "key": "b", "output": "b=2b"},
    ]


def test_a_number_counts_from_zero() -> None:
    run = flow(BODY, {"items": node("loop", source=3), "f": formula("item")})
    assert iterations(run.said) == [0, 1, 2]


@pytest.mark.parametrize("source", [0, [], {}])
def test_nothing_to_go_through_is_no_iteration(source: Json) -> None:
    run = flow(f"{BODY} items:done>z", {"items": node("loop", source="trigger.body"), "z": formula("1")}, body=source)
    assert run.said == {"z": 1}
    assert run.outputs["items"] == {"iteration_count": 0, "iterations": []}
    assert "f" not in run.states


@pytest.mark.parametrize("source", [None, "abc", True, 1.5, -1])
def test_anything_else_is_no_source(source: Json) -> None:
    run = flow(BODY, {"items": node("loop", source="trigger.body")}, body=source)
    assert run.said == "failed: type_error"
    assert run.states == {"items": "failed", "t": "completed"}


def test_while_is_tested_before_each_iteration_and_sees_the_one_before() -> None:
    loop = {"items": node("loop", **{"while": "(steps.f ?? 0) < 5"}), "f": formula("loop.index + 3")}
    run = flow(BODY, loop)
    assert run.said["items"] == {
        "iteration_count": 3,
        "iterations": [{"index": n, "item": n, "output": n + 3} for n in range(3)],
    }
    assert flow(BODY, {"items": node("loop", **{"while": "false"})}).said == {
        "items": {"iteration_count": 0, "iterations": []}
    }


def test_a_while_that_is_no_condition_fails_the_loop() -> None:
    assert flow(BODY, {"items": node("loop", **{"while": "1"})}).said == "failed: type_error"
    assert (
        flow(BODY, {"items": node("loop", **{"while": "trigger.body.x > 1"})}, body={}).said == "failed: missing_path"
    )


def test_variables_can_be_named_and_loop_says_the_rest() -> None:
    loop = node("loop", source="trigger.body", item_variable="order", index_variable="n", key_variable="k")
    body = "{'v': order, 'n': n, 'k': k, 'loop': loop}"
    run = flow(BODY, {"items": loop, "f": formula(body)}, body=["a", "b"])
    shared = {"key": None, "total": 2}
    assert iterations(run.said) == [
        {"v": "a", "n": 0, "k": None,
         "loop": {"index": 0, "item": "a", "is_first": True, "is_last": False, **shared}},
        {"v": "b", "n": 1, "k": None,
         "loop": {"index": 1, "item": "b", "is_first": False, "is_last": True, **shared}},
    ]  # fmt: skip


def test_a_while_has_no_total_and_no_last() -> None:
    run = flow(BODY, {"items": node("loop", **{"while": "loop.index < 1"}), "f": formula("[loop.total, loop.is_last]")})
    assert iterations(run.said) == [[None, False]]


def test_paths_of_loops_in_loops() -> None:
    nodes = {
        "items": node("loop", source=4, item_variable="i"),
        "charges": node("loop", source=1, item_variable="j"),
        "f": formula("i * 10 + j + loop.index"),
    }
    run = flow("t>items items:body>charges charges:body>f", nodes)
    assert "items[3].charges[0].f" in run.states
    assert run.outputs["items[3].charges[0].f"] == 30
    assert "items[3].charges" in run.states


def test_the_inner_loop_is_the_one_that_loop_means() -> None:
    nodes = {
        "a": node("loop", source=2),
        "x": formula("loop.total"),
        "b": node("loop", source=3),
        "y": formula("loop.total"),
    }
    run = flow("t>a a:body>x a:body>b b:body>y", nodes)
    assert (run.outputs["a[1].x"], run.outputs["a[1].b[0].y"]) == (2, 3)


def test_an_iteration_gives_its_single_leaf_bare_and_several_by_id() -> None:
    nodes = {"items": node("loop", source=1), "f": formula("1"), "g": formula("2"), "h": formula("3")}
    assert iterations(flow("t>items items:body>f f>g", nodes).said) == [2]
    assert iterations(flow("t>items items:body>f f>g f>h", nodes).said) == [{"g": 2, "h": 3}]


def test_an_iteration_in_which_all_is_skipped_gives_an_empty_object() -> None:
    nodes = {"items": node("loop", source=1), "f": formula("1", {"when": "false"})}
    assert iterations(flow(BODY, nodes).said) == [{}]


def test_too_many_items_fail_before_the_first() -> None:
    run = flow(BODY, {"items": node("loop", source=3, max_iterations=2)})
    assert run.said == "failed: max_iterations"
    assert run.began == ["t", "items"]
    assert flow(BODY, {"items": node("loop", source=2, max_iterations=2)}).said["items"]["iteration_count"] == 2


def test_a_thousand_iterations_are_what_may_be_without_a_word() -> None:
    nodes = {"items": node("loop", source="trigger.body"), "f": formula("1")}
    assert flow(BODY, nodes, body=1_001).said == "failed: max_iterations"
    assert flow(BODY, nodes, body=1_000).said["items"]["iteration_count"] == 1_000


def test_a_while_without_end_fails_after_max_iterations() -> None:
    run = flow(BODY, {"items": node("loop", max_iterations=3, **{"while": "true"})})
    assert run.said == "failed: max_iterations"
    assert len([name for name in run.states if name.endswith(".f")]) == 3
    exact = flow(BODY, {"items": node("loop", max_iterations=3, **{"while": "loop.index < 3"})})
    assert exact.said["items"]["iteration_count"] == 3


def test_one_iteration_at_a_time_unless_it_says_more() -> None:
    assert flow(BODY, {"items": node("loop", source=5)}).busiest == 1
    run = flow(BODY, {"items": node("loop", source=5, max_concurrency=3)})
    assert run.busiest == 3
    assert run.began[2:5] == ["items[0].f", "items[1].f", "items[2].f"]


def test_the_order_of_the_output_is_that_of_the_items() -> None:
    says = {f"items[{n}].f": gives(n, after=100 - n) for n in range(3)}
    assert iterations(flow(BODY, {"items": node("loop", source=3, max_concurrency=3)}, says).said) == [0, 1, 2]


def test_a_failed_iteration_stops_the_loop_and_cancels_its_siblings() -> None:
    says = {"items[0].f": gives(after=50), "items[1].f": fails(after=20), "items[2].f": gives(after=50)}
    run = flow(BODY, {"items": node("loop", source=9, max_concurrency=3)}, says)
    assert run.said == "failed: boom"
    assert run.states == {
        "items": "failed",
        "items[0].f": "cancelled",
        "items[1].f": "failed",
        "items[2].f": "cancelled",
        "t": "completed",
    }


def test_on_error_continue_puts_the_error_into_the_output() -> None:
    nodes = {"items": node("loop", source=3, on_error="continue")}
    output = flow(BODY, nodes, {"items[1].f": fails()}).said["items"]
    assert output["iteration_count"] == 3
    assert [set(each) for each in output["iterations"]] == [
        {"index", "item", "output"},
        {"index", "item", "output", "error"},
        {"index", "item", "output"},
    ]
    failed = output["iterations"][1]
    assert (failed["output"], failed["error"]["code"], failed["error"]["node_id"]) == (None, "boom", "f")


def test_a_break_ends_the_loop_after_its_iteration() -> None:
    nodes = {
        "items": node("loop", source="trigger.body", break_conditions=[{"condition": "steps.f > 3"}]),
        "f": formula("item"),
    }
    assert iterations(flow(BODY, nodes, body=[1, 5, 2]).said) == [1, 5]
    assert iterations(flow(BODY, nodes, body=[1, 2]).said) == [1, 2]


@pytest.mark.parametrize(
    ("operator", "value", "count"),
    [("equals", 2, 2), ("==", 2, 2), ("not_equals", 1, 2), ("!=", 1, 2), ("greater_than", 2, 3), (">", 2, 3),
     ("less_than", 2, 1), ("<", 2, 1), ("greater_or_equal", 2, 2), (">=", 2, 2), ("less_or_equal", 1, 1), ("<=", 1, 1)],
)  # fmt: skip
def test_a_break_in_gorax_s_form(operator: str, value: int, count: int) -> None:
    condition = {"operator": operator, "field": "order", "value": value}
    loop = node("loop", source="trigger.body", item_variable="order", break_conditions=[condition])
    assert flow(BODY, {"items": loop}, body=[1, 2, 3, 4]).said["items"]["iteration_count"] == count


def test_gorax_s_breaks_look_into_text() -> None:
    for operator, value in (("contains", "ell"), ("starts_with", "he"), ("ends_with", "lo")):
        condition = {"operator": operator, "field": "item", "value": value}
        loop = node("loop", source="trigger.body", break_conditions=[condition])
        assert flow(BODY, {"items": loop}, body=["ab", "hello", "x"]).said["items"]["iteration_count"] == 2


def test_breaks_are_judged_in_the_order_of_indexes_while_started_iterations_finish() -> None:
    """Iteration 2 ends first and would break; iteration 0 breaks in its turn, and the others that began finish."""
    says = {f"items[{n}].f": gives(n, after=100 - 10 * n) for n in range(9)}
    loop = node("loop", source=9, max_concurrency=3, break_conditions=[{"condition": "loop.index != 1"}])
    run = flow(BODY, {"items": loop}, says)
    assert run.said["items"]["iteration_count"] == 5  # 0, 1, 2; 3 and 4 began before 0 had ended
    assert iterations(run.said) == [0, 1, 2, 3, 4]
    assert not run.cancelled


def test_a_break_condition_that_has_no_answer_fails_the_loop() -> None:
    loop = node("loop", source=2, break_conditions=[{"condition": "steps.f.gone > 1"}])
    assert flow(BODY, {"items": loop}, {"f": gives({})}).said == "failed: missing_path"
    loop = node("loop", source=2, break_conditions=[{"condition": "1"}])
    assert flow(BODY, {"items": loop}).said == "failed: type_error"


def test_several_break_conditions_any_of_them() -> None:
    conditions = [{"condition": "item == 5"}, {"condition": "item == 2"}]
    loop = node("loop", source=9, break_conditions=conditions)
    assert flow(BODY, {"items": loop}).said["items"]["iteration_count"] == 3


def test_steps_before_the_loop_are_seen_in_it() -> None:
    nodes = {"a": formula("7"), "items": node("loop", source=2), "f": formula("steps.a + item")}
    assert iterations(flow("t>a a>items items:body>f", nodes).said) == [7, 8]


def test_a_source_that_is_missing_fails_the_loop_before_it_begins() -> None:
    run = flow(f"{BODY} items:error>z", {"items": node("loop", source="trigger.body.gone"), "z": step()}, body={})
    assert run.said == {"z": "z"}
    assert run.states["items"] == "failed"
    assert "items" not in run.began


def test_the_config_is_recorded_as_rendered() -> None:
    run = begin(BODY, {"items": node("loop", source="{{ trigger.body.n }}", max_concurrency=2)}, body={"n": 2}).finish()
    (given,) = [command.given for command in run.commands if isinstance(command, OpenStep)]
    assert given == {"source": 2, "max_concurrency": 2}


def test_a_delay_in_each_iteration() -> None:
    nodes = {"items": node("loop", source=3), "f": node("delay", duration="1s")}
    assert flow(BODY, nodes).took >= 3_000_000
    nodes = {"items": node("loop", source=3, max_concurrency=3), "f": node("delay", duration="1s")}
    assert flow(BODY, nodes).took < 1_100_000


def test_a_failed_loop_goes_on_by_its_own_policies() -> None:
    nodes = {
        "items": node("loop", {"on_error": "continue"}, source=1),
        "f": broken(),
        "z": formula("steps.items.error.code"),
    }
    assert flow(f"{BODY} items:done>z", nodes).said == {"z": "boom"}
    nodes = {"items": node("loop", {"retry": {"max_attempts": 2, "initial_delay": 0}}, source=1), "f": step()}
    run = flow(BODY, nodes, {"items[0].f": fails(), "items[0].f#1": gives(5)})
    assert iterations(run.said) == [5]
    assert run.began == ["t", "items", "items[0].f", "items 2", "items[0].f#1"]


def test_ten_thousand_iterations_take_time_in_proportion() -> None:
    def seconds(count: int) -> float:
        nodes = {"items": node("loop", source=count, max_iterations=10_000), "f": formula("item")}
        best = float("inf")
        gc.collect()
        gc.disable()  # it looks at all that other tests have left behind, too
        try:
            for _ in range(3):
                begun = time.thread_time()
                run = flow(BODY, nodes)
                best = min(best, time.thread_time() - begun)
        finally:
            gc.enable()
        assert run.end.output["items"]["iteration_count"] == count
        assert len(run.state.frames) == 1
        return best

    assert seconds(10_000) < 9 * seconds(2_500)
