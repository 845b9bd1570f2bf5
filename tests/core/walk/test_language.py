"""The rules of scopes and joins in docs/workflow-language.md, one by one, on definitions with the real node types."""

from __future__ import annotations

from typing import Any

import pytest

from gorax_engine.core.events import RunCancelled, RunFailed
from gorax_engine.core.model import SECOND, Classification, Completed, Failed, Json, StepError
from gorax_engine.core.states import ExecutionState
from gorax_engine.nodes.api import NodeContext, NodeKind, NodeSpec, Outcome
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from tests.core.walk.in_memory import START, Finished, run_definition

BROKEN = Failed(StepError("broken", "It broke."))
BUSY = Failed(StepError("timeout", "It took too long.", Classification.TRANSIENT))
FAIL: dict[str, Any] = {"type": "fail", "config": {"code": "broken", "message": "It broke."}}


class Call:
    """A task that the script answers."""

    spec = NodeSpec("call", NodeKind.TASK, {"type": "object", "properties": {}}, title="Call", description="Calls.")

    async def run(self, config: Any, context: NodeContext) -> Outcome:
        raise AssertionError("it is answered by the script")


TYPES = NodeRegistry(builtin_nodes([Call()]))


def say(expression: str, **more: Any) -> dict[str, Any]:
    """A formula."""
    return {"type": "formula", "config": {"expression": expression}, **more}


def wait(seconds: float, **more: Any) -> dict[str, Any]:
    return {"type": "delay", "config": {"duration": seconds}, **more}


def scope(kind: str, policies: dict[str, Any] | None = None, /, **config: Any) -> dict[str, Any]:
    return {"type": kind, "config": config, **(policies or {})}


CALL: dict[str, Any] = {"type": "call"}


def flow(edges: str, output: Json = None, settings: Json = None, **nodes: dict[str, Any]) -> dict[str, Any]:
    """A definition from `start>items items-body>price`: `start` is its trigger, others are said by `nodes`.

    What `nodes` doesn't know gives its own name.
    """
    read = [edge.partition(">") for edge in edges.split()]
    pairs = [(*source.partition("-")[::2], target) for source, _, target in read]
    names = dict.fromkeys([name for source, _, target in pairs for name in (source, target)] + list(nodes))
    made = [
        {"id": name, **({"type": "manual_trigger"} if name == "start" else nodes.get(name) or say(f"'{name}'"))}
        for name in names
    ]
    arrows = [
        {"source": source, "target": target, **({"label": label} if label else {})} for source, label, target in pairs
    ]
    more = {"output": output} if output is not None else {}
    return {"nodes": made, "edges": arrows, "settings": settings or {}, **more}


def run(definition: Json, body: Json = None, **more: Any) -> Finished:
    return run_definition(definition, body, registry=TYPES, **more)


def loop(expression: str = "item", extra: str = "", output: Json = None, **config: Any) -> dict[str, Any]:
    """A loop with one step in its body."""
    return flow(f"start>items items-body>each {extra}", output, items=scope("loop", **config), each=say(expression))


class TestLoop:
    def test_a_list_in_its_order(self) -> None:
        finished = run(loop("item * 10 + loop.index", source="trigger.body"), [5, 7])
        assert finished.output["items"] == {
            "iteration_count": 2,
            "iterations": [{"index": 0, "item": 5, "output": 50}, {"index": 1, "item": 7, "output": 71}],
        }

    def test_an_object_in_the_order_of_its_keys(self) -> None:
        finished = run(loop("[k, loop.key, item]", source="trigger.body", key_variable="k"), {"b": 1, "a": 2})
        assert finished.output["items"]["iterations"] == [
            {"index": 0, "item": 2, "key": "a", "output": ["a", "a", 2]},
            {"index": 1, "item": 1, "key": "b", "output": ["b", "b", 1]},
        ]

    def test_a_number_counts_from_zero(self) -> None:
        finished = run(loop("item", source="trigger.body"), 3)
        assert [each["output"] for each in finished.output["items"]["iterations"]] == [0, 1, 2]

    def test_a_literal_source_and_a_template(self) -> None:
        assert run(loop(source=2)).output["items"]["iteration_count"] == 2
        assert run(loop(source=["a"])).output["items"]["iteration_count"] == 1
        assert run(loop(source="${trigger.body}"), [1, 2, 3]).output["items"]["iteration_count"] == 3

    @pytest.mark.parametrize("source", ["text", 1.5, True, None])
    def test_nothing_else_can_be_gone_through(self, source: Json) -> None:
        assert run(loop(source="trigger.body"), source).error == StepError(
            "type_error", "The `source` of the loop items must be a list, an object or a whole number."
        )

    def test_nothing_is_no_iteration(self) -> None:
        assert run(loop(source="trigger.body"), []).output == {"items": {"iteration_count": 0, "iterations": []}}

    def test_what_loop_says(self) -> None:
        finished = run(loop("loop", source="trigger.body", item_variable="x", index_variable="i"), ["a", "b"])
        first, last = (each["output"] for each in finished.output["items"]["iterations"])
        assert first == {"index": 0, "item": "a", "key": None, "total": 2, "is_first": True, "is_last": False}
        assert last == {"index": 1, "item": "b", "key": None, "total": 2, "is_first": False, "is_last": True}
        assert run(loop("[x, i]", source=["a"], item_variable="x", index_variable="i")).outputs["items[0].each"] == [
            "a",
            0,
        ]

    def test_gorax_looks_its_variables_up_as_steps(self) -> None:
        definition = loop("[steps.line.id, steps._loop.index, steps._loop.total_items]", source="trigger.body",
                          item_variable="line")  # fmt: skip
        assert run(definition, [{"id": 7}]).outputs["items[0].each"] == [7, 0, 1]

    def test_while_is_tested_before_each_iteration_and_sees_the_one_before(self) -> None:
        definition = loop("item * item", **{"while": "loop.index == 0 or steps.each < 5"})
        finished = run(definition)
        assert [each["output"] for each in finished.output["items"]["iterations"]] == [0, 1, 4, 9]
        assert run(loop(**{"while": "false"})).output["items"]["iteration_count"] == 0

    def test_more_items_than_max_iterations_fail_it_before_the_first(self) -> None:
        finished = run(loop(source="trigger.body", max_iterations=2), [1, 2, 3])
        assert finished.error is not None
        assert finished.error.code == "max_iterations"
        assert finished.begun == ["start"]

    def test_the_default_is_a_thousand(self) -> None:
        finished = run(loop(source=1_001))
        assert finished.error is not None
        assert finished.error.code == "max_iterations"
        assert run(loop(source=1_000)).status is ExecutionState.COMPLETED

    def test_a_while_without_end_fails(self) -> None:
        finished = run(loop(max_iterations=3, **{"while": "true"}))
        assert finished.error is not None
        assert finished.error.code == "max_iterations"
        assert len(finished.begun) == 1 + 3

    def test_max_concurrency(self) -> None:
        def most(**config: Any) -> tuple[int, float]:
            finished = run(flow("start>items items-body>each", items=scope("loop", source=6, **config), each=wait(10)))
            return finished.most, round(finished.seconds)

        assert most() == (1, 60)
        assert most(max_concurrency=3) == (3, 20)

    def test_results_are_in_order_whenever_they_came(self) -> None:
        definition = flow(
            "start>items items-body>nap nap>each",
            items=scope("loop", source="trigger.body", max_concurrency=3),
            nap={"type": "delay", "config": {"duration": "{{ item }}"}},
            each=say("item"),
        )
        finished = run(definition, [30, 10, 20])
        assert [each["output"] for each in finished.output["items"]["iterations"]] == [30, 10, 20]

    def test_on_error_stop_cancels_what_runs_and_fails_it(self) -> None:
        definition = flow(
            "start>items items-body>pick pick-true>bad pick-false>nap",
            items=scope("loop", source=3, max_concurrency=3),
            pick=scope("condition", condition="item == 1"),
            bad=FAIL,
            nap=wait(60),
        )
        finished = run(definition)
        assert finished.error == StepError("broken", "It broke.")
        assert (finished.steps["items[0].nap"], finished.steps["items[2].nap"]) == ("cancelled", "cancelled")

    def test_on_error_continue_leaves_the_error_in_its_entry(self) -> None:
        finished = run(loop("trigger.body[item].x", source=2, on_error="continue"), [{"x": 1}])
        first, second = finished.output["items"]["iterations"]
        assert first == {"index": 0, "item": 0, "output": 1}
        assert second["output"] is None
        assert (second["error"]["code"], second["error"]["node_id"]) == ("missing_path", "each")
        assert finished.status is ExecutionState.COMPLETED

    def test_break_conditions_are_judged_in_index_order_and_started_iterations_finish(self) -> None:
        definition = flow(
            "start>items items-body>nap nap>each",
            items=scope("loop", source=9, max_concurrency=3, break_conditions=[{"condition": "item == 1"}]),
            nap={"type": "delay", "config": {"duration": "{{ item < 3 ? 30 - 10 * item : 100 }}"}},
            each=say("item"),
        )
        finished = run(definition)
        # The second ends before the first, and is judged after it; by then the fourth and fifth have begun.
        assert [each["output"] for each in finished.output["items"]["iterations"]] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize(
        "condition",
        [
            {"condition": "steps.each >= 2"},
            {"field": "steps.each", "operator": "equals", "value": 2},
            {"field": "loop.index", "operator": ">=", "value": 2},
            {"field": "string(item)", "operator": "ends_with", "value": "2"},
        ],
    )
    def test_a_break_ends_it_after_the_iteration(self, condition: dict[str, Any]) -> None:
        finished = run(loop("item", source=9, break_conditions=[condition]))
        assert finished.output["items"]["iteration_count"] == 3

    def test_a_break_condition_that_can_not_be_judged_fails_it(self) -> None:
        finished = run(loop("item", source=3, break_conditions=[{"condition": "steps.each + 1"}]))
        assert finished.error is not None
        assert finished.error.code == "type_error"

    def test_iterations_follow_the_rule_of_the_output(self) -> None:
        definition = flow("start>items items-body>a items-body>b", items=scope("loop", source=1))
        assert run(definition).output["items"]["iterations"][0]["output"] == {"a": "a", "b": "b"}

    def test_stop_ends_the_run_from_within(self) -> None:
        definition = flow(
            "start>items items-body>end items-done>after",
            items=scope("loop", source=3),
            end=scope("stop", output="enough"),
        )
        finished = run(definition)
        assert (finished.status, finished.output) == (ExecutionState.COMPLETED, "enough")
        assert finished.steps["after"] == "skipped"

    def test_a_failure_may_be_handled_in_the_iteration(self) -> None:
        definition = flow(
            "start>items items-body>bad bad-error>mend", items=scope("loop", source=2), bad=FAIL,
            mend=say("steps.bad.error.code"),
        )  # fmt: skip
        assert [each["output"] for each in run(definition).output["items"]["iterations"]] == ["broken", "broken"]


class TestParallel:
    def test_all(self) -> None:
        finished = run(flow("start>both both-left>a both-right>b both-done>after", both=scope("parallel"), b=wait(2)))
        branches = finished.outputs["both"]["branches"]
        assert [(each["branch_name"], each["error"], each["duration_ms"]) for each in branches] == [
            ("left", None, 0),
            ("right", None, 2000),
        ]
        assert branches[0]["output"] == "a"
        assert finished.outputs["both"]["total_branches"] == finished.outputs["both"]["completed_branches"] == 2
        assert round(finished.seconds) == 2

    def test_an_edge_without_a_label_is_the_branch_of_its_target(self) -> None:
        finished = run(flow("start>both both>a both>b both-done>c", both=scope("parallel")))
        assert [each["branch_name"] for each in finished.outputs["both"]["branches"]] == ["a", "b"]
        assert finished.output == {"c": "c"}

    def test_first_takes_the_first_success_and_cancels_the_rest_with_all_they_hold(self) -> None:
        definition = flow(
            "start>race race-a>bad race-b>quick race-c>items items-body>slow",
            race=scope("parallel", wait_mode="first"),
            bad=FAIL,
            quick=wait(1),
            items=scope("loop", source=2, max_concurrency=2),
            slow=wait(60),
        )
        finished = run(definition)
        assert finished.output["race"]["first_completed"] == "b"
        assert finished.output["race"]["result"]["completed"] is True
        assert finished.steps["race.c.items[1].slow"] == finished.steps["race.c.items"] == "cancelled"
        assert round(finished.seconds) == 1

    def test_first_fails_with_the_last_error_if_all_fail(self) -> None:
        definition = flow(
            "start>race race-a>nap nap>bad race-b>other",
            race=scope("parallel", wait_mode="first"),
            nap=wait(1),
            bad=FAIL,
            other=scope("fail", code="sooner"),
        )
        assert run(definition).error == StepError("broken", "It broke.")

    def test_stop_all_cancels_the_others_and_fails_it(self) -> None:
        definition = flow("start>both both-a>bad both-b>slow", both=scope("parallel"), bad=FAIL, slow=wait(60))
        finished = run(definition)
        assert finished.error == StepError("broken", "It broke.")
        assert finished.steps["both.b.slow"] == "cancelled"

    @pytest.mark.parametrize("config", [{"failure_mode": "continue"}, {"error_strategy": "wait_all"}])
    def test_continue_leaves_the_error_in_the_output(self, config: dict[str, Any]) -> None:
        finished = run(flow("start>both both-a>bad both-b>b", both=scope("parallel", **config), bad=FAIL))
        first, second = finished.output["both"]["branches"]
        assert (first["output"], first["error"]["code"], second["output"]) == (None, "broken", "b")
        assert finished.output["both"]["completed_branches"] == 1

    def test_max_concurrency(self) -> None:
        definition = flow("start>both both>a both>b both>c", both=scope("parallel", max_concurrency=2), a=wait(1),
                          b=wait(1), c=wait(1))  # fmt: skip
        assert (run(definition).most, round(run(definition).seconds)) == (2, 2)

    def test_a_timeout_in_the_config_is_the_scopes(self) -> None:
        finished = run(flow("start>both both>a", both=scope("parallel", timeout="5s"), a=wait(60)))
        assert finished.error is not None
        assert (finished.error.code, round(finished.seconds)) == ("timeout", 5)


class TestTry:
    def test_success(self) -> None:
        finished = run(flow("start>t t-try>a t-catch>c t-finally>f", t=scope("try")))
        assert finished.output["t"] == {
            "try_output": "a", "finally_output": "f", "success": True, "error_handled": False,
        }  # fmt: skip
        assert finished.steps.get("c") is None

    def test_a_handler_sees_the_error_and_what_the_try_gave(self) -> None:
        definition = flow("start>t t-try>a a>bad t-catch>c", t=scope("try"), bad=FAIL, c=say("[error.code, steps.a]"))
        output = run(definition).output["t"]
        assert (output["catch_output"], output["success"], output["error_handled"]) == (["broken", "a"], False, True)
        assert set(output["try_error"]) >= {
            "code", "error_type", "error_message", "message", "classification", "node_id", "node_type",
            "retry_attempt", "max_retries", "timestamp",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("first", "taken"),
        [
            ({"error_types": ["broken"]}, "c1"),
            ({"error_types": ["permanent"]}, "c1"),
            ({"error_types": ["transient", "other"]}, "c2"),
            ({"error_patterns": ["^It br"]}, "c1"),
            ({"error_patterns": ["^broken$"]}, "c1"),
            ({"error_patterns": ["nothing"]}, "c2"),
            ({}, "c1"),
        ],
    )
    @pytest.mark.parametrize("headed", [True, False])
    def test_the_first_handler_that_takes_it(self, first: dict[str, Any], taken: str, *, headed: bool) -> None:
        if headed:
            nodes = {"t": scope("try"), "h1": scope("catch", **first), "h2": scope("catch")}
            definition = flow("start>t t-try>bad t-catch>h1 h1>c1 t-catch>h2 h2>c2", bad=FAIL, **nodes)
        else:
            definition = flow("start>t t-try>bad t-catch>c1 t-catch>c2", t=scope("try", catches=[first, {}]), bad=FAIL)
        assert run(definition).output["t"]["catch_output"] == taken

    def test_who_takes_nothing_lets_it_go_on_outward(self) -> None:
        definition = flow("start>t t-try>bad t-catch>c", t=scope("try", catches=[{"error_types": ["x"]}]), bad=FAIL)
        assert run(definition).error == StepError("broken", "It broke.")

    def test_a_binding_of_its_own(self) -> None:
        for config in ({"error_binding": "oops"}, {"catches": [{"error_binding": "oops"}]}):
            definition = flow("start>t t-try>bad t-catch>c", t=scope("try", **config), bad=FAIL, c=say("oops.code"))
            assert run(definition).output["t"]["catch_output"] == "broken"

    def test_propagate_as_rethrows_after_the_handler(self) -> None:
        definition = flow(
            "start>t t-try>bad t-catch>c t-finally>f t-error>mend",
            t=scope("try", catches=[{"propagate_as": "order_failed"}]),
            bad=FAIL,
            mend=say("[steps.t.error.code, steps.t.error.original_code]"),
        )
        finished = run(definition)
        assert finished.output == {"mend": ["order_failed", "broken"]}
        assert {"c", "f"} <= set(finished.ran)

    def test_a_failure_of_the_handler_is_the_trys(self) -> None:
        definition = flow("start>t t-try>bad t-catch>c t-finally>f", t=scope("try"), bad=FAIL,
                          c=scope("fail", code="worse"))  # fmt: skip
        finished = run(definition)
        assert finished.error is not None
        assert finished.error.code == "worse"
        assert "f" in finished.ran

    def test_finally_runs_after_a_failure_that_nobody_takes_and_sees_what_the_try_gave(self) -> None:
        definition = flow("start>t t-try>a a>bad t-finally>f", t=scope("try"), bad=FAIL, f=say("steps.a"))
        finished = run(definition)
        assert finished.error == StepError("broken", "It broke.")
        assert finished.outputs["f"] == "a"

    def test_a_failure_of_the_finally_fails_a_try_that_went_well_and_no_other(self) -> None:
        worse = scope("fail", code="worse")
        well = run(flow("start>t t-try>a t-finally>f", t=scope("try"), f=worse))
        badly = run(flow("start>t t-try>bad t-finally>f", t=scope("try"), bad=FAIL, f=worse))
        assert well.error is not None
        assert badly.error is not None
        assert (well.error.code, badly.error.code) == ("worse", "broken")

    def test_finally_runs_on_cancel_from_the_innermost_outwards(self) -> None:
        definition = flow(
            "start>t t-try>u u-try>slow u-finally>f1 t-finally>f2", t=scope("try"), u=scope("try"), slow=wait(60)
        )
        finished = run(definition, ends=[RunCancelled(START + SECOND, "enough")])
        assert finished.status is ExecutionState.CANCELLED
        assert finished.begun[-2:] == ["f1", "f2"]
        assert finished.steps["slow"] == "cancelled"

    def test_finally_runs_when_the_run_times_out(self) -> None:
        late = RunFailed(StepError("timeout", "The run did not end within its timeout."), START + SECOND)
        finished = run(flow("start>t t-try>slow t-finally>f", t=scope("try"), slow=wait(60)), ends=[late])
        assert (finished.status, finished.steps["f"]) == (ExecutionState.FAILED, "completed")

    def test_finally_runs_when_a_stop_ends_the_run(self) -> None:
        finished = run(flow("start>t t-try>end t-finally>f", t=scope("try"), end=scope("stop", output=1)))
        assert (finished.output, finished.steps["f"]) == (1, "completed")

    def test_finally_runs_when_a_sibling_fails(self) -> None:
        finished = run(flow("start>t t-try>slow t-finally>f start>bad", t=scope("try"), slow=wait(9), bad=FAIL))
        assert (finished.error, finished.steps["f"]) == (StepError("broken", "It broke."), "completed")

    def test_they_have_a_minute_after_a_cancellation(self) -> None:
        definition = flow("start>t t-try>slow t-finally>f", t=scope("try"), slow=wait(900), f=wait(600))
        finished = run(definition, ends=[RunCancelled(START + SECOND)])
        assert (finished.status, round(finished.seconds)) == (ExecutionState.CANCELLED, 61)
        assert finished.steps["f"] == "cancelled"

    def test_forced_cancellation_waits_for_nothing(self) -> None:
        definition = flow("start>t t-try>slow t-finally>f", t=scope("try"), slow=wait(900))
        finished = run(definition, ends=[RunCancelled(START + SECOND, force=True)])
        assert (finished.status, round(finished.seconds)) == (ExecutionState.CANCELLED, 1)
        assert "f" not in finished.begun

    def test_a_timeout_of_its_own_is_not_for_its_handlers_but_its_finally_runs(self) -> None:
        definition = flow("start>t t-try>slow t-catch>c t-finally>f", t=scope("try", {"timeout": 5}), slow=wait(60))
        finished = run(definition)
        assert finished.error is not None
        assert (finished.error.code, finished.steps["f"]) == ("timeout", "completed")
        assert "c" not in finished.begun

    def test_gorax_lists_its_nodes_and_they_run_in_sequence(self) -> None:
        definition = flow(
            "start>t t-done>after",
            t=scope("try", tryNodes=["a", "b"], catchNodes=["c"], finallyNodes=["f"]),
            a=say("'a'"),
            b=FAIL,
            c=say("error.code + steps.a"),
            f=say("'f'"),
        )
        finished = run(definition)
        assert finished.outputs["t"]["catch_output"] == "brokena"
        assert finished.begun == ["start", "a", "b", "c", "f", "after"]


class TestRetry:
    def test_the_whole_body_runs_again_as_a_new_round(self) -> None:
        definition = flow("start>r r-body>a a>b r-done>after", "{{ steps.r }}", r=scope("retry"), b=CALL)
        finished = run(definition, answers={"b": [BROKEN, Completed("well")]})
        assert finished.output["output"] == "well"
        assert (finished.output["success"], finished.output["retries"]) == (True, 1)
        assert [each["success"] for each in finished.output["attempts"]] == [False, True]
        assert {"a", "a#1", "b", "b#1"} <= set(finished.steps)
        assert finished.keys["b"] == finished.keys["b#1"] == "execution:b:"

    def test_three_rounds_on_every_error_unless_it_says_more(self) -> None:
        definition = flow("start>r r-body>b", r=scope("retry"), b=CALL)
        finished = run(definition, answers={"b": [BROKEN]})
        assert finished.error == StepError("broken", "It broke.")
        assert finished.begun == ["start", "b", "b#1", "b#2"]

    @pytest.mark.parametrize(
        ("config", "rounds"),
        [
            ({"max_attempts": 2}, 2),
            ({"give_up_on": ["broken"]}, 1),
            ({"retry_on": ["transient"]}, 1),
            ({"maxRetries": 1}, 1),
            ({"non_retryable_errors": ["It br"]}, 1),
        ],
    )
    def test_its_config_is_a_retry_policy(self, config: dict[str, Any], rounds: int) -> None:
        definition = flow("start>r r-body>b", r=scope("retry", **config), b=CALL)
        assert len(run(definition, answers={"b": [BROKEN]}).begun) == 1 + rounds

    def test_the_pauses_between_rounds(self) -> None:
        config = {"strategy": "exponential", "initial_delay_ms": 10_000, "max_attempts": 3}
        finished = run(flow("start>r r-body>b", r=scope("retry", **config), b=CALL), answers={"b": [BROKEN]})
        assert round(finished.seconds) == 10 + 20

    def test_retries_of_the_steps_come_first(self) -> None:
        definition = flow("start>r r-body>b", r=scope("retry"), b={**CALL, "retry": {"max_attempts": 2}})
        finished = run(definition, answers={"b": [BUSY, BROKEN, Completed(1)]})
        assert finished.output["r"]["retries"] == 1
        assert (finished.attempts["b"], finished.attempts["b#1"]) == (2, 1)

    def test_its_timeout_is_over_all_rounds(self) -> None:
        config = scope("retry", {"timeout": 15}, strategy="fixed", initial_delay=10, max_attempts=9)
        finished = run(flow("start>r r-body>b", r=config, b=CALL), answers={"b": [BROKEN]})
        assert finished.error is not None
        assert (finished.error.code, round(finished.seconds)) == ("timeout", 15)
        assert finished.begun == ["start", "b", "b#1"]

    def test_a_retry_of_the_scope_itself_counts_rounds_on(self) -> None:
        config = scope("retry", {"retry": {"max_attempts": 2}}, max_attempts=2)
        finished = run(flow("start>r r-body>b", r=config, b=CALL), answers={"b": [BROKEN]})
        assert finished.begun == ["start", "b", "b#1", "b#2", "b#3"]


class TestBreaker:
    def definition(self, count: int, pause: float, **config: Any) -> dict[str, Any]:
        return flow(
            "start>each each-body>nap nap>guard guard-body>b",
            each=scope("loop", source=count, on_error="continue"),
            nap=wait(pause),
            guard=scope("circuit_breaker", **config),
            b=CALL,
            output="{{ map(steps.each.iterations, #?.error?.code) }}",
        )

    def test_it_opens_after_failures_in_a_row_and_fails_at_once(self) -> None:
        finished = run(self.definition(4, 0, max_failures=2), answers={"b": [BROKEN]})
        assert finished.output == ["broken", "broken", "circuit_open", "circuit_open"]
        assert finished.begun.count("each[2].b") == 0

    def test_after_its_timeout_trials_close_it_again_or_open_it(self) -> None:
        answers = {"b": [BROKEN, BROKEN, Completed(1)]}
        # 40 s between calls, open for 60: the third call is refused, the fourth is a trial.
        finished = run(self.definition(6, 40, max_failures=1, max_requests=2), answers=answers)
        assert finished.output == ["broken", "circuit_open", "broken", "circuit_open", None, None]

    def test_all_its_trials_must_succeed(self) -> None:
        answers = {"b": [BROKEN, BROKEN, Completed(1), BROKEN]}
        finished = run(self.definition(6, 40, max_failures=2, max_requests=2), answers=answers)
        assert finished.output == ["broken", "broken", "circuit_open", None, "broken", "circuit_open"]

    def test_a_share_of_the_window_opens_it(self) -> None:
        answers = {"b": [BROKEN, Completed(1), BROKEN, Completed(1)]}
        finished = run(self.definition(5, 0, sliding_window_size=4), answers=answers)
        assert finished.output == ["broken", None, "broken", None, None]
        answers = {"b": [Completed(1), BROKEN, Completed(1), BROKEN]}
        finished = run(self.definition(5, 0, sliding_window_size=4), answers=answers)
        assert finished.output[-1] == "circuit_open"

    def test_a_disabled_one_never_opens(self) -> None:
        finished = run(self.definition(3, 0, max_failures=1, enabled=False), answers={"b": [BROKEN]})
        assert finished.output == ["broken"] * 3

    def test_its_output(self) -> None:
        finished = run(flow("start>g g-body>b", g=scope("circuit_breaker", name="pay"), b=CALL),
                       answers={"b": [Completed(7)]})  # fmt: skip
        assert finished.output["g"] == {"circuit_breaker": "pay", "state": "closed", "output": 7}


class TestJoin:
    def test_wait_all_fires_once_with_what_arrived(self) -> None:
        definition = flow("start>c c-true>a c-false>b a>j b>j start>d d>j", c=scope("condition", condition="true"),
                          j=scope("join"))  # fmt: skip
        assert run(definition).output["j"] == {
            "completed_branches": 2, "branch_outputs": {"a": "a", "d": "d"}, "timed_out": False,
        }  # fmt: skip

    def test_it_is_skipped_if_nothing_can_arrive(self) -> None:
        definition = flow("start>c c-false>a a>j j>after", c=scope("condition", condition="true"), j=scope("join"))
        assert run(definition).skipped == ["a", "after", "j"]

    def test_wait_n_fires_at_the_nth_arrival_and_cuts_off_the_rest(self) -> None:
        definition = flow(
            "start>f f>a f>b f>c a>j b>j c>j b>other",
            f=scope("fork"),
            a=wait(1),
            b=wait(60),
            c=wait(90),
            j=scope("join", join_strategy="wait_n", required_count=1),
        )
        finished = run(definition)
        assert finished.output["j"]["branch_outputs"].keys() == {"a"}
        assert finished.steps["c"] == "cancelled"
        assert finished.steps["other"] == "completed"  # b leads elsewhere too, so that it goes on
        assert round(finished.seconds) == 60

    def test_what_remains_may_go_on(self) -> None:
        config = scope("join", join_strategy="wait_n", required_count=1, cancel_remaining=False)
        finished = run(flow("start>a start>b a>j b>j j>after", a=wait(1), b=wait(9), j=config))
        assert finished.steps["b"] == "completed"
        assert finished.begun.count("after") == 1

    def test_it_fails_as_soon_as_n_can_not_be_met(self) -> None:
        definition = flow(
            "start>c c-false>a start>b a>j b>j", c=scope("condition", condition="true"), b=wait(60),
            j=scope("join", join_strategy="wait_n", required_count=2),
        )  # fmt: skip
        finished = run(definition)
        assert finished.error is not None
        assert finished.error.code == "join_unsatisfied"

    def test_its_timeout_counts_from_the_first_arrival(self) -> None:
        definition = flow("start>a start>b a>j b>j", a=wait(5), b=wait(60), j=scope("join", timeout_ms=10_000))
        finished = run(definition)
        assert finished.error is not None
        assert (finished.error.code, round(finished.seconds)) == ("join_timeout", 15)

    def test_it_may_go_on_with_what_has_arrived(self) -> None:
        config = scope("join", timeout="10s", on_timeout="continue")
        finished = run(flow("start>a start>b a>j b>j", a=wait(5), b=wait(60), j=config))
        assert finished.output["j"]["timed_out"] is True
        assert finished.output["j"]["branch_outputs"].keys() == {"a"}
        assert finished.steps["b"] == "cancelled"

    def test_a_fork_names_its_branches(self) -> None:
        assert run(flow("start>f", f=scope("fork", branch_count=2))).output["f"] == {
            "branch_count": 2, "branch_ids": ["branch_0", "branch_1"],
        }  # fmt: skip


class TestScopesAsNodes:
    KINDS = ("loop", "parallel", "try", "retry", "circuit_breaker")

    def of(self, kind: str, policies: dict[str, Any]) -> dict[str, Any]:
        config: dict[str, Any] = {"loop": {"source": 1}, "retry": {"max_attempts": 1}}.get(kind, {})
        return scope(kind, policies, **config)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_rule_of_the_scope_then_its_retry_its_error_edge(self, kind: str) -> None:
        policies = {"retry": {"max_attempts": 2, "strategy": "fixed", "initial_delay": 10}}
        definition = flow("start>s s>b s-error>mend", s=self.of(kind, policies), b=CALL, mend=say("steps.s.error.code"))
        finished = run(definition, answers={"b": [BROKEN]})
        assert finished.output == {"mend": "broken"}
        assert (finished.attempts["s"], round(finished.seconds)) == (2, 10)

    @pytest.mark.parametrize("kind", KINDS)
    def test_on_error_continue_of_a_scope(self, kind: str) -> None:
        definition = flow("start>s s>b s-done>after", s=self.of(kind, {"on_error": "continue"}), b=CALL)
        finished = run(definition, answers={"b": [BROKEN]})
        assert (finished.status, finished.steps["s"]) == (ExecutionState.COMPLETED, "failed")
        assert finished.output == {"after": "after"}

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_timeout_of_a_scope_is_seen_by_its_retry(self, kind: str) -> None:
        policies = {"timeout": 5, "retry": {"max_attempts": 2, "initial_delay": 0}}
        finished = run(flow("start>s s>b", s=self.of(kind, policies), b=wait(60)))
        assert finished.error is not None
        assert (finished.error.code, round(finished.seconds)) == ("timeout", 10)

    @pytest.mark.parametrize("kind", KINDS)
    def test_when_skips_the_whole(self, kind: str) -> None:
        finished = run(flow("start>s s>b s-done>after", s=self.of(kind, {"when": "false"})))
        assert finished.skipped == ["after", "s"]
        assert finished.begun == ["start"]

    def test_the_innermost_scope_comes_first(self) -> None:
        definition = flow(
            "start>items items-body>t t-try>bad t-catch>c",
            items=scope("loop", source=2),
            t=scope("try"),
            bad=FAIL,
            c=say("[item, error.code]"),
        )
        finished = run(definition)
        assert [each["output"]["catch_output"] for each in finished.output["items"]["iterations"]] == [
            [0, "broken"],
            [1, "broken"],
        ]

    def test_paths_name_iterations_and_branches_from_outside_in(self) -> None:
        definition = flow(
            "start>fan fan-left>items items-body>charges charges-body>pay "
            "start>orders orders-body>lines lines-body>sum",
            fan=scope("parallel"),
            items=scope("loop", source=1),
            charges=scope("loop", source=1),
            orders=scope("loop", source=2),
            lines=scope("loop", source=1),
        )
        finished = run(definition)
        assert {"fan.left.items[0].charges[0].pay", "orders[1].lines[0].sum", "orders[1].lines"} <= set(finished.steps)
        assert finished.keys["fan.left.items[0].charges[0].pay"] == "execution:pay:fan.left.items[0].charges[0]"

    def test_rounds_are_no_part_of_the_path(self) -> None:
        definition = flow("start>r r-body>items items-body>b", r=scope("retry"), items=scope("loop", source=1), b=CALL)
        finished = run(definition, answers={"b": [BROKEN, Completed(1)]})
        assert finished.begun == ["start", "items[0].b", "items[0].b#1"]

    def test_they_nest_to_any_depth(self) -> None:
        deep = 40
        edges = ["start>s0", *(f"s{at}>s{at + 1}" for at in range(deep)), f"s{deep}>b"]
        scopes = {f"s{at}": self.of(self.KINDS[at % 5], {}) for at in range(deep + 1)}
        finished = run(flow(" ".join(edges), b=say("1"), **scopes))
        assert finished.status is ExecutionState.COMPLETED

    def test_a_scope_counts_as_one_node_of_the_output(self) -> None:
        assert run(flow("start>items items-body>a items-done>b", items=scope("loop", source=1))).output == {"b": "b"}

    def test_max_concurrency_counts_steps_and_no_scopes(self) -> None:
        definition = flow(
            "start>both both>a both>b", settings={"max_concurrency": 1}, both=scope("parallel"), a=wait(1), b=wait(1)
        )
        assert (run(definition).most, round(run(definition).seconds)) == (1, 2)

    def test_what_a_scope_that_runs_once_gave_can_be_seen_after_it(self) -> None:
        definition = flow(
            "start>t t-try>p p-left>a p-right>r r-body>g g-body>b t-done>after",
            t=scope("try"),
            p=scope("parallel"),
            r=scope("retry"),
            g=scope("circuit_breaker"),
            after=say("[steps.a, steps.b]"),
        )
        assert run(definition).output == {"after": ["a", "b"]}

    def test_after_one_that_failed_they_can_not(self) -> None:
        definition = flow("start>t t-try>a a>bad t-error>after", t=scope("try"), bad=FAIL, after=say("steps.a ?? 'no'"))
        assert run(definition).output == {"after": "no"}

    def test_of_a_retry_the_last_round_is_seen(self) -> None:
        definition = flow("start>r r-body>b r-done>after", r=scope("retry"), b=CALL, after=say("steps.b"))
        assert run(definition, answers={"b": [BROKEN, Completed("second")]}).output == {"after": "second"}


class TestPeople:
    def ask(self, outcome: str, edges: str) -> Finished:
        definition = flow(f"start>ask {edges}", ask=scope("human_task", title="Well?", assignees=["admin"]))
        answer = Completed({"outcome": outcome, "by": None, "at": "", "response": {}}, outcome)
        return run(definition, answers={"ask": [answer]})

    def test_an_edge_without_a_label_means_approved(self) -> None:
        assert self.ask("approved", "ask>yes").output == {"yes": "yes"}
        assert self.ask("rejected", "ask>yes ask-rejected>no").output == {"no": "no"}
        assert self.ask("expired", "ask>yes ask-expired>late").output == {"late": "late"}

    @pytest.mark.parametrize("outcome", ["rejected", "expired"])
    def test_without_an_edge_it_fails_the_step(self, outcome: str) -> None:
        finished = self.ask(outcome, "ask-approved>yes")
        assert finished.error is not None
        assert finished.error.code == f"task_{outcome}"
        assert self.ask(outcome, "ask>yes ask-error>mend").output == {"mend": "mend"}
