"""The rules of try, catch and finally."""

import pytest

from gorax_engine.core.commands import CancelStep, EndStep
from gorax_engine.core.events import Event, RunCancelled, RunFailed
from gorax_engine.core.model import SECOND, Classification, Json, StepError
from tests.core.walk.driver import START, Result
from tests.core.walk.flows import begin, broken, fails, flow, formula, gives, node, step

CAUGHT = "t>y y:try>a y:catch>c y:done>z"
WHOLE = "t>y y:try>a y:catch>c y:finally>f y:done>z"


def transient(after: int = 10) -> Result:
    error = StepError("busy", "Too many of us.", Classification.TRANSIENT, {"http_status_code": 503})
    return Result(ok=False, duration=after, failure=error)


def test_a_try_that_goes_well() -> None:
    run = flow(WHOLE, {"y": node("try")})
    assert run.outputs["y"] == {
        "try_output": "a",
        "success": True,
        "error_handled": False,
        "finally_output": "f",
    }
    assert "c" not in run.states, "a handler that wasn't needed has no rows"
    assert run.said == {"z": "z"}


def test_a_failure_is_caught_and_its_error_bound() -> None:
    nodes = {"y": node("try"), "a": broken("boom", "It broke."), "c": formula("error")}
    run = flow(CAUGHT, nodes)
    assert run.said == {"z": "z"}
    bound = run.outputs["c"]
    assert {key: value for key, value in bound.items() if key != "timestamp"} == {
        "code": "boom",
        "error_type": "boom",
        "error_message": "It broke.",
        "message": "It broke.",
        "classification": "permanent",
        "node_id": "a",
        "node_type": "fail",
        "retry_attempt": 0,
        "max_retries": 0,
    }
    assert run.outputs["y"] == {
        "try_error": bound,
        "catch_output": bound,
        "success": False,
        "error_handled": True,
        "finally_output": None,
    }


def test_more_of_an_error_is_bound_too() -> None:
    nodes = {"y": node("try"), "a": step(retry={"max_attempts": 2, "initial_delay": 0}), "c": formula("error")}
    run = flow(CAUGHT, nodes, {"a": transient()})
    bound = run.outputs["c"]
    assert (bound["http_status_code"], bound["classification"]) == (503, "transient")
    assert (bound["retry_attempt"], bound["max_retries"]) == (1, 1)


@pytest.mark.parametrize("where", ["try", "catch node"])
def test_the_binding_has_the_name_that_is_asked_for(where: str) -> None:
    nodes = {
        "y": node("try", **({"error_binding": "problem"} if where == "try" else {})),
        "a": broken(),
        "c": node("catch", **({"error_binding": "problem"} if where != "try" else {})),
        "d": formula("problem.code"),
    }
    assert flow("t>y y:try>a y:catch>c c>d y:done>z", nodes).outputs["d"] == "boom"


def test_a_catch_node_gives_the_error() -> None:
    nodes = {"y": node("try", error_binding="problem"), "a": broken(), "c": node("catch", error_binding="problem")}
    assert flow(CAUGHT, nodes).outputs["c"]["code"] == "boom"


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        ({}, True),
        ({"error_types": ["busy"]}, True),
        ({"error_types": ["transient"]}, True),
        ({"error_types": ["permanent"]}, False),
        ({"error_types": ["other", "busy"]}, True),
        ({"error_types": ["bus"]}, False),
        ({"error_patterns": ["many of"]}, True),
        ({"error_patterns": ["^bus"]}, True),
        ({"error_patterns": ["nothing"]}, False),
        ({"error_types": ["other"], "error_patterns": ["many"]}, True),
    ],
)
def test_a_handler_takes_what_its_types_or_patterns_fit(keys: dict[str, Json], taken: bool) -> None:
    for nodes in (
        {"y": node("try", catches=[keys])},
        {"y": node("try"), "c": node("catch", **keys)},
    ):
        run = flow(CAUGHT, nodes, {"a": transient()})
        assert run.said == ({"z": "z"} if taken else "failed: busy")
        assert ("c" in run.states) == taken


def test_of_several_handlers_the_first_that_fits() -> None:
    nodes = {
        "y": node("try"),
        "one": node("catch", error_types=["other"]),
        "two": node("catch", error_types=["busy"]),
        "three": node("catch"),
    }
    run = flow("t>y y:try>a y:catch>one y:catch>two y:catch>three", nodes, {"a": transient()})
    assert run.began == ["t", "y", "a", "two"]


def test_handlers_of_the_config_come_before_catch_nodes_before_the_rest() -> None:
    nodes = {
        "y": node("try", catches=[{"error_types": ["first"]}]),
        "listed": step(),
        "plain": step(),
        "typed": node("catch", error_types=["second"]),
    }
    edges = "t>y y:try>a y:catch>listed y:catch>plain y:catch>typed"
    taken = {code: flow(edges, nodes, {"a": fails(code)}).began[-1] for code in ("first", "second", "third")}
    assert taken == {"first": "listed", "second": "typed", "third": "plain"}


def test_the_config_may_list_the_nodes_of_its_bodies() -> None:
    listed = node(
        "try", try_nodes=["a", "b"], catch_nodes=["c", "d"], finally_nodes=["f", "g"], error_binding="problem"
    )
    nodes = {"y": listed, **{name: step() for name in "abcfg"}, "d": formula("problem.code")}
    run = flow("t>y y:done>z", nodes, {"b": fails()})
    assert run.began == ["t", "y", "a", "b", "c", "d", "f", "g", "z"]
    assert run.outputs["d"] == "boom"


def test_catches_may_list_their_nodes() -> None:
    catches: Json = [{"error_types": ["x"], "nodes": ["c"]}, {"nodes": ["d", "e"], "error_binding": "problem"}]
    nodes = {"y": node("try", catches=catches), "c": step(), "d": step(), "e": formula("problem.code")}
    run = flow("t>y y:try>a y:done>z", nodes, {"a": fails()})
    assert run.began == ["t", "y", "a", "d", "e", "z"]
    assert flow("t>y y:try>a y:done>z", nodes, {"a": fails("x")}).began == ["t", "y", "a", "c", "z"]


def test_propagate_as_rethrows_after_the_handler() -> None:
    nodes = {
        "y": node("try", catches=[{"propagate_as": "order_failed"}]),
        "a": broken(),
        "z": formula("[steps.y.error.code, steps.y.error.original_code, steps.y.error.node_id]"),
    }
    run = flow("t>y y:try>a y:catch>c y:error>z", nodes)
    assert run.states["c"] == "completed"
    assert run.said == {"z": ["order_failed", "boom", "a"]}
    assert run.states["y"] == "failed"
    assert flow("t>y y:try>a y:catch>c", nodes | {"z": step()}).said == "failed: order_failed"


def test_a_handler_that_fails_fails_the_try_with_its_own_error() -> None:
    nodes = {"y": node("try"), "a": broken("first"), "c": broken("second")}
    run = flow(WHOLE, nodes)
    assert run.said == "failed: second"
    assert run.states["f"] == "completed"
    rethrown = {**nodes, "y": node("try", catches=[{"propagate_as": "third"}])}
    assert flow(WHOLE, rethrown).said == "failed: second"


def test_an_error_that_no_handler_takes_goes_outward_past_the_finally() -> None:
    run = flow("t>y y:try>a y:finally>f y:done>z", {"y": node("try")}, {"a": fails()})
    assert run.said == "failed: boom"
    assert run.states == {"a": "failed", "f": "completed", "t": "completed", "y": "failed", "z": "skipped"}


def test_a_finally_runs_after_the_handler() -> None:
    run = flow(WHOLE, {"y": node("try")}, {"a": fails()})
    assert run.began == ["t", "y", "a", "c", "f", "z"]
    assert run.outputs["y"]["finally_output"] == "f"


def test_a_finally_that_fails_fails_what_went_well_and_not_what_had_failed() -> None:
    nodes = {"y": node("try")}
    assert flow("t>y y:try>a y:finally>f", nodes, {"f": fails("late")}).said == "failed: late"
    assert flow("t>y y:try>a y:finally>f", nodes, {"a": fails("early"), "f": fails("late")}).said == "failed: early"


def test_a_finally_sees_what_the_steps_of_the_try_gave() -> None:
    final = formula("[steps.a ?? 'none', steps.b ?? 'none', steps.c ?? 'none']")
    edges = "t>y y:try>a a>b y:catch>c y:finally>f"
    nodes = {"y": node("try"), "f": final}
    assert flow(edges, nodes).outputs["f"] == ["a", "b", "none"]
    assert flow(edges, nodes, {"b": fails()}).outputs["f"] == ["a", "none", "c"]
    cut = flow(edges, nodes, {"b": gives(after=500)}, ends=[RunCancelled(START + 100)])
    assert cut.outputs["f"] == ["a", "none", "none"]


def test_a_handler_sees_what_the_steps_of_the_try_gave() -> None:
    nodes = {"y": node("try"), "c": formula("steps.a + error.code")}
    assert flow("t>y y:try>a a>b y:catch>c", nodes, {"b": fails()}).outputs["c"] == "aboom"


def test_outputs_of_its_steps_are_seen_after_it() -> None:
    nodes = {"y": node("try"), "z": formula("[steps.a ?? 0, steps.c ?? 0, steps.f ?? 0]")}
    assert flow(WHOLE, nodes).said == {"z": ["a", 0, "f"]}
    assert flow(WHOLE, nodes, {"a": fails()}).said == {"z": [0, "c", "f"]}


# --- ends -------------------------------------------------------------------------------------------------------------

SLOW = {"a": gives(after=1_000), "f": gives("f", after=300)}
FINAL = "t>y y:try>a y:finally>f y:done>z"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (RunCancelled(START + 100, "enough"), "cancelled: cancelled"),
        (RunFailed(StepError("timeout", "Too long."), START + 100), "failed: timeout"),
    ],
)
def test_a_finally_runs_before_a_run_ends_from_without(end: RunCancelled | RunFailed, said: str) -> None:
    run = flow(FINAL, {"y": node("try")}, SLOW, ends=[end])
    assert run.said == said
    assert run.states == {"a": "cancelled", "f": "completed", "t": "completed", "y": "cancelled", "z": "skipped"}
    assert run.took == 100 + 300


def test_a_finally_runs_when_a_sibling_fails_the_run_or_stops_it() -> None:
    nodes = {"y": node("try"), "s": node("stop", output="{{ trigger.body }}"), "w": node("delay", duration="0.0001")}
    run = flow(f"{FINAL} t>w w>s", nodes, SLOW, body="done")
    assert (run.said, run.states["f"], run.states["a"]) == ("done", "completed", "cancelled")
    run = flow(f"{FINAL} t>s", {"y": node("try")}, {**SLOW, "s": fails(after=50)})
    assert (run.said, run.states["f"], run.states["a"]) == ("failed: boom", "completed", "cancelled")


def test_a_finally_of_a_handler_that_is_cut_off_runs_too() -> None:
    says = {"a": fails(), "c": gives(after=1_000)}
    run = flow(WHOLE, {"y": node("try")}, says, ends=[RunCancelled(START + 100)])
    assert run.states == {
        "a": "failed", "c": "cancelled", "f": "completed", "t": "completed", "y": "cancelled", "z": "skipped",
    }  # fmt: skip


def test_a_finally_that_runs_already_goes_on_to_its_end() -> None:
    run = flow(
        "t>y y:try>a y:finally>f f>g", {"y": node("try")}, {"f": gives(after=500)}, ends=[RunCancelled(START + 100)]
    )
    assert run.states == {"a": "completed", "f": "completed", "g": "completed", "t": "completed", "y": "cancelled"}
    assert run.said == "cancelled: cancelled"


def test_finally_parts_run_from_the_inside_out() -> None:
    nodes = {"outer": node("try"), "inner": node("try"), "items": node("loop", source=1)}
    edges = "t>outer outer:try>items items:body>inner inner:try>a inner:finally>f outer:finally>g"
    run = flow(edges, nodes, {"a": gives(after=1_000)}, ends=[RunCancelled(START + 100)])
    assert run.began[-2:] == ["items[0].f", "g"]
    ended = [command.step.node for command in run.commands if isinstance(command, CancelStep)]
    assert ended == ["a", "inner", "items", "outer"]


def test_a_failure_in_a_finally_does_not_change_how_the_run_ends() -> None:
    run = flow(FINAL, {"y": node("try")}, {**SLOW, "f": fails()}, ends=[RunCancelled(START + 100)])
    assert run.said == "cancelled: cancelled"
    assert run.states["f"] == "failed"


def test_a_scope_in_a_finally_does_all_that_scopes_do() -> None:
    nodes = {"y": node("try"), "r": node("retry", max_attempts=2, initial_delay=0), "items": node("loop", source=2)}
    edges = "t>y y:try>a y:finally>r r:body>items items:body>f"
    says = {"a": gives(after=1_000), "items[1].f": fails(), "items[1].f#1": gives()}
    run = flow(edges, nodes, says, ends=[RunCancelled(START + 100)])
    assert (run.states["r"], run.states["items[1].f#1"]) == ("completed", "completed")


def test_the_patience_with_a_finally_has_an_end() -> None:
    nodes = {"y": node("try"), "x": node("try")}
    edges = "t>y y:try>x x:try>a x:finally>f y:finally>g"
    says = {"a": gives(after=1_000), "f": gives(after=90 * SECOND)}
    run = flow(edges, nodes, says, ends=[RunCancelled(START + 100)])
    assert run.states == {"a": "cancelled", "f": "cancelled", "t": "completed", "x": "cancelled", "y": "cancelled"}
    assert run.took == 100 + 60 * SECOND


def test_a_forced_end_waits_for_nothing() -> None:
    run = flow(FINAL, {"y": node("try")}, SLOW, ends=[RunCancelled(START + 100, force=True)])
    assert (run.took, "f" in run.states) == (100, False)
    ends = [RunCancelled(START + 100), RunCancelled(START + 200, force=True)]
    run = flow(FINAL, {"y": node("try")}, SLOW, ends=ends)
    assert (run.took, run.states["f"]) == (200, "cancelled")


def test_the_first_end_counts() -> None:
    ends: list[Event] = [RunCancelled(START + 100), RunFailed(StepError("timeout", "Too long."), START + 200)]
    assert flow(FINAL, {"y": node("try")}, SLOW, ends=ends).said == "cancelled: cancelled"


@pytest.mark.parametrize("after", ["", " f>g"])
def test_a_stop_in_a_finally_ends_the_run_after_the_finally(after: str) -> None:
    nodes = {"y": node("try"), "f": node("stop", output="{{ trigger.body }}")}
    run = flow(f"t>y y:try>a y:finally>f{after} y:done>z", nodes, body="stopped")
    assert run.said == "stopped"
    assert run.states["f"] == "completed"
    assert run.states.get("g", "completed") == "completed"
    assert (run.states["y"], run.states["z"]) == ("cancelled", "skipped")


def test_a_stop_in_a_finally_of_a_cancelled_run_changes_nothing() -> None:
    nodes = {"y": node("try"), "f": node("stop", output="x")}
    run = flow("t>y y:try>a y:finally>f f>g", nodes, {"a": gives(after=500)}, ends=[RunCancelled(START + 100)])
    assert (run.said, run.states["g"]) == ("cancelled: cancelled", "completed")


def test_the_timeout_of_a_try_leads_to_its_finally_and_not_to_its_handlers() -> None:
    nodes = {"y": node("try", {"timeout": 0.0001})}
    run = flow("t>y y:try>a y:catch>c y:finally>f y:error>z", nodes, {"a": gives(after=500)})
    assert run.states == {"a": "cancelled", "f": "completed", "t": "completed", "y": "failed", "z": "completed"}


def test_the_timeout_of_a_scope_inside_is_caught() -> None:
    nodes = {"y": node("try"), "r": node("retry", {"timeout": 0.0001}), "c": formula("error.code")}
    run = flow("t>y y:try>r r:body>a y:catch>c", nodes, {"a": gives(after=500)})
    assert run.outputs["c"] == "timeout"


def test_the_end_of_a_scope_is_recorded_with_the_error_as_it_is_bound() -> None:
    run = begin("t>y y:try>a", {"y": node("try")}, {"a": fails()}).finish()
    (end,) = [command for command in run.commands if isinstance(command, EndStep)]
    assert end.error is not None
    assert (end.error.code, end.bound["node_id"], end.bound["node_type"]) == ("boom", "a", "step")
