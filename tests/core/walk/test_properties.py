"""Properties of the walk over random graphs, driven in random order and judged by an independent oracle."""

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gorax_engine.core.commands import CancelStep, EndRun, SkipStep, StartStep
from gorax_engine.core.events import Event, RunCancelled, RunFailed, StepDeclined, StepFailed, StepSucceeded
from gorax_engine.core.model import StepError, StepKey
from gorax_engine.core.states import TERMINAL_EXECUTIONS, ExecutionState
from gorax_engine.core.walk import NodeState, advance
from tests.core.walk.driver import Run, run_of
from tests.core.walk.graphs import START, Graph, random_graph
from tests.core.walk.oracle import Oracle

SEEDS = st.integers(0, 2**48)
SIZES = st.integers(1, 12)
END_OF = {
    NodeState.SUCCEEDED: "completed",
    NodeState.FAILED: "failed",
    NodeState.SKIPPED: "skipped",
}
ERROR = StepError("timeout", "the run took too long")


def ends_of(run: Run) -> dict[str, str]:
    return {node.id: END_OF[NodeState(run.state.nodes[node.index])] for node in run.plan.nodes}


def starts_of(run: Run) -> dict[str, list[StartStep]]:
    starts: dict[str, list[StartStep]] = {node.id: [] for node in run.plan.nodes}
    for command in run.commands:
        if isinstance(command, StartStep):
            starts[command.step.node].append(command)
    return starts


def check_calm(run: Run) -> None:
    """Everything that the oracle knows of a run that nothing ends early, whatever the order was."""
    oracle = Oracle(run.graph)
    assert run.state.status is ExecutionState.COMPLETED
    assert ends_of(run) == {name: fate.end for name, fate in oracle.fates.items()}
    assert run.state.outputs == oracle.outputs
    assert run.end == EndRun(ExecutionState.COMPLETED, oracle.leaves, None, oracle.last_moment)
    skips = {command.step.node: command.at for command in run.commands if isinstance(command, SkipStep)}
    for name, starts in starts_of(run).items():
        fate, node = oracle.fate(name), run.graph.node(name)
        assert len(starts) == (1 if node.declines and fate.end == "skipped" and starts else fate.attempts)
        if starts:
            # Once enabled it starts at that moment, whatever place it had to wait for.
            begun = fate.enabled if not node.declines else fate.enabled - node.used[0].duration
            assert starts[0] == StartStep(StepKey(name), 1, begun)
        if fate.end == "skipped":
            assert skips.pop(name) == fate.at
    assert not skips, "what ran is skipped too"


def check_records(run: Run) -> None:
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
    assert terminal == Counter({node.id: 1 for node in run.plan.nodes})
    for name, starts in starts_of(run).items():
        assert [start.attempt for start in starts] == list(range(1, len(starts) + 1))
        assert len(starts) <= len(run.graph.node(name).results)
    assert run.open == {}, "something still runs"
    if run.graph.limit is not None:
        assert run.busiest <= run.graph.limit


@settings(max_examples=2000, deadline=None)
@given(SEEDS, SIZES)
def test_every_order_gives_what_the_oracle_says(seed: int, size: int) -> None:
    rng = Random(seed)
    graph = random_graph(rng, size, calm=True)
    runs = [run_of(graph, rng) for _ in range(3)]
    for run in runs:
        check_calm(run)
        check_records(run)
    assert runs[0].state == runs[1].state == runs[2].state
    commands = [Counter(map(repr, run.commands)) for run in runs]
    assert commands[0] == commands[1] == commands[2], "another order wrote other records"


@settings(max_examples=2000, deadline=None)
@given(SEEDS, SIZES)
def test_a_run_that_ends_early_keeps_what_was_decided(seed: int, size: int) -> None:
    rng = Random(seed)
    run = run_of(random_graph(rng, size), rng)
    check_records(run)
    check_end(run, run.applied[-1])


def check_end(run: Run, last: Event) -> None:
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
    assert all(
        command.at == run.end.at
        for command in run.commands
        if isinstance(command, CancelStep)
        or (isinstance(command, SkipStep) and oracle.fate(command.step.node).end in {"running", "undecided"})
    )
    match last:
        case RunCancelled(at=at):
            assert run.end == EndRun(ExecutionState.CANCELLED, None, None, at)
        case RunFailed(error=error, at=at):
            assert run.end == EndRun(ExecutionState.FAILED, None, error, at)
        case StepFailed(step=step, error=error, at=at) if graph.ends_the_run(graph.node(step.node)):
            assert run.end == EndRun(ExecutionState.FAILED, None, error, at)
        case StepSucceeded(stop=True, step=step, output=output, at=at):
            assert run.end.status is ExecutionState.COMPLETED
            if graph.node(step.node).labels:
                facts = {name for name, fate in oracle.fates.items() if fate.end in ("completed", "failed")}
                assert run.end.output == {
                    name: oracle.fate(name).output for name in facts if name == step.node or name in oracle.leaves
                }
                assert run.end.at >= at
            else:
                assert run.end == EndRun(ExecutionState.COMPLETED, output, None, at)
        case _:
            assert run.end == EndRun(ExecutionState.COMPLETED, oracle.leaves, None, oracle.last_moment)


def ended_by(graph: Graph, event: Event) -> str | None:
    """The node that this event ended for good."""
    match event:
        case StepSucceeded(step=step) | StepDeclined(step=step):
            return step.node
        case StepFailed(step=step, attempt=attempt) if attempt == len(graph.node(step.node).used):
            return step.node
        case _:
            return None


def judge(run: Run) -> Oracle:
    """The oracle's view of a run, from what has ended so far."""
    return Oracle(run.graph, {node for event in run.applied if (node := ended_by(run.graph, event))})


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES, st.integers(0, 12), st.booleans())
def test_an_end_from_without_comes_at_any_moment(seed: int, size: int, turns: int, cancelled: bool) -> None:
    rng = Random(seed)
    run = Run(random_graph(rng, size))
    if turns:
        run.begin()
        run.finish(rng, turns - 1)
    if not run.over():
        event: Event = RunCancelled(START + 500, "enough") if cancelled else RunFailed(ERROR, START + 500)
        run.feed(event)
        if turns:
            check_end(run, event)
        else:
            assert ends_of(run) == {node.id: "skipped" for node in run.plan.nodes}
    check_records(run)


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES)
def test_terminal_is_final(seed: int, size: int) -> None:
    rng = Random(seed)
    run = run_of(random_graph(rng, size), rng)
    late: list[Event] = [
        run.started,
        RunCancelled(START + 900),
        RunFailed(ERROR, START + 900),
        *run.applied,
        *(StepSucceeded(StepKey(node.id), 1, START + 900) for node in run.plan.nodes),
        *(StepFailed(StepKey(node.id), attempt, ERROR, START + 900) for node in run.plan.nodes for attempt in (1, 2)),
        *(StepDeclined(StepKey(node.id), START + 900) for node in run.plan.nodes),
    ]
    rng.shuffle(late)
    assert advance(run.plan, run.state, late) == (run.state, [])


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES)
def test_nothing_starts_before_its_edges_are_decided_and_one_is_live(seed: int, size: int) -> None:
    rng = Random(seed)
    run = Run(random_graph(rng, size))
    run.begin()
    while True:
        oracle = judge(run)
        running = {step.node for step, _ in run.open}
        ready = {node.id for node in run.plan.nodes if run.state.nodes[node.index] == NodeState.READY}
        assert running | ready == {name for name, fate in oracle.fates.items() if fate.end == "running"}
        assert not running & ready
        if ready:
            assert run.graph.limit == len(running), "a place is free, and a ready node waits"
        _check_ignored(run, running)
        run.finish(rng, 1)
        if run.over():
            break


def _check_ignored(run: Run, running: set[str]) -> None:
    """Events for steps that don't run change nothing, nor do failures of another attempt than the one that runs."""
    noise: list[Event] = [StepSucceeded(StepKey("nowhere"), 1, START), StepDeclined(StepKey("nowhere"), START)]
    for node in run.plan.nodes:
        step = StepKey(node.id)
        if node.id not in running:
            noise += [
                StepSucceeded(step, 1, START + 5),
                StepFailed(step, 1, ERROR, START + 5),
                StepDeclined(step, START + 5),
            ]
        noise += [StepFailed(step, number, ERROR, START + 5) for number in range(4) if (step, number) not in run.open]
    assert advance(run.plan, run.state, noise) == (run.state, [])


@settings(max_examples=300, deadline=None)
@given(SEEDS, SIZES)
def test_one_call_with_many_events_is_many_calls_with_one(seed: int, size: int) -> None:
    rng = Random(seed)
    run = run_of(random_graph(rng, size), rng)
    apart = Run(run.graph)
    together, commands = advance(apart.plan, apart.state, run.applied)
    for event in run.applied:
        apart.feed(event)
    assert (together, commands) == (apart.state, apart.commands)
    assert together == run.state
