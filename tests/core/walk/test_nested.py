"""Random workflows of scopes within scopes: what is always so, and that a run cut anywhere comes to the same end."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gorax_engine.core.commands import CancelStep, EndRun, EndStep, FoldLoop, OpenStep, StartStep
from gorax_engine.core.model import StepKey
from gorax_engine.core.states import TERMINAL_STEPS, StepState
from gorax_engine.core.walk import StepRecord, loops
from gorax_engine.core.walk.recovery import CUT
from tests.core.walk.driver import Attempt, Run, durable
from tests.core.walk.nested import Workflow, random_workflow

SEEDS = st.integers(0, 2**48)
SIZES = st.integers(1, 24)


def workflow_of(seed: int, size: int) -> tuple[Workflow, Random]:
    rng = Random(seed)
    return random_workflow(rng, size, patient=rng.random() < 0.8, ends=rng.choice((0, 0, 1, 2))), rng


def check_whole(run: Run) -> None:
    """One end, last of all; every row is final; nothing is left at work; attempts are numbered from 1 without gaps."""
    assert [command for command in run.commands if isinstance(command, EndRun)] == [run.end]
    assert all(row.state in TERMINAL_STEPS for row in run.rows.values())
    assert not run.open
    assert run.state.running == 0
    assert list(run.state.frames.values()) == [run.state.top], "a body is still open"
    attempts: dict[StepKey, list[int]] = {}
    for step, attempt in run.rows:
        attempts.setdefault(step, []).append(attempt)
    assert all(sorted(each) == list(range(1, len(each) + 1)) for each in attempts.values())
    limit = run.plan.settings.max_concurrency
    assert limit is None or run.busiest <= limit


def check_bodies(run: Run) -> None:
    """Every node of a body that was run has one row that is its last, and no body was run twice under one key."""
    opened = Counter((command.step, command.attempt) for command in run.commands if isinstance(command, OpenStep))
    assert all(count == 1 for count in opened.values())
    ended = Counter(
        (command.step, command.attempt) for command in run.commands if isinstance(command, EndStep | CancelStep)
    )
    assert all(count == 1 for count in ended.values())
    places: dict[tuple[int, str, int], set[str]] = {}
    for step, _ in run.rows:
        body = run.plan.nodes[step.node].body
        places.setdefault((body, step.path, step.round), set()).add(step.node)
    for (body, _, _), nodes in places.items():
        assert nodes == {node.id for node in run.plan.bodies[body].nodes}, "a node of a body has no row"


def check_times(run: Run) -> None:
    """A step starts when something happened; all that follows from one event has its time."""
    moments = [event.at for event in run.applied]
    assert moments == sorted(moments)
    ats = [
        command.at
        for command in run.commands
        if not isinstance(command, FoldLoop) and (not isinstance(command, StartStep) or command.attempt == 1)
    ]
    assert ats == sorted(ats)


@settings(max_examples=1500, deadline=None)
@given(SEEDS, SIZES)
def test_a_run_comes_to_one_whole_end(seed: int, size: int) -> None:
    workflow, _ = workflow_of(seed, size)
    run = workflow.run().begin("t").finish()
    check_whole(run)
    check_bodies(run)
    check_times(run)


@settings(max_examples=1500, deadline=None)
@given(SEEDS, SIZES)
def test_a_run_cut_anywhere_and_often_comes_to_the_same_end(seed: int, size: int) -> None:
    """No step that is recorded runs again (the driver refuses it), and all rows come to be the same."""
    workflow, rng = workflow_of(seed, size)
    run = workflow.run().begin("t").finish()
    for other in taken_over(workflow, run, rng):
        check_same(other, run)


@settings(max_examples=1000, deadline=None)
@example(387019, 8)  # a `stop` in an iteration of a loop in a `finally`
@given(SEEDS, SIZES)
def test_a_run_whose_loops_are_folded_comes_to_the_same_end(seed: int, size: int) -> None:
    """Folded iterations hold no places when the run is rebuilt, so that with a limit steps may begin sooner."""
    workflow, rng = workflow_of(seed, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loops, "FOLD", 2)
        run = workflow.run().begin("t").finish()
        for other in taken_over(workflow, run, rng):
            check_whole(other)
            if workflow.plan.settings.max_concurrency is None:
                check_same(other, run)


def taken_over(workflow: Workflow, run: Run, rng: Random) -> Iterator[Run]:
    """Cut a run, let another worker end it, cut that one, and so on."""
    found = durable(run, rng.randint(0, len(run.batches)), rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        other = workflow.run()
        other.resume(found, "t")
        other.finish()
        yield other
        found = durable(other, rng.randint(0, len(other.batches)), rng, found)


def check_same(other: Run, run: Run) -> None:
    check_whole(other)
    assert other.end == run.end
    assert set(other.rows) == set(run.rows)
    assert all(is_same(other.rows[attempt], record) for attempt, record in run.rows.items())


def is_same(one: StepRecord, other: StepRecord) -> bool:
    """The same, except that the row of a start that was lost makes a step that was cut off one that never began."""
    if one == other:
        return True
    cut = (one.state, other.state) in (
        (StepState.SKIPPED, StepState.FAILED),
        (StepState.FAILED, StepState.SKIPPED),
        (StepState.FAILED, StepState.FAILED),
    )
    return cut and CUT in (one.outcome, other.outcome) and one.at == other.at


@settings(max_examples=500, deadline=None)
@given(SEEDS, SIZES)
def test_the_order_of_the_rows_is_no_matter(seed: int, size: int) -> None:
    workflow, rng = workflow_of(seed, size)
    run = workflow.run().begin("t").finish()
    found = durable(run, rng.randint(0, len(run.batches)), rng)
    shuffled: list[tuple[Attempt, StepRecord]] = list(found.rows.items())
    rng.shuffle(shuffled)
    one, other = workflow.run(), workflow.run()
    assert one.resume(found, "t") == other.resume(replace(found, rows=dict(shuffled)), "t")
