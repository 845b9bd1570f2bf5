"""What holds across scopes: places, visibility, ends from without, and sizes that must not hurt."""

import time

from gorax_engine.core.commands import StartStep
from gorax_engine.core.events import RunCancelled, RunFailed
from gorax_engine.core.model import StepError
from tests.core.walk.driver import START
from tests.core.walk.flows import NodeLike, begin, fails, flow, formula, gives, node, plan_of, step


def test_max_concurrency_holds_across_bodies_and_places_are_dealt_as_they_were_asked_for() -> None:
    nodes = {"items": node("loop", source=3, max_concurrency=3), "fan": node("parallel")}
    edges = "t>items t>a items:body>fan fan:x>f fan:y>g"
    run = flow(edges, nodes, settings={"max_concurrency": 2})
    assert run.busiest == 2
    starts = [command.step for command in run.commands if isinstance(command, StartStep)]
    assert [step.node for step in starts] == ["t", "a", "f", "g", "f", "g", "f", "g"]
    assert [step.path for step in starts[2:]] == [f"items[{n}].fan.{name}" for n in range(3) for name in "xy"]


def test_what_became_ready_first_has_the_next_place() -> None:
    """`d` becomes ready when `a` gives its place back, but `c` has waited longer."""
    run = flow("t>a t>b t>c a>d", {}, {"b": gives(after=500)}, settings={"max_concurrency": 2})
    assert run.began == ["t", "a", "b", "c", "d"]


def test_who_had_a_place_in_a_cancelled_body_leaves_it_to_others() -> None:
    nodes = {"fan": node("parallel", wait_mode="first")}
    edges = "t>fan fan:x>a fan:y>b fan:z>c fan:done>z"
    run = flow(edges, nodes, {"a": gives(after=10), "b": gives(after=900)}, settings={"max_concurrency": 2})
    assert run.states["fan.y.b"] == "cancelled"
    assert run.states["fan.z.c"] == "skipped"
    assert run.took < 100


def test_steps_of_a_scope_that_runs_once_are_seen_after_it_and_those_of_a_loop_are_not() -> None:
    nodes = {
        "y": node("try"),
        "fan": node("parallel"),
        "r": node("retry"),
        "x": node("circuit_breaker"),
        "a": formula("1"),
        "z": formula("steps.a + steps.x.output + steps.r.output.output"),
    }
    run = flow("t>y y:try>fan fan:l>r r:body>x x:body>a y:done>z", nodes)
    assert run.said == {"z": 3}


def test_the_output_of_a_run_can_be_made_of_what_is_in_a_scope() -> None:
    nodes = {"y": node("try"), "a": formula("41")}
    assert flow("t>y y:try>a", nodes, output="{{ steps.a + 1 }}").said == 42


def test_a_scope_counts_as_one_leaf() -> None:
    run = flow("t>y y:try>a t>b", {"y": node("try")})
    assert list(run.said) == ["y", "b"]


def test_the_names_of_outer_scopes_are_known_inside() -> None:
    nodes = {
        "items": node("loop", source=2, item_variable="order"),
        "y": node("try"),
        "a": node("fail", code="boom", message="m"),
        "deep": node("loop", source=1),
        "c": formula("error.code + string(order) + string(loop.total)"),
    }
    run = flow("t>items items:body>y y:try>a y:catch>deep deep:body>c", nodes)
    assert run.outputs["items[1].deep[0].c"] == "boom11"


def test_a_cancelled_run_cancels_what_runs_and_skips_the_rest_at_every_depth() -> None:
    nodes = {"items": node("loop", source=2), "fan": node("parallel")}
    run = flow("t>items items:body>fan fan:x>a a>b fan:y>c items:done>z", nodes,
               {"a": gives(after=500), "c": gives(after=10)}, ends=[RunCancelled(START + 100, "enough")])  # fmt: skip
    assert run.states == {
        "items": "cancelled",
        "items[0].fan": "cancelled",
        "items[0].fan.x.a": "cancelled",
        "items[0].fan.x.b": "skipped",
        "items[0].fan.y.c": "completed",
        "t": "completed",
        "z": "skipped",
    }
    assert run.end.error == StepError("cancelled", "enough")


def test_a_scope_that_waits_for_its_next_attempt_is_cut_off() -> None:
    nodes = {"r": node("retry", {"retry": {"max_attempts": 2, "initial_delay": 60}}, max_attempts=1)}
    run = flow("t>r r:body>a", nodes, {"a": fails()}, ends=[RunFailed(StepError("timeout", "x"), START + 500)])
    assert (run.said, run.took) == ("failed: timeout", 500)
    assert run.states == {"a": "failed", "r": "failed", "t": "completed"}


def test_a_run_that_is_cancelled_before_it_begins() -> None:
    run = begin("t>y y:try>a y:finally>f", {"y": node("try")})
    run.feed(RunCancelled(START))
    assert run.states == {"t": "skipped", "y": "skipped"}
    assert run.said == "cancelled: cancelled"


def test_timers_that_mean_nothing_any_more_are_not_kept_with_their_bodies() -> None:
    nodes = {"items": node("loop", {"timeout": 3000}, source=1_000), "r": node("retry", {"timeout": 3600})}
    run = begin("t>items items:body>r r:body>a", nodes)
    most = 0
    while not run.over and run.turn():
        most = max(most, len(run.state.timers))
    assert most <= 128


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_long_chains_of_scopes() -> None:
    count = 600
    edges = ["t>s0"]
    nodes: dict[str, NodeLike] = {}
    for n in range(count):
        nodes |= {f"s{n}": node("try"), f"a{n}": formula("1", {"when": "false"}), f"j{n}": node("join")}
        edges += [f"s{n}:try>a{n}", f"s{n}:done>j{n}", f"j{n}>s{n + 1}"]
    nodes[f"s{count}"] = step()
    run = flow(" ".join(edges), nodes)
    assert run.said == {f"s{count}": f"s{count}"}


def deep(count: int) -> tuple[str, dict[str, NodeLike]]:
    """Tries within tries, each with a finally."""
    edges = ["t>s0", *(f"s{n}:try>s{n + 1} s{n}:finally>f{n}" for n in range(count))]
    return " ".join(edges), {f"s{n}": node("try") for n in range(count)}


def test_scopes_nest_to_any_depth() -> None:
    edges, nodes = deep(600)
    run = flow(edges, nodes)
    assert run.end.error is None
    assert len([name for name in run.states if name.startswith("f")]) == 600


def test_a_failure_goes_outward_through_any_depth() -> None:
    edges, nodes = deep(600)
    run = flow(edges, nodes, {"s600": fails()})
    assert run.said == "failed: boom"
    assert set(run.states.values()) == {"completed", "failed"}


def test_what_is_cut_off_may_be_of_any_depth() -> None:
    edges, nodes = deep(600)
    for force, ran in ((False, 600), (True, 0)):
        run = flow(edges, nodes, {"s600": gives(after=5_000)}, ends=[RunCancelled(START + 4_000, force=force)])
        assert run.said == "cancelled: cancelled"
        assert len([name for name in run.states if name.startswith("f")]) == ran


def test_the_largest_workflows_are_divided_in_reasonable_time() -> None:
    edges = ["t>s0", *(f"s{n}:body>s{n + 1} s{n}:done>z{n}" for n in range(990))]
    nodes = [{"id": f"s{n}", "type": "loop", "config": {"source": 1}} for n in range(990)]
    nodes += [{"id": f"z{n}", "type": "step", "config": {}} for n in range(990)]
    nodes += [{"id": "t", "type": "manual_trigger"}, {"id": "s990", "type": "step", "config": {}}]
    pairs = [edge.partition(">")[::2] for each in edges for edge in each.split()]
    raw = {
        "nodes": nodes,
        "edges": [
            {"source": source.partition(":")[0], "target": target, "label": source.partition(":")[2] or None}
            for source, target in pairs
        ],
    }
    begun = time.thread_time()
    plan_of(raw)
    assert time.thread_time() - begun < 10
