"""Properties of the walk over random flat graphs, judged by an independent oracle."""

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gorax_engine.core.commands import CancelStep, EndRun, SkipStep, StartStep
from gorax_engine.core.events import Event, RunCancelled, RunFailed, StepDeclined, StepFailed, StepSucceeded, TimePassed
from gorax_engine.core.model import Json, StepError, StepKey
from gorax_engine.core.states import TERMINAL_EXECUTIONS, ExecutionState
from gorax_engine.core.walk import NodeState, initial, proceed
from tests.core.walk.driver import SEED
from tests.core.walk.graphs import Graph, GraphRun, random_graph
from tests.core.walk.oracle import Oracle

SEEDS = st.integers(0, 2**48)
SIZES = st.integers(1, 12)
END_OF = {
    NodeState.SUCCEEDED: "completed",
    NodeState.FAILED: "failed",
    NodeState.SKIPPED: "skipped",
}
ERROR = StepError("timeout", "the run took too long")
LATE = 10**12


def node_state(run: GraphRun, name: str) -> NodeState:
    return NodeState(run.state.top.nodes[run.plan.nodes[name].index])


def ends_of(run: GraphRun) -> dict[str, str]:
    return {name: END_OF[node_state(run, name)] for name in run.plan.nodes}


def starts_of(run: GraphRun) -> dict[str, list[StartStep]]:
    starts: dict[str, list[StartStep]] = {name: [] for name in run.plan.nodes}
    for command in run.commands:
        if isinstance(command, StartStep):
            starts[command.step.node].append(command)
    return starts


def timeless(value: Json) -> Json:
    """The value without the times of errors, which depend on when there was a place."""
    if isinstance(value, dict):
        return {key: timeless(member) for key, member in value.items() if key != "timestamp"}
    return value


def check_calm(run: GraphRun) -> None:
    """Everything that the oracle knows of a run that nothing ends early."""
    oracle = Oracle(run.graph)
    assert run.state.status is ExecutionState.COMPLETED
    assert ends_of(run) == {name: fate.end for name, fate in oracle.fates.items()}
    for name, starts in starts_of(run).items():
        fate, node = oracle.fate(name), run.graph.node(name)
        assert len(starts) == (1 if node.declines and fate.end == "skipped" and starts else fate.attempts)
    if run.graph.limit is not None:
        assert timeless(run.state.outputs) == timeless(oracle.outputs)
        assert timeless(run.end.output) == timeless(oracle.leaves)
        return
    assert run.state.outputs == oracle.outputs
    assert run.end == EndRun(ExecutionState.COMPLETED, oracle.leaves, None, oracle.last_moment)
    skips = {command.step.node: command.at for command in run.commands if isinstance(command, SkipStep)}
    for name, starts in starts_of(run).items():
        fate, node = oracle.fate(name), run.graph.node(name)
        if starts:
            begun = fate.enabled if not node.declines else fate.enabled - node.used[0].duration
            assert starts[0] == StartStep(StepKey(name), 1, begun)
        if fate.end == "skipped":
            assert skips.pop(name) == fate.at
    assert not skips, "what ran is skipped too"


def check_records(run: GraphRun) -> None:
    """One EndRun, at the very end; one terminal record for every node; attempts are counted from 1 without gaps."""
    ends = [place for place, command in enumerate(run.commands) if isinstance(command, EndRun)]
    assert ends == [len(run.commands) - 1]
    assert run.end.status is run.state.status
    assert run.state.status in TERMINAL_EXECUTIONS
    terminal: Counter[str] = Counter()
    for command in run.commands:
        if isinstance(command, SkipStep | CancelStep):
            assert command.step == StepKey(command.step.node)
            terminal[command.step.node] += 1
    terminal.update(
        event.step.node
        for event in run.applied
        if isinstance(event, StepSucceeded) or (isinstance(event, StepFailed) and ended_by(run.graph, event))
    )
    assert terminal == Counter(dict.fromkeys(run.plan.nodes, 1))
    for name, starts in starts_of(run).items():
        assert [start.attempt for start in starts] == list(range(1, len(starts) + 1))
        assert len(starts) <= len(run.graph.node(name).results)
    assert run.open == {}, "something still runs"
    assert run.state.running == 0
    if run.graph.limit is not None:
        assert run.busiest <= run.graph.limit


@settings(max_examples=2000, deadline=None)
@given(SEEDS, SIZES)
def test_a_run_is_what_the_oracle_says(seed: int, size: int) -> None:
    run = random_graph(Random(seed), size, calm=True).run().finish()
    check_calm(run)
    check_records(run)


@settings(max_examples=2000, deadline=None)
@given(SEEDS, SIZES)
def test_a_run_that_ends_early_keeps_what_was_decided(seed: int, size: int) -> None:
    run = random_graph(Random(seed), size).run().finish()
    check_records(run)
    check_end(run, run.applied[-1])


def check_end(run: GraphRun, last: Event) -> None:
    """The end is what the last event makes it; every other node is as the facts up to then decide it."""
    graph = run.graph
    oracle = judge(run)
    for name, end in ends_of(run).items():
        fate = oracle.fate(name)
        started = any(isinstance(command, StartStep) and command.step.node == name for command in run.commands)
        match fate.end:
            case "running":
                assert end == ("failed" if started else "skipped"), name
            case "undecided":
                assert end == "skipped", name
            case _:
                assert end == fate.end, name
    cancelled = [command.step.node for command in run.commands if isinstance(command, CancelStep)]
    assert cancelled == sorted(cancelled)
    assert set(cancelled) == {
        name for name, fate in oracle.fates.items() if fate.end == "running" and starts_of(run)[name]
    }
    assert run.end.at == last.at
    assert all(
        command.at == run.end.at
        for command in run.commands
        if isinstance(command, CancelStep)
        or (isinstance(command, SkipStep) and oracle.fate(command.step.node).end in {"running", "undecided"})
    )
    leaves = timeless(oracle.leaves)
    match last:
        case RunCancelled(at=at):
            assert run.end == EndRun(ExecutionState.CANCELLED, None, StepError("cancelled", "enough"), at)
        case RunFailed(error=error, at=at):
            assert run.end == EndRun(ExecutionState.FAILED, None, error, at)
        case StepFailed(step=step, error=error, at=at) if graph.ends_the_run(graph.node(step.node)):
            assert run.end == EndRun(ExecutionState.FAILED, None, error, at)
        case StepSucceeded(stop=True, step=step, output=output, at=at):
            assert run.end.status is ExecutionState.COMPLETED
            if graph.node(step.node).labels:
                facts = {name for name, fate in oracle.fates.items() if fate.end in ("completed", "failed")}
                assert timeless(run.end.output) == timeless(
                    {name: oracle.fate(name).output for name in facts if name == step.node or name in oracle.leaves}
                )
            else:
                assert run.end == EndRun(ExecutionState.COMPLETED, output, None, at)
        case _:
            assert run.end.status is ExecutionState.COMPLETED
            assert timeless(run.end.output) == leaves


def ended_by(graph: Graph, event: Event) -> str | None:
    """The node that this event ended for good."""
    match event:
        case StepSucceeded(step=step) | StepDeclined(step=step):
            return step.node
        case StepFailed(step=step, attempt=attempt) if attempt == len(graph.node(step.node).used):
            return step.node
        case _:
            return None


def judge(run: GraphRun) -> Oracle:
    """The oracle's view of a run, from what has ended so far."""
    return Oracle(run.graph, {node for event in run.applied if (node := ended_by(run.graph, event))})


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES, st.integers(0, 12), st.booleans())
def test_an_end_from_without_comes_at_any_moment(seed: int, size: int, turns: int, cancelled: bool) -> None:
    graph = random_graph(Random(seed), size)
    run = GraphRun(graph)
    if turns:
        run.begin(graph.trigger)
        for _ in range(turns - 1):
            if not run.over:
                run.turn()
    if not run.over:
        event: Event = RunCancelled(run.now + 1, "enough") if cancelled else RunFailed(ERROR, run.now + 1)
        run.feed(event)
        if turns:
            check_end(run, event)
        else:
            assert ends_of(run) == dict.fromkeys(run.plan.nodes, "skipped")
    check_records(run)


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES)
def test_terminal_is_final(seed: int, size: int) -> None:
    rng = Random(seed)
    run = random_graph(rng, size).run().finish()
    late: list[Event] = [
        RunCancelled(LATE),
        RunFailed(ERROR, LATE),
        *run.applied,
        *(StepSucceeded(StepKey(name), 1, LATE) for name in run.plan.nodes),
        *(StepFailed(StepKey(name), attempt, ERROR, LATE) for name in run.plan.nodes for attempt in (1, 2)),
        *(StepDeclined(StepKey(name), LATE) for name in run.plan.nodes),
        TimePassed(LATE),
    ]
    rng.shuffle(late)
    ends, status = ends_of(run), run.state.status
    assert proceed(run.plan, run.state, late) == []
    assert (ends_of(run), run.state.status) == (ends, status)


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES)
def test_nothing_starts_before_its_edges_are_decided_and_one_is_live(seed: int, size: int) -> None:
    run = random_graph(Random(seed), size).run()
    while not run.over:
        oracle = judge(run)
        running = {step.node for step, _ in run.open}
        ready = {name for name in run.plan.nodes if node_state(run, name) is NodeState.READY}
        assert running | ready == {name for name, fate in oracle.fates.items() if fate.end == "running"}
        assert not running & ready
        if ready:
            assert run.graph.limit == len(running), "a place is free, and a ready node waits"
        _check_ignored(run, running)
        run.turn()


def _check_ignored(run: GraphRun, running: set[str]) -> None:
    """Events for steps that don't run change nothing, nor do failures of another attempt than the one that runs."""
    noise: list[Event] = [
        StepSucceeded(StepKey("nowhere"), 1, run.now),
        StepDeclined(StepKey("nowhere"), run.now),
        StepFailed(StepKey("nowhere"), 1, ERROR, run.now),
        TimePassed(run.now),
    ]
    for name in run.plan.nodes:
        step = StepKey(name)
        if name not in running:
            noise += [StepSucceeded(step, 1, run.now), StepFailed(step, 1, ERROR, run.now), StepDeclined(step, run.now)]
        other = (StepKey(name, "items[0]"), StepKey(name, "", 1))
        noise += [StepSucceeded(key, 1, run.now) for key in other]
        noise += [StepFailed(key, 1, ERROR, run.now) for key in other]
        noise += [StepDeclined(key, run.now) for key in other]
        noise += [StepFailed(step, number, ERROR, run.now) for number in range(4) if (step, number) not in run.open]
    assert proceed(run.plan, run.state, noise) == []


@settings(max_examples=300, deadline=None)
@given(SEEDS, SIZES)
def test_one_call_with_many_events_is_many_calls_with_one(seed: int, size: int) -> None:
    run = random_graph(Random(seed), size).run().finish()
    state = initial(run.plan, {"trigger": run.data, "vars": {}}, SEED)
    assert proceed(run.plan, state, run.applied) == run.commands
    assert (state.status, state.outputs) == (run.state.status, run.state.outputs)
