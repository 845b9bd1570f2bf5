"""The ends of waits: a moment that has come, a signal, the end of a child in this very worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio

from gorax_engine.core.commands import StartStep
from gorax_engine.core.events import TimePassed
from gorax_engine.core.failures import step_timed_out
from gorax_engine.core.model import Completed, Failed
from gorax_engine.engine.children import child_ends, needs_steps, outcome_of_end
from gorax_engine.engine.settling import IN_DOUBT
from gorax_engine.engine.waiting import outcome_of
from gorax_engine.errors import Unavailable
from gorax_engine.store import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gorax_engine.core.model import Json, Outcome
    from gorax_engine.engine.entries import Tell
    from gorax_engine.engine.recorder import Recorder
    from gorax_engine.engine.run import Run
    from gorax_engine.engine.settling import Settling
    from gorax_engine.engine.waiting import Waiting
    from gorax_engine.store.runs import OpenWait

RETRY_DELAY: Final = 0.2


class Hearing:
    """Ends the waits of one run. `signalled` says that signals may have come for them."""

    __slots__ = ("_recorder", "_run", "_settling", "_waiting", "signalled")

    def __init__(self, run: Run, recorder: Recorder, waiting: Waiting, settling: Settling) -> None:
        self.signalled = False
        self._run = run
        self._recorder = recorder
        self._waiting = waiting
        self._settling = settling

    def fire_due(self, start: Callable[[StartStep], None]) -> None:
        """End what is due by now; `start` is called for each attempt that has waited to begin."""
        run = self._run
        now = run.engine.clock.now()
        timer = run.state.next_due()
        if timer is not None and timer[0] <= now:
            self._settling.events.append(TimePassed(run.tick()))
        for wait in self._waiting.take_due(now):
            assert wait.due is not None
            step, attempt = wait.step, wait.attempt
            node = run.plan.nodes[step.node]
            if wait.kind == "retry_backoff":
                start(StartStep(step, attempt, wait.due))
            elif wait.kind == "timer":
                done = Completed(wait.output)
                self._settling.settle(node, StartStep(step, attempt, now), done, "", None, run.tick())
            else:
                self._waiting.let_go(wait)
                failed = Failed(step_timed_out(node))
                self._settling.settle(node, StartStep(step, attempt, now), failed, "", None, run.tick())

    def hear_child(self, tell: Tell) -> None:
        """Take the end of a child whose output is at hand; for one whose steps are needed, its signal is read."""
        wait = self._waiting.waits_for(tell.step_id)
        if wait is None:
            return
        if needs_steps(wait) or (wait.detail or {}).get("is_sync") is False:
            self.signalled = True
            return
        self._waiting.close(wait)
        self._recorder.resolved(tell.step_id)
        run = self._run
        command = StartStep(wait.step, wait.attempt, run.engine.clock.now())
        node = run.plan.nodes[wait.step.node]
        self._settling.settle(node, command, outcome_of_end(wait, tell.end), "", None, run.tick())

    async def hear_signals(self, start_again: Callable[[StartStep], None]) -> None:
        """Take what has come for our waits; `start_again` is called for each attempt in doubt that people repeat."""
        self.signalled = False
        run = self._run
        while True:
            try:
                signals = await runs.signals(run.engine.session, run.claim.execution_id)
                heard = list(self._waiting.signalled(signals))
                ended = {UUID(child): wait for wait, _, said in heard if (child := _child_of(wait, said)) is not None}
                ends = await child_ends(run.engine.session, ended)
                break
            except Unavailable:
                await anyio.sleep(RETRY_DELAY)
        for wait, step_id, said in heard:
            child = _child_of(wait, said)
            outcome = _outcome(wait, said) if child is None else outcome_of_end(wait, ends.get(UUID(child)))
            self._waiting.close(wait)
            self._recorder.resolved(step_id)
            command = StartStep(wait.step, wait.attempt, run.engine.clock.now())
            if outcome is None:
                start_again(command)
            else:
                self._settling.settle(run.plan.nodes[wait.step.node], command, outcome, "", None, run.tick())


def _child_of(wait: OpenWait, resolution: Mapping[str, Json]) -> str | None:
    """Return the child whose end a signal tells; None for one that says all itself."""
    return resolution.get("execution_id") if wait.kind == "sub_workflow" else None


def _outcome(wait: OpenWait, resolution: Mapping[str, Json]) -> Outcome | None:
    """Return what a signal means for its step; None: run it again."""
    outcome = outcome_of(resolution)
    if wait.kind != "in_doubt" or not isinstance(outcome, Completed):
        return outcome
    match outcome.outcome:
        case "approved":
            response = outcome.output.get("response") if isinstance(outcome.output, dict) else None
            return Completed(response)
        case "rejected":
            return None
        case _:
            return Failed(IN_DOUBT)
