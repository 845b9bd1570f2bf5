"""A worker dies at any record, another takes over: nothing recorded runs again, and the end is the same."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gorax_engine.core.commands import CancelStep, EndRun, SkipStep, StartStep
from gorax_engine.core.events import RunCancelled, RunStarted
from gorax_engine.core.model import StepError, StepKey
from gorax_engine.core.states import ExecutionState, StepState
from gorax_engine.core.walk import NodeState, Recovered, StepRecord, advance, initial, recover
from tests.core.walk.driver import Attempt, Run, run_of
from tests.core.walk.graphs import SEED, START, Arrow, Graph, Result, Scripted, random_graph

SEEDS = st.integers(0, 2**48)
SIZES = st.integers(1, 12)


def cut(run: Run, count: int) -> dict[Attempt, StepRecord]:
    """The rows that were durable when the worker died: the first `count`, each the last word on its attempt."""
    rows: dict[Attempt, StepRecord] = {}
    for attempt, record in run.records[:count]:
        declined = record.state is StepState.RUNNING and run.graph.node(attempt[0].node).declines
        if not declined:
            rows[attempt] = record
    return rows


def resume(run: Run, records: dict[Attempt, StepRecord]) -> tuple[Run, Recovered]:
    """Another worker's view of the run."""
    other = Run(run.graph, run.plan)
    before = other.state.copy()
    rebuilt = recover(run.plan, other.state, run.started, records)
    assert other.state == before
    assert rebuilt == recover(run.plan, other.state, run.started, dict(reversed(records.items())))
    other.state = rebuilt.state
    other.take(rebuilt.commands)
    return other, rebuilt


def check_rebuilt(records: dict[Attempt, StepRecord], other: Run, rebuilt: Recovered) -> None:
    begun = {attempt for attempt, record in records.items() if record.state is StepState.RUNNING}
    assert rebuilt.in_doubt == begun
    for command in rebuilt.commands:
        match command:
            case StartStep(step=step, attempt=attempt):
                record = records.get((step, attempt))
                assert record is None or record.state is StepState.RUNNING, "what has ended runs again"
            case CancelStep(step=step, attempt=attempt):
                assert (step, attempt) not in records or (step, attempt) in begun, "what has ended is cancelled"
            case SkipStep(step=step):
                assert (step, 1) not in records, "what is recorded is skipped"
            case EndRun():
                assert command is rebuilt.commands[-1]
    for (step, _), record in records.items():
        node = rebuilt.state.nodes[other.plan.index[step.node]]
        assert (record.state is StepState.SKIPPED) <= (node == NodeState.SKIPPED)
        assert (record.state is StepState.COMPLETED) <= (node == NodeState.SUCCEEDED)
    if other.graph.limit is not None:
        running = [index for index, node in enumerate(rebuilt.state.nodes) if node == NodeState.RUNNING]
        waiting = [index for index, node in enumerate(rebuilt.state.nodes) if node == NodeState.READY]
        assert len(running) <= other.graph.limit
        assert not waiting or len(running) == other.graph.limit
        assert sorted(rebuilt.state.ready) == waiting


@settings(max_examples=2000, deadline=None)
@given(SEEDS, SIZES)
def test_a_run_cut_anywhere_comes_to_the_same_end(seed: int, size: int) -> None:
    rng = Random(seed)
    graph = random_graph(rng, size, calm=True)
    run = run_of(graph, rng)
    records = cut(run, rng.randint(0, len(run.records)))
    other, rebuilt = resume(run, records)
    check_rebuilt(records, other, rebuilt)
    other.finish(rng)
    assert other.state == run.state
    assert other.end == run.end
    told = dict(other.records)
    assert {**dict(run.records), **told} == dict(run.records), "a row was written otherwise"
    assert {**records, **told} == dict(run.records), "a row is missing"


@settings(max_examples=1000, deadline=None)
@given(SEEDS, SIZES)
def test_without_a_limit_the_state_is_that_of_the_lost_worker(seed: int, size: int) -> None:
    """All that the walk had been told is in the rows, so the state and what is open are the same."""
    rng = Random(seed)
    run = Run(random_graph(rng, size, calm=True, limited=False))
    run.begin()
    run.finish(rng, rng.randrange(6))
    other, rebuilt = resume(run, dict(run.records))
    assert rebuilt.state == run.state
    assert other.open == run.open


@settings(max_examples=1000, deadline=None)
@given(SEEDS, SIZES)
def test_a_recorded_failure_ends_the_run_after_all_else_that_is_recorded(seed: int, size: int) -> None:
    """The failing row may be durable without the end. What was recorded before it must not be undone by it."""
    rng = Random(seed)
    graph = random_graph(rng, size)
    run = run_of(graph, rng)
    if any(result.stop for node in graph.nodes for result in node.results):
        return
    count = rng.randint(0, run.before_end)
    records = cut(run, count)
    other, rebuilt = resume(run, records)
    check_rebuilt(records, other, rebuilt)
    if run.state.status is ExecutionState.FAILED and count == run.before_end:
        assert (rebuilt.state.status, other.end.error) == (ExecutionState.FAILED, run.end.error)
    other.finish(rng)
    assert other.state.status is run.state.status
    assert len([command for command in other.commands if isinstance(command, EndRun)]) == 1


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES)
def test_a_rebuilt_run_can_be_ended_at_once(seed: int, size: int) -> None:
    """A mark on the queue row comes first: every step that has begun is cancelled, every other is skipped, once."""
    rng = Random(seed)
    run = run_of(random_graph(rng, size, calm=True), rng)
    records = cut(run, rng.randint(0, len(run.records)))
    other, rebuilt = resume(run, records)
    state, commands = advance(run.plan, rebuilt.state, (RunCancelled(START + 900),))
    if other.over():
        assert commands == []
        return
    assert state.status is ExecutionState.CANCELLED
    assert rebuilt.in_doubt <= {(each.step, each.attempt) for each in commands if isinstance(each, CancelStep)}
    assert {(each.step, each.attempt) for each in commands if isinstance(each, CancelStep)} == set(other.open)


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


DONE = StepRecord(StepState.COMPLETED, START)
BEGUN = StepRecord(StepState.RUNNING, START)


def test_what_has_begun_keeps_its_place_before_what_has_not() -> None:
    """The lost worker had let `y` in before `a` came to be enabled; in the order of the graph `a` would go first."""
    graph = graph_of("t>s t>y s>a s>b", limit=1)
    rebuilt = rebuilt_of(graph, {"t": DONE, "s": DONE, "y": BEGUN})
    assert rebuilt.in_doubt == {(StepKey("y"), 1)}
    assert rebuilt.commands == [StartStep(StepKey("y"), 1, START)]
    assert rebuilt.state.ready == [0, 1]


def test_what_has_ended_is_not_behind_a_place_that_is_taken() -> None:
    graph = graph_of("t>s t>y s>a s>b", limit=1)
    rebuilt = rebuilt_of(graph, {"t": DONE, "s": DONE, "y": DONE})
    assert rebuilt.in_doubt == frozenset()
    assert rebuilt.commands == [StartStep(StepKey("a"), 1, START)]
    assert rebuilt.state.outputs == {"t": None, "s": None, "y": None}


def test_an_attempt_that_is_to_be_repeated_keeps_its_place() -> None:
    failing = Result(ok=False, duration=1, transient=True)
    graph = graph_of("t>z t>a", Scripted("z", results=(failing, failing)), limit=1)
    rebuilt = rebuilt_of(graph, {"t": DONE, "z": StepRecord(StepState.FAILED, START, error=failing.error)})
    assert rebuilt.commands == [StartStep(StepKey("z"), 2, START + 7)]


def test_a_failure_that_ends_the_run_comes_after_the_successors_of_a_sibling() -> None:
    """`x` runs, since its row says so: it is cancelled, not forgotten, though `bad` comes first in the graph."""
    broken = StepRecord(StepState.FAILED, START + 3, error=StepError("broken", ""))
    later = StepRecord(StepState.FAILED, START + 4, error=StepError("worse", ""))
    graph = graph_of("t>bad t>b b>x t>a")
    rebuilt = rebuilt_of(graph, {"t": DONE, "a": later, "bad": broken, "b": DONE, "x": BEGUN})
    assert rebuilt.in_doubt == {(StepKey("x"), 1)}
    assert CancelStep(StepKey("x"), 1, START + 3) in rebuilt.commands
    assert rebuilt.commands[-1] == EndRun(ExecutionState.FAILED, None, StepError("broken", ""), START + 3)


def test_a_failed_row_without_its_error_is_a_bug_of_the_reader() -> None:
    with pytest.raises(ValueError, match="has no error"):
        rebuilt_of(graph_of("t>a"), {"t": DONE, "a": StepRecord(StepState.FAILED, START)})


def test_nothing_recorded_is_a_run_from_its_start() -> None:
    rebuilt = rebuilt_of(graph_of("t>a"), {})
    assert rebuilt.commands == [StartStep(StepKey("t"), 1, START)]
    assert (rebuilt.in_doubt, rebuilt.state.status) == (frozenset(), ExecutionState.RUNNING)


def test_a_whole_run_recorded_only_wants_its_end() -> None:
    rebuilt = rebuilt_of(graph_of("t>a"), {"t": DONE, "a": StepRecord(StepState.COMPLETED, START + 2, 5)})
    assert rebuilt.commands == [EndRun(ExecutionState.COMPLETED, {"a": 5}, None, START + 2)]


def test_a_pending_row_says_nothing_but_that_it_was_begun() -> None:
    rebuilt = rebuilt_of(graph_of("t>a"), {"t": DONE, "a": StepRecord(StepState.PENDING, START)})
    assert rebuilt.in_doubt == {(StepKey("a"), 1)}
