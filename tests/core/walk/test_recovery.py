"""A worker dies at any record, another takes over: nothing recorded runs again, and the end is the same.

Random workflows with scopes are cut in `test_nested`; here are flat graphs, and cases by hand.
"""

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gorax_engine.core.commands import CancelStep, EndRun, SkipStep, StartStep
from gorax_engine.core.events import RunCancelled, RunStarted
from gorax_engine.core.model import StepError, StepKey
from gorax_engine.core.states import TERMINAL_STEPS, ExecutionState, StepState
from gorax_engine.core.walk import Recovered, StepRecord, initial, proceed, recover
from gorax_engine.core.walk.recovery import CUT, DECLINED, recorded_outcome
from tests.core.walk.driver import SEED, START, Attempt, Durable, Result, Run, durable
from tests.core.walk.flows import NodeLike, definition_of, node, plan_of, step
from tests.core.walk.graphs import Arrow, Graph, Scripted, random_graph

SEEDS = st.integers(0, 2**48)
SIZES = st.integers(1, 12)


def resume(graph: Graph, rows: Mapping[Attempt, StepRecord]) -> tuple[Run, Recovered]:
    """Another worker's view of the run."""
    other = Run(graph.plan(), graph)
    return other, other.resume(Durable(rows), graph.trigger)


@settings(max_examples=2000, deadline=None)
@given(SEEDS, SIZES)
def test_a_run_cut_anywhere_comes_to_the_same_end(seed: int, size: int) -> None:
    rng = Random(seed)
    graph = random_graph(rng, size)
    run = graph.run().finish()
    rows = durable(run, rng.randint(0, len(run.batches)), rng).rows
    other, rebuilt = resume(graph, rows)
    assert rebuilt.in_doubt == {attempt for attempt, record in rows.items() if record.state is StepState.RUNNING}
    other.finish()
    assert other.end == run.end
    assert other.rows.keys() == run.rows.keys()
    for attempt, record in run.rows.items():
        assert other.rows[attempt] == record or CUT in (record.outcome, other.rows[attempt].outcome)


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES)
def test_what_is_open_is_what_the_lost_worker_had_open(seed: int, size: int) -> None:
    rng = Random(seed)
    graph = random_graph(rng, size)
    run = graph.run()
    for _ in range(rng.randrange(12)):
        if not run.over:
            run.turn()
    other, _ = resume(graph, run.rows)
    assert other.open == run.open
    assert other.state.status is run.state.status
    assert other.state.outputs == run.state.outputs


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES)
def test_a_rebuilt_run_can_be_ended_at_once(seed: int, size: int) -> None:
    """A mark on the queue row comes first: every step that has begun is cancelled, every other is skipped, once."""
    rng = Random(seed)
    graph = random_graph(rng, size, calm=True)
    run = graph.run().finish()
    rows = durable(run, rng.randint(0, len(run.batches)), rng).rows
    other, rebuilt = resume(graph, rows)
    if other.over:
        return
    opened = set(other.open)
    commands = other.feed(RunCancelled(rebuilt.latest + 1))
    assert other.state.status is ExecutionState.CANCELLED
    assert {(each.step, each.attempt) for each in commands if isinstance(each, CancelStep)} == opened
    assert rebuilt.in_doubt <= opened
    assert all(row.state in TERMINAL_STEPS for row in other.rows.values())


# --- by hand ---------------------------------------------------------------------------------------------------------


def graph_of(arrows: str, *nodes: Scripted, limit: int | None = None) -> Graph:
    pairs = [arrow.split(">") for arrow in arrows.split()]
    named = {name for pair in pairs for name in pair} - {node.id for node in nodes}
    plain = [Scripted(name, "trigger" if name == "t" else "plain") for name in named]
    every = sorted((*plain, *nodes), key=lambda node: node.id)
    return Graph(tuple(every), tuple(Arrow(*pair) for pair in pairs), "t", limit)


def rebuilt_of(graph: Graph, records: dict[str, StepRecord]) -> Recovered:
    plan = graph.plan()
    rows = {(StepKey(name), 1): record for name, record in records.items()}
    return recover(plan, initial(plan, {}, SEED), RunStarted("t", {}, START), rows)


def done(after: int, outcome: str | None = None) -> StepRecord:
    return StepRecord(StepState.COMPLETED, START + after, after, outcome)


def begun(after: int) -> StepRecord:
    return StepRecord(StepState.RUNNING, START + after)


def broken(after: int, code: str = "broken", outcome: str | None = None) -> StepRecord:
    return StepRecord(StepState.FAILED, START + after, None, outcome, StepError(code, ""))


def skipped(after: int, outcome: str | None = None) -> StepRecord:
    return StepRecord(StepState.SKIPPED, START + after, None, outcome)


def test_what_has_begun_begins_again_and_is_in_doubt() -> None:
    rebuilt = rebuilt_of(graph_of("t>a t>b"), {"t": done(1), "a": begun(1)})
    assert rebuilt.in_doubt == {(StepKey("a"), 1)}
    assert rebuilt.commands == [StartStep(StepKey("a"), 1, START + 1), StartStep(StepKey("b"), 1, START + 1)]
    assert rebuilt.latest == START + 1


def test_places_are_dealt_as_they_were() -> None:
    """`y` had its place before `a` came to be enabled."""
    rebuilt = rebuilt_of(graph_of("t>s t>y s>a s>b", limit=1), {"t": done(1), "s": done(2), "y": begun(2)})
    assert rebuilt.commands == [StartStep(StepKey("y"), 1, START + 2)]


def test_a_place_that_became_free_is_dealt_again() -> None:
    rebuilt = rebuilt_of(graph_of("t>s t>y s>a s>b", limit=1), {"t": done(1), "s": done(2), "y": done(5)})
    assert rebuilt.in_doubt == frozenset()
    assert rebuilt.commands == [StartStep(StepKey("a"), 1, START + 5)]


def test_an_attempt_that_is_to_be_repeated_keeps_its_place() -> None:
    failing = Result(ok=False, duration=1, transient=True)
    graph = graph_of("t>z t>a", Scripted("z", results=(failing, failing)), limit=1)
    record = StepRecord(StepState.FAILED, START + 2, error=failing.error)
    assert rebuilt_of(graph, {"t": done(1), "z": record}).commands == [StartStep(StepKey("z"), 2, START + 9)]


def test_a_failure_that_ends_the_run_cancels_what_its_row_says_has_begun() -> None:
    graph = graph_of("t>bad t>b b>x t>a")
    rebuilt = rebuilt_of(graph, {"t": done(1), "b": done(2), "x": begun(2), "bad": broken(3), "a": done(1)})
    assert rebuilt.in_doubt == {(StepKey("x"), 1)}
    assert rebuilt.commands == [
        CancelStep(StepKey("x"), 1, START + 3),
        EndRun(ExecutionState.FAILED, None, StepError("broken", ""), START + 3),
    ]


def test_the_first_failure_ends_the_run() -> None:
    """The second one came with the end, when nobody listened any more."""
    rebuilt = rebuilt_of(graph_of("t>a t>b"), {"t": done(1), "b": broken(3, "first"), "a": broken(4, "second")})
    assert rebuilt.commands == [EndRun(ExecutionState.FAILED, None, StepError("first", ""), START + 3)]


def test_ends_from_without_are_told_again_at_their_times() -> None:
    plan = graph_of("t>a t>b").plan()
    rows = {(StepKey("t"), 1): done(1), (StepKey("a"), 1): broken(5, "cancelled", CUT)}
    end = RunCancelled(START + 5, "enough")
    rebuilt = recover(plan, initial(plan, {}, SEED), RunStarted("t", {}, START), rows, (end,))
    assert rebuilt.commands == [
        CancelStep(StepKey("b"), 1, START + 5),
        EndRun(ExecutionState.CANCELLED, None, StepError("cancelled", "enough"), START + 5),
    ]
    assert rebuilt.latest == START + 5


def test_a_failed_row_without_its_error_is_a_bug_of_the_reader() -> None:
    with pytest.raises(ValueError, match="has no error"):
        rebuilt_of(graph_of("t>a"), {"t": done(1), "a": StepRecord(StepState.FAILED, START)})


def test_nothing_recorded_is_a_run_from_its_start() -> None:
    rebuilt = rebuilt_of(graph_of("t>a"), {})
    assert rebuilt.commands == [StartStep(StepKey("t"), 1, START)]
    assert (rebuilt.in_doubt, rebuilt.latest) == (frozenset(), START)


def test_a_whole_run_recorded_only_wants_its_end() -> None:
    rebuilt = rebuilt_of(graph_of("t>a"), {"t": done(1), "a": done(2)})
    assert rebuilt.commands == [EndRun(ExecutionState.COMPLETED, {"a": 2}, None, START + 2)]


def test_a_row_of_a_node_that_is_gone_is_passed_over() -> None:
    rebuilt = rebuilt_of(graph_of("t>a"), {"t": done(1), "gone": done(2), "older": begun(3)})
    assert rebuilt.commands == [StartStep(StepKey("a"), 1, START + 1)]
    assert rebuilt.in_doubt == frozenset()


def rebuilt_flow(edges: str, nodes: Mapping[str, NodeLike], rows: Mapping[Attempt, StepRecord]) -> Recovered:
    plan = plan_of(definition_of(edges, nodes))
    return recover(plan, initial(plan, {}, SEED), RunStarted("t", {}, START), rows)


def test_of_one_moment_what_was_declined_comes_before_what_it_cut_off() -> None:
    """`b` was declined, so that its branch was the first; `a`, which had not begun, was skipped because of it."""
    nodes = {"fan": node("parallel", wait_mode="first"), "a": step(when="true"), "b": step(when="false")}
    rows = {
        (StepKey("t"), 1): done(1),
        (StepKey("a", "fan.left"), 1): skipped(5),
        (StepKey("b", "fan.right"), 1): skipped(5, DECLINED),
    }
    rebuilt = rebuilt_flow("t>fan fan:left>a fan:right>b", nodes, rows)
    assert isinstance(rebuilt.commands[-1], EndRun)
    assert rebuilt.commands[-1].output == {"fan": {"first_completed": "right", "result": {}}}


def test_a_circuit_breaker_that_was_let_begin_is_not_asked_again() -> None:
    rows = {
        (StepKey("t"), 1): done(1),
        (StepKey("x"), 1): StepRecord(StepState.RUNNING, START + 3, started=START + 3),
    }
    rebuilt = rebuilt_flow("t>x x:body>a", {"x": node("circuit_breaker")}, rows)
    assert rebuilt.commands == [StartStep(StepKey("a"), 1, START + 3)]
    assert rebuilt.in_doubt == frozenset()
    rows.popitem()
    assert rebuilt_flow("t>x x:body>a", {"x": node("circuit_breaker")}, rows).commands == [
        StartStep(StepKey("x"), 1, START + 1)
    ]


def test_rows_of_older_releases_say_less() -> None:
    """They have no outcome where a `when` was false, or a step was cut off."""
    graph = graph_of("t>a t>b b>c", Scripted("b", declines=True))
    rebuilt = rebuilt_of(graph, {"t": done(1), "b": skipped(3), "c": skipped(3)})
    assert rebuilt.commands == [StartStep(StepKey("a"), 1, START + 1)]
    rebuilt = rebuilt_of(graph, {"t": done(1), "a": broken(3), "b": broken(3, "cancelled"), "c": skipped(3)})
    assert rebuilt.commands == [EndRun(ExecutionState.FAILED, None, StepError("broken", ""), START + 3)]


def test_a_step_that_fails_as_cancelled_by_itself_fails() -> None:
    rebuilt = rebuilt_of(graph_of("t>a"), {"t": done(1), "a": broken(3, "cancelled")})
    assert rebuilt.commands == [EndRun(ExecutionState.FAILED, None, StepError("cancelled", ""), START + 3)]


def test_a_step_that_stopped_the_run_stops_it_again() -> None:
    rebuilt = rebuilt_of(graph_of("t>a t>b"), {"t": done(1), "a": done(3, recorded_outcome(None, stop=True))})
    assert rebuilt.commands == [
        CancelStep(StepKey("b"), 1, START + 3),
        EndRun(ExecutionState.COMPLETED, 3, None, START + 3),
    ]


@pytest.mark.parametrize(("outcome", "stops"), [("yes", False), ("yes", True), ("stop", False), ("stop", True)])
def test_a_stop_keeps_the_outcome_of_a_type_that_has_some(outcome: str, stops: bool) -> None:
    graph = graph_of("t>a", Scripted("a", "choice", labels=("yes", "stop")))
    graph = Graph(graph.nodes, (*graph.arrows, Arrow("a", "y", "yes"), Arrow("a", "s", "stop")), "t")
    graph = Graph((*graph.nodes, Scripted("y"), Scripted("s")), graph.arrows, "t")
    rebuilt = rebuilt_of(graph, {"t": done(1), "a": done(3, recorded_outcome(outcome, stop=stops))})
    ended = isinstance(rebuilt.commands[-1], EndRun)
    assert ended == stops
    if not stops:
        assert [type(each) for each in rebuilt.commands] in ([StartStep, SkipStep], [SkipStep, StartStep])


def test_recovery_is_a_replay() -> None:
    """The state goes on from there as if nothing had been."""
    plan = graph_of("t>a a>b").plan()
    state = initial(plan, {}, SEED)
    recover(plan, state, RunStarted("t", {}, START), {(StepKey("t"), 1): done(1)})
    told = proceed(plan, state, [RunCancelled(START + 9)])
    assert [type(each) for each in told] == [CancelStep, SkipStep, EndRun]
