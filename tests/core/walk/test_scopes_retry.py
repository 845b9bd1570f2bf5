"""The rules of retry scopes, `retry` and `timeout` on scopes, circuit breakers, and how a failure goes outward."""

from itertools import pairwise

import pytest

from gorax_engine.core.commands import StartStep
from gorax_engine.core.events import RunCancelled
from gorax_engine.core.model import SECOND, Json, StepKey
from tests.core.walk.driver import START
from tests.core.walk.flows import NodeLike, begin, broken, fails, flow, formula, gives, node, step

AGAIN = "t>r r:body>a"


def retry(attempts: int = 3, delay: float = 0, **more: Json) -> NodeLike:
    return node("retry", max_attempts=attempts, initial_delay=delay, **{"strategy": "fixed", **more})


def again(attempts: int = 2, delay: float = 0, **more: Json) -> dict[str, Json]:
    return {"retry": {"max_attempts": attempts, "initial_delay": delay, "strategy": "fixed", **more}}


# --- retry scopes -----------------------------------------------------------------------------------------------------


def test_the_body_runs_again_as_a_new_round() -> None:
    run = flow(f"{AGAIN} a>b r:done>z", {"r": retry(3)}, {"b": fails(), "b#2": gives(7)})
    assert run.began == ["t", "r", "a", "b", "a#1", "b#1", "a#2", "b#2", "z"]
    output = run.outputs["r"]
    assert (output["output"], output["success"], output["retries"]) == (7, True, 2)
    assert [each["success"] for each in output["attempts"]] == [False, False, True]
    assert [each["attempt"] for each in output["attempts"]] == [1, 2, 3]
    assert output["attempts"][0]["error"]["code"] == "boom"
    assert "error" not in output["attempts"][2]
    assert run.states["r"] == "completed"


def test_after_the_last_round_the_error_goes_outward() -> None:
    run = flow(f"{AGAIN} r:error>z", {"r": retry(2), "z": formula("steps.r.error.node_id")}, {"a": fails()})
    assert run.said == {"z": "a"}
    assert [name for name in run.states if name.startswith("a")] == ["a", "a#1"]


def test_three_rounds_on_any_error_are_what_a_retry_does_that_says_nothing() -> None:
    run = flow(AGAIN, {"r": node("retry")}, {"a": fails()})
    assert run.said == "failed: boom"
    assert [name for name in run.states if name.startswith("a")] == ["a", "a#1", "a#2"]
    assert 0.75 * SECOND + 1.5 * SECOND <= run.took <= 1.25 * SECOND + 2.5 * SECOND + 100


def test_delays_between_the_rounds() -> None:
    run = flow(AGAIN, {"r": retry(3, 2)}, {"a": fails(after=10)})
    starts = [command.at for command in run.commands if isinstance(command, StartStep) and command.step.node == "a"]
    assert starts[1] - starts[0] == starts[2] - starts[1] == 2 * SECOND + 10
    grown = flow(AGAIN, {"r": retry(4, 1, strategy="exponential", multiplier=3, max_delay=5)}, {"a": fails(after=10)})
    starts = [command.at for command in grown.commands if isinstance(command, StartStep) and command.step.node == "a"]
    assert [later - sooner - 10 for sooner, later in pairwise(starts)] == [
        1 * SECOND,
        3 * SECOND,
        5 * SECOND,
    ]


def test_the_rounds_of_two_scopes_have_their_own_jitter() -> None:
    nodes = {"fan": node("parallel", failure_mode="continue")}
    nodes |= {name: node("retry", max_attempts=2) for name in ("q", "r")}
    run = flow("t>fan fan:x>q q:body>a fan:y>r r:body>b", nodes, {"a": fails(), "b": fails()})
    first, second = (
        next(command.at for command in run.commands if isinstance(command, StartStep) and command.step.node == name
             and command.step.round == 1)
        for name in "ab"
    )  # fmt: skip
    assert first != second


def test_give_up_on_and_retry_on() -> None:
    assert "a#1" not in flow(AGAIN, {"r": retry(3, give_up_on=["boom"])}, {"a": fails()}).states
    assert "a#1" not in flow(AGAIN, {"r": retry(3, retry_on=["other"])}, {"a": fails()}).states
    assert "a#1" in flow(AGAIN, {"r": retry(3, retry_on=["bo+m"])}, {"a": fails()}).states
    assert "a#1" not in flow(AGAIN, {"r": retry(3, retry_on=["transient"])}, {"a": fails()}).states


def test_the_body_s_outputs_are_those_of_the_round_that_went_well() -> None:
    run = flow(f"{AGAIN} r:done>z", {"r": retry(2), "z": formula("steps.a")}, {"a": [fails(), gives("second")]})
    assert run.said == {"z": "second"}


def test_a_round_knows_nothing_of_the_rounds_before() -> None:
    nodes = {"r": retry(2), "a": step(when="steps.p == 1"), "b": formula("steps.a ?? 'none'")}
    run = flow("t>r r:body>p p>a a>b p>b b>c", nodes, {"p": [gives(1), gives(2)], "c": [fails(), gives()]})
    assert (run.outputs["b"], run.outputs["b#1"]) == ("a", "none")


def test_nested_retries_never_use_a_step_twice() -> None:
    nodes = {"q": retry(2), "r": retry(3), "items": node("loop", again(2), source=2)}
    run = flow("t>q q:body>items items:body>r r:body>a", nodes, {"a": fails()})
    rounds = [key.round for (key, _) in run.rows if key.node == "a" and key.path == "items[0]"]
    assert rounds == list(range(12)), "2 rounds of q, 2 attempts of items, 3 rounds of r"
    assert run.states["items"] == "failed"


def test_steps_that_failed_keep_their_attempts_within_a_round() -> None:
    run = flow(AGAIN, {"r": retry(2), "a": step(**again(2))}, {"a": fails()})
    assert sorted((key.round, attempt) for (key, attempt) in run.rows if key.node == "a") == [
        (0, 1), (0, 2), (1, 1), (1, 2),
    ]  # fmt: skip


def test_the_timeout_of_a_retry_is_over_all_its_rounds() -> None:
    nodes = {"r": {**retry(9, 0.0001), "timeout": 0.00018}}
    run = flow(AGAIN, nodes, {"a": fails(after=50)})
    assert run.said == "failed: timeout"
    assert run.states["a#1"] == "cancelled"
    between = flow(AGAIN, {"r": {**retry(9, 60), "timeout": 1}}, {"a": fails(after=50)})
    assert (between.said, list(between.states)) == ("failed: timeout", ["a", "r", "t"])
    assert between.took == SECOND + 1


# --- retry and timeout on scopes --------------------------------------------------------------------------------------


def scope_of_type(kind: str) -> dict[str, NodeLike]:
    return {
        "loop": {"s": node("loop", source=1)},
        "parallel": {"s": node("parallel")},
        "try": {"s": node("try")},
        "retry": {"s": retry(1)},
        "circuit_breaker": {"s": node("circuit_breaker")},
    }[kind]


ENTRIES = {"loop": "body", "parallel": "x", "try": "try", "retry": "body", "circuit_breaker": "body"}
KINDS = pytest.mark.parametrize("kind", list(ENTRIES))


@KINDS
def test_a_scope_is_retried_as_a_node_is(kind: str) -> None:
    nodes = scope_of_type(kind)
    nodes["s"] |= again(3, 1)
    run = flow(f"t>s s:{ENTRIES[kind]}>a s:done>z", nodes, {"a": [fails(), fails(), gives("third")]})
    assert run.said == {"z": "z"}
    assert sorted(attempt for (key, attempt) in run.rows if key.node == "s") == [1, 2, 3]
    assert [key.round for (key, _) in run.rows if key.node == "a"] == [0, 1, 2]
    assert run.took > 2 * SECOND


@KINDS
def test_a_scope_has_an_error_edge_and_on_error(kind: str) -> None:
    edges = f"t>s s:{ENTRIES[kind]}>a s:done>z"
    nodes = {**scope_of_type(kind), "e": formula("steps.s.error.code")}
    run = flow(f"{edges} s:error>e", nodes, {"a": fails()})
    assert (run.said, run.states["z"]) == ({"e": "boom"}, "skipped")
    nodes = scope_of_type(kind)
    nodes["s"] |= {"on_error": "continue"}
    run = flow(edges, {**nodes, "z": formula("steps.s.error.code")}, {"a": fails()})
    assert (run.said, run.states["s"]) == ({"z": "boom"}, "failed")
    assert flow(edges, scope_of_type(kind), {"a": fails()}).said == "failed: boom"


@KINDS
def test_a_scope_whose_when_is_false_is_skipped_with_no_rows_inside(kind: str) -> None:
    nodes = scope_of_type(kind)
    nodes["s"] |= {"when": "trigger.body > 1"}
    edges = f"t>s s:{ENTRIES[kind]}>a s:done>z"
    assert flow(edges, nodes, body=1).states == {"s": "skipped", "t": "completed", "z": "skipped"}
    assert flow(edges, nodes, body=2).said == {"z": "z"}
    assert flow(edges, nodes, body="x").said == "failed: type_error"
    nodes["s"] |= {"when": "trigger.body"}
    assert flow(edges, nodes, body=1).said == "failed: type_error"


@KINDS
def test_a_scope_has_a_timeout_that_retries_see(kind: str) -> None:
    nodes = scope_of_type(kind)
    nodes["s"] |= {"timeout": 1, **again(2, retry_on=["timeout"])}
    run = flow(f"t>s s:{ENTRIES[kind]}>a", nodes, {"a": [gives(after=2 * SECOND), gives(after=10)]})
    assert run.end.error is None
    place = {"loop": "s[0].a", "parallel": "s.x.a"}.get(kind, "a")
    assert (run.states[place], run.states[f"{place}#1"]) == ("cancelled", "completed")


def test_each_attempt_has_its_own_timeout() -> None:
    nodes = {"r": {**retry(1), **again(2, 1), "timeout": 10}}
    run = flow(AGAIN, nodes, {"a": [fails(), gives(after=9_500_000)]})
    assert run.states["r"] == "completed"
    assert run.took > 10 * SECOND


def test_what_is_cut_off_is_not_tried_again() -> None:
    """Its timeout has passed, and its finally runs, when the run is cancelled."""
    nodes = {"y": {**node("try"), "timeout": 0.0001, **again(2, retry_on=["timeout"])}}
    says = {"a": gives(after=500), "f": gives(after=500)}
    run = flow("t>y y:try>a y:finally>f", nodes, says, ends=[RunCancelled(START + 300)])
    assert run.began == ["t", "y", "a", "f"]
    assert (run.states["y"], run.took) == ("failed", 100 + 500 + 1)


def test_when_is_judged_before_the_first_attempt_alone() -> None:
    nodes = {"r": {**retry(1), **again(2, 1), "when": "now() < '1970-01-01T00:00:00.5Z'"}}
    assert flow(AGAIN, nodes, {"a": [fails(), gives()]}).states["r"] == "completed"
    nodes["r"]["when"] = "now() > '1970-01-01T00:00:00.5Z'"
    assert flow(AGAIN, nodes).states["r"] == "skipped"


@KINDS
def test_a_dead_scope_is_skipped_with_no_rows_inside(kind: str) -> None:
    run = flow(f"t:error>s s:{ENTRIES[kind]}>a s:done>z", scope_of_type(kind))
    assert run.states == {"s": "skipped", "t": "completed", "z": "skipped"}


@KINDS
def test_a_node_after_a_scope_runs_once_all_of_it_has_ended(kind: str) -> None:
    run = flow(f"t>s s:{ENTRIES[kind]}>a a>b s>z s:done>y", scope_of_type(kind) if kind != "parallel" else {
        "s": node("parallel", branches=[{"name": "x", "nodes": ["a"]}])
    })  # fmt: skip
    assert run.began.index("z") > max(run.began.index(name) for name in run.began if name.endswith("b"))


def test_a_failure_goes_outward_through_several_scopes() -> None:
    edges = "t>y y:try>items items:body>fan fan:x>r r:body>a y:catch>c"
    nodes = {
        "y": node("try"),
        "items": node("loop", source=1),
        "fan": node("parallel"),
        "r": retry(2),
        "c": formula("error"),
    }
    run = flow(edges, nodes, {"a": fails()})
    assert (run.outputs["c"]["node_id"], run.outputs["c"]["code"]) == ("a", "boom")
    failed = [place for place, state in run.states.items() if state == "failed"]
    assert failed == ["items[0].fan.x.a", "items[0].fan.x.a#1", "items[0].fan", "items", "items[0].fan.x.r"]


def test_each_scope_on_the_way_applies_its_own_rule() -> None:
    nodes = {"items": node("loop", source=2, on_error="continue"), "fan": node("parallel"), "a": broken()}
    run = flow("t>items items:body>fan fan:x>a items:done>z", nodes)
    assert run.said == {"z": "z"}
    assert run.outputs["items"]["iteration_count"] == 2


def test_a_stop_in_a_nested_scope_ends_the_run() -> None:
    nodes = {
        "items": node("loop", source=3, max_concurrency=3),
        "r": retry(3),
        "w": node("switch", value="item", cases=[{"name": "one", "value": 1}]),
        "s": node("stop", output="{{ item }}"),
    }
    run = flow(
        "t>items items:body>r r:body>w w:one>s w:default>b t>side",
        nodes,
        {"b": gives(after=99), "side": gives(after=99)},
    )
    assert run.said == 1
    assert run.states["items[1].s"] == "completed"
    assert (run.states["items[0].b"], run.states["items[2].b"], run.states["side"]) == ("cancelled",) * 3
    assert (run.states["items"], run.states["items[0].r"]) == ("cancelled", "cancelled")


# --- circuit breakers -------------------------------------------------------------------------------------------------


def test_a_circuit_breaker_begins_when_it_is_let() -> None:
    nodes = {"x": node("circuit_breaker", name="payments")}
    run = begin("t>x x:body>a x:done>z", nodes)
    run.turn()
    run.turn()
    assert run.commands[-1] == StartStep(StepKey("x"), 1, run.now)
    assert "x" not in run.states
    run.finish()
    assert run.outputs["x"] == {"circuit_breaker": "payments", "state": "closed", "output": "a"}
    assert run.said == {"z": "z"}


def test_a_circuit_breaker_that_is_open_fails_at_once() -> None:
    run = flow("t>x x:body>a x:error>z", {"x": node("circuit_breaker"), "z": formula("steps.x.error.code")},
               {"x": fails("circuit_open")})  # fmt: skip
    assert run.said == {"z": "circuit_open"}
    assert "a" not in run.states


def test_a_circuit_breaker_is_asked_again_by_each_attempt() -> None:
    nodes = {"x": {**node("circuit_breaker"), **again(3, 1)}}
    says = {"x": [fails("circuit_open"), gives(), gives()], "a": [fails(), gives()]}
    run = flow("t>x x:body>a", nodes, says)
    assert run.began == ["t", "x", "x 2", "x 2", "a", "x 3", "x 3", "a#1"]
    assert run.states["x"] == "completed"


def test_a_circuit_breaker_that_was_not_let_begin_in_time_is_cut_off() -> None:
    nodes = {"fan": node("parallel"), "x": node("circuit_breaker")}
    run = flow("t>fan fan:l>x x:body>a fan:r>b", nodes, {"x": gives(after=500), "b": fails(after=20)})
    assert run.states["fan.l.x"] == "skipped"
    assert run.said == "failed: boom"


def test_the_time_of_a_round_is_when_it_begins() -> None:
    run = flow(AGAIN, {"r": retry(2, 5)}, {"a": [fails(after=10), gives()]})
    assert run.applied[-1].at == START + 1 + 10 + 5 * SECOND + 10
