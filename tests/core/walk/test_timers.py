"""Timers: in which order they fire, and that they are kept no longer than they mean something."""

from gorax_engine.core.commands import CancelStep, StartStep
from gorax_engine.core.events import StepSucceeded, TimePassed
from gorax_engine.core.model import SECOND, StepKey
from gorax_engine.core.states import StepState
from tests.core.walk.driver import START
from tests.core.walk.flows import begin, fails, flow, gives, node


def test_a_timer_that_is_due_fires_before_an_event_of_its_time() -> None:
    run = begin("t>r r:body>a r:error>z", {"r": node("retry", {"timeout": 1})}, {"a": gives(after=5 * SECOND)})
    run.turn()
    run.turn()
    opened = run.now
    run.feed(StepSucceeded(StepKey("a"), "late", opened + SECOND))
    assert run.rows[StepKey("r"), 1].state is StepState.FAILED
    assert run.rows[StepKey("r"), 1].at == opened + SECOND


def test_timers_fire_at_their_times_however_late_they_are_told() -> None:
    """A worker that was away for a minute: the round begins, and is cut off by the timeout that came after it."""
    nodes = {"r": node("retry", {"timeout": 10}, max_attempts=9, initial_delay=1, strategy="fixed")}
    run = begin("t>r r:body>a", nodes, {"a": fails()})
    for _ in range(4):
        run.turn()
    failed = run.now
    run.feed(TimePassed(START + 60 * SECOND))
    assert run.commands[-4:-1] == [
        StartStep(StepKey("a", "", 1), 1, failed + SECOND),
        CancelStep(StepKey("a", "", 1), 1, START + 1 + 10 * SECOND),
        run.commands[-2],
    ]
    assert run.end.at == START + 1 + 10 * SECOND


def test_the_next_due_is_of_a_timer_that_means_something() -> None:
    run = begin("t>r r:body>a r:done>z", {"r": node("retry", {"timeout": 1})}, {"z": gives(after=10 * SECOND)})
    run.finish(START + 5)
    due = run.state.next_due()
    assert due is not None
    assert due[0] == START + 1 + SECOND
    run.finish(START + 2 * SECOND)
    assert run.states["r"] == "completed"
    assert run.state.next_due() is None


def test_many_timers_at_once() -> None:
    """Rounds that begin, timeouts that mean nothing any more, and more of both set while they fire."""
    loop = node("loop", source=300, max_concurrency=300, on_error="continue")
    retry = node("retry", {"timeout": 3}, max_attempts=3, initial_delay=1, strategy="fixed")
    run = flow("t>l l:body>r r:body>a", {"l": loop, "r": retry}, {"a": fails()})
    rounds = [key.round for (key, _) in run.rows if key.node == "a"]
    assert sorted(rounds) == [0] * 300 + [1] * 300 + [2] * 300
    assert len(run.state.timers) <= 400
