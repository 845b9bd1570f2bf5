"""The rules of joins."""

import pytest

from gorax_engine.core.commands import EndStep
from gorax_engine.core.model import Json
from tests.core.walk.driver import START
from tests.core.walk.flows import NodeLike, fails, flow, formula, gives, node, step

TWO = "t>k k>a k>b a>j b>j j>z"
THREE = "t>k k>a k>b k>c a>j b>j c>j j>z"


def join(count: int | None = None, **config: Json) -> dict[str, NodeLike]:
    wanted = {} if count is None else {"join_strategy": "wait_n", "required_count": count}
    return {"k": node("fork"), "j": node("join", **{**wanted, **config})}


def test_wait_all_waits_for_all_and_gathers_their_outputs() -> None:
    run = flow(TWO, join(), {"a": gives(1, after=50), "b": gives(2, after=20)})
    assert run.outputs["j"] == {
        "completed_branches": 2,
        "branch_outputs": {"b": 2, "a": 1},
        "timed_out": False,
    }
    assert run.said == {"z": "z"}


def test_wait_all_counts_live_edges_alone() -> None:
    nodes = {**join(), "b": node("condition", condition="false")}
    run = flow("t>k k>a k>b a>j b:true>j j>z", nodes, {"a": gives(1)})
    assert run.outputs["j"]["branch_outputs"] == {"a": 1}
    skipped = {**join(), "b": step(when="false")}
    assert flow(TWO, skipped, {"a": gives(1)}).outputs["j"]["completed_branches"] == 1


def test_a_join_that_nothing_arrives_at_is_skipped() -> None:
    nodes = {**join(), "a": step(when="false"), "b": step(when="false")}
    run = flow(TWO, nodes)
    assert (run.states["j"], run.states["z"]) == ("skipped", "skipped")


def test_wait_n_fires_with_the_first_n_and_cancels_what_remains() -> None:
    run = flow(THREE, join(2), {"a": gives(1, after=20), "b": gives(2, after=30), "c": gives(after=900)})
    assert run.outputs["j"] == {"completed_branches": 2, "branch_outputs": {"a": 1, "b": 2}, "timed_out": False}
    assert run.states["c"] == "cancelled"
    assert run.took < 100
    assert run.said == {"z": "z"}


def test_it_fires_once() -> None:
    run = flow(
        THREE, join(1, cancel_remaining=False), {"a": gives(after=20), "b": gives(after=30), "c": gives(after=90)}
    )
    assert run.began.count("z") == 1
    assert len([command for command in run.commands if isinstance(command, EndStep)]) == 1
    assert {run.states[name] for name in "abc"} == {"completed"}
    assert run.said == {"z": "z"}, "what arrives too late had a live edge all the same"


def test_what_remains_is_what_leads_to_the_join_alone() -> None:
    """`b` leads elsewhere too and goes on; `e`, which waits behind it, only leads to the join and is skipped."""
    run = flow("t>k k>a a>j k>b b>e e>j b>f j>z", join(1), {"a": gives(after=20), "b": gives(after=90)})
    assert run.states == {
        "a": "completed", "b": "completed", "e": "skipped", "f": "completed", "j": "completed", "k": "completed",
        "t": "completed", "z": "completed",
    }  # fmt: skip
    assert run.said == {"f": "f", "z": "z"}


def test_what_remains_may_be_whole_scopes() -> None:
    nodes = {**join(1), "y": node("try"), "items": node("loop", source=3)}
    edges = "t>k k>a a>j k>items items:body>y y:try>b y:finally>f items:done>j j>z"
    run = flow(edges, nodes, {"a": gives(after=20), "b": gives(after=900), "f": gives(after=50)})
    assert run.began[-2:] == ["items[0].f", "z"]
    assert (run.states["items"], run.states["items[0].f"]) == ("cancelled", "completed")


def test_a_join_takes_places_from_what_it_cuts_off() -> None:
    run = flow(THREE, join(1), {"a": gives(after=20), "b": gives(after=90)}, settings={"max_concurrency": 2})
    assert (run.states["b"], run.states["c"]) == ("cancelled", "skipped")
    assert run.said == {"z": "z"}


def test_a_timeout_counts_from_the_first_arrival() -> None:
    nodes = {**join(timeout="0.0002"), "z": formula("steps.j.error.code")}
    run = flow("t>k k>a k>b a>j b>j j:error>z", nodes, {"a": gives(after=500), "b": gives(after=800)})
    assert run.said == {"z": "join_timeout"}
    (end,) = [command for command in run.commands if isinstance(command, EndStep)]
    assert end.at == START + 1 + 1 + 500 + 200
    in_time = flow(TWO, join(timeout="0.0002"), {"a": gives(after=500), "b": gives(after=600)})
    assert in_time.said == {"z": "z"}


def test_on_timeout_continue_goes_on_with_what_has_arrived() -> None:
    nodes = join(timeout_ms=1, on_timeout="continue")
    run = flow(THREE, nodes, {"a": gives(1, after=10), "b": gives(2, after=20), "c": gives(after=5_000)})
    assert run.outputs["j"] == {"completed_branches": 2, "branch_outputs": {"a": 1, "b": 2}, "timed_out": True}
    assert run.states["c"] == "cancelled"
    kept = join(timeout_ms=1, on_timeout="continue", cancel_remaining=False)
    assert flow(TWO, kept, {"b": gives(after=5_000)}).states["b"] == "completed"


def test_cancel_remaining_holds_for_a_timeout_that_fails_too() -> None:
    edges = "t>k k>a k>b a>j b>j j:error>z"
    says = {"a": gives(after=10), "b": gives(after=5_000)}
    assert flow(edges, join(timeout_ms=1), says).states["b"] == "cancelled"
    assert flow(edges, join(timeout_ms=1, cancel_remaining=False), says).states["b"] == "completed"


def test_without_an_arrival_there_is_no_timeout() -> None:
    assert flow(TWO, join(timeout_ms=1), {"a": gives(after=9_000), "b": gives(after=9_001)}).said == {"z": "z"}


def test_a_join_that_can_no_longer_be_satisfied_fails_early() -> None:
    nodes = {**join(2), "b": step(when="false"), "c": step(when="false")}
    says = {"a": gives(after=20)}
    assert flow(THREE, nodes, says).said == "failed: join_unsatisfied"
    early = {**join(3), "b": step(when="false")}
    run = flow(THREE, early, {"a": gives(after=5), "c": gives(after=9_000)})
    assert (run.said, run.states["c"]) == ("failed: join_unsatisfied", "cancelled")
    assert run.took < 100


def test_several_ways_that_die_at_once_are_skipped_once() -> None:
    """The first of them makes the join fail, which cuts off what remains of it: the others, too."""
    nodes = {**join(3), "w": node("condition", condition="false"), "j": node("join", join_strategy="wait_n",
             required_count=3)}  # fmt: skip
    run = flow("t>a a>j t>w w:true>b w:true>c w:true>d b>j c>j d>j j:error>z", nodes, {"a": gives(after=0)})
    assert run.said == {"w": {"result": False}, "z": "z"}
    assert [run.states[name] for name in "bcdj"] == ["skipped", "skipped", "skipped", "failed"]


def test_ways_that_die_together_behind_one_node_are_skipped_once() -> None:
    nodes = {**join(3), "w": node("condition", condition="false")}
    run = flow("t>a a>j t>w w:true>n n>b n>c b>j c>j j:error>z", nodes, {"a": gives(after=0)})
    assert run.said == {"w": {"result": False}, "z": "z"}
    assert [run.states[name] for name in "nbcj"] == ["skipped", "skipped", "skipped", "failed"]


def test_a_way_that_opens_after_the_join_cut_it_off_stays_shut() -> None:
    nodes = {**join(3), "w": node("condition", condition="true"), "b": step()}
    run = flow("t>a a>j t>w w:false>b w:true>c w:false>d b>j c>j d>j j:error>z", nodes, {"a": gives(after=0)})
    assert run.states["j"] == "failed"
    assert run.said == {"z": "z"}


def test_a_failed_join_goes_on_by_its_policies() -> None:
    nodes = {**join(2), "b": step(when="false"), "j": {**join(2)["j"], "on_error": "continue"}}
    run = flow(TWO, {**nodes, "z": formula("steps.j.error.code")})
    assert run.said == {"z": "join_unsatisfied"}


def test_arrivals_along_error_edges_count() -> None:
    run = flow("t>k k>a k>b a:error>j b>j j>z", join(), {"a": fails()})
    assert run.outputs["j"]["completed_branches"] == 2
    assert run.outputs["j"]["branch_outputs"]["a"]["error"]["code"] == "boom"


def test_when_of_a_join_is_judged_when_it_would_fire() -> None:
    nodes = join()
    nodes["j"]["when"] = "steps.a == 1"
    assert flow(TWO, nodes, {"a": gives(1)}).said == {"z": "z"}
    run = flow(TWO, nodes, {"a": gives(2)})
    assert (run.states["j"], run.states["z"]) == ("skipped", "skipped")
    nodes["j"]["when"] = "steps.a"
    assert flow(TWO, nodes, {"a": gives(2)}).said == "failed: type_error"
    nodes["j"]["when"] = "steps.a.x"
    assert flow(TWO, nodes, {"a": gives({})}).said == "failed: missing_path"


@pytest.mark.parametrize("config", [{}, {"join_strategy": "wait_n", "required_count": 1}])
def test_a_join_in_a_loop_is_new_in_each_iteration(config: dict[str, Json]) -> None:
    nodes = {"items": node("loop", source=2), "k": node("fork"), "j": node("join", **config)}
    run = flow("t>items items:body>k k>a k>b a>j b>j j>z", nodes, {"b": gives(after=99)})
    assert [run.states[f"items[{n}].j"] for n in range(2)] == ["completed", "completed"]
    assert run.said["items"]["iteration_count"] == 2


def test_a_join_of_a_closed_body_is_skipped() -> None:
    nodes = {"y": node("try", {"timeout": 0.0001}), **join()}
    run = flow("t>y y:try>k k>a k>b a>j b>j y:error>z", nodes, {"a": gives(after=20), "b": gives(after=900)})
    assert (run.states["j"], run.states["b"], run.said) == ("skipped", "cancelled", {"z": "z"})
