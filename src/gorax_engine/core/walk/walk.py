"""The walk itself: nodes that run or are skipped, edges that live or die, bodies and scopes that end.

The rules:

- An edge is undecided, then live or dead. A node is ready when every incoming edge is decided: it runs if one is live,
  and is skipped if all are dead (dead-path elimination); a skipped node's edges die. Joins have their own (`joins.py`).
- On success a node's `error` edges die; on failure all others do, unless `on_error: continue` keeps them.
- A failure is retried by the node's policy, then goes to its `error` edge, then to `on_error`, then ends the body that
  the node is in: its scope decides what that means (`scopes.py`); at the top the run ends (`ends.py`).
- Who ends a body early cuts off what runs in it; an open `finally` in it runs first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gorax_engine.core.commands import CancelStep, Command, EndStep, SkipStep, StartStep
from gorax_engine.core.model import OnError, StepError
from gorax_engine.core.policies import retry_delay, should_retry, step_error_json
from gorax_engine.core.scopes import JoinPlan
from gorax_engine.core.walk import ends, joins, scopes
from gorax_engine.core.walk.state import (
    CANCELLED,
    DECIDED,
    FAILED,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    UNDECIDED,
    Failure,
    Frame,
    Result,
    ScopeRun,
    Success,
    Timer,
    TryRun,
    WalkState,
    scope_of,
)

if TYPE_CHECKING:
    from gorax_engine.core.expressions import Scope
    from gorax_engine.core.model import Json
    from gorax_engine.core.plan import Plan, PlanNode


class Walk:
    """One call of `proceed`: the state that it changes, and the commands so far.

    `at` is the time of what happens now. `work` is what follows from it and is still to be done, in order, rather than
    by recursion: scopes to `open`, edges of nodes that have `succeeded` or `failed`, and frames that have `ended`.
    """

    __slots__ = ("at", "commands", "limit", "plan", "state", "work")

    def __init__(self, plan: Plan, state: WalkState) -> None:
        self.plan = plan
        self.state = state
        self.at = state.at
        self.limit = plan.settings.max_concurrency
        self.commands: list[Command] = []
        self.work: list[tuple[str, Frame, int]] = []

    # --- what follows -------------------------------------------------------------------------------------------------

    def work_off(self) -> None:
        """Do all that follows from what has happened, and last deal out the places that are free then."""
        for what, frame, index in self.work:  # grows while it is gone through
            self._work(what, frame, index)
        self.work.clear()
        if self.limit is not None:
            self._deal_places(self.limit)

    def _work(self, what: str, frame: Frame, index: int) -> None:
        match what:
            case "open":
                if frame.result is None and index in frame.attempts:
                    scopes.open_scope(self, frame, index)
            case "ended":
                self._tell_end(frame)
            case _:
                self._decide_edges(frame, index, has_failed=what == "failed")

    def _deal_places(self, limit: int) -> None:
        """Start what waits for a place, in the order in which it came to wait."""
        state = self.state
        while state.ready and state.running < limit:
            frame, index = state.ready.popleft()
            if frame.nodes[index] == READY:  # else it was cut off meanwhile
                self._start(frame, frame.body.nodes[index])

    def _decide_edges(self, frame: Frame, index: int, *, has_failed: bool) -> None:
        if frame.result is not None:
            return
        node = frame.body.nodes[index]
        wanted = "error" if has_failed and node.has_error_edge else None
        for edge in node.out:
            self.decide(frame, edge.target, edge.label == wanted, index)
        self.settle(frame)

    def decline(self, frame: Frame, node: PlanNode) -> None:
        """Skip a node whose `when` is false."""
        del frame.attempts[node.index]
        self.skip(frame, node.index, declined=True)
        self.settle(frame)

    # --- edges and nodes ----------------------------------------------------------------------------------------------

    def decide(self, frame: Frame, target: int, alive: bool, source: int) -> None:
        """One incoming edge of `target` is decided; the last one decides the node."""
        if frame.result is not None:
            return  # all that had not begun was skipped
        if alive:
            frame.live[target] = 1
            frame.continues[source] = 1
        frame.pending[target] -= 1
        if frame.nodes[target] != UNDECIDED:
            return  # a join that has fired, or what one cut off; the trigger
        scope = frame.body.nodes[target].scope
        if scope is not None and isinstance(scope, JoinPlan):
            joins.arrive(self, frame, frame.body.nodes[target], source if alive else None)
        elif frame.pending[target] == 0:
            if frame.live[target]:
                self.run(frame, target)
            else:
                self.skip(frame, target)

    def run(self, frame: Frame, index: int) -> None:
        """Run a node that is ready."""
        node = frame.body.nodes[index]
        if node.scope is not None:
            frame.nodes[index] = RUNNING
            frame.attempts[index] = 1
            self.work.append(("open", frame, index))
        elif self.limit is not None:
            frame.nodes[index] = READY
            self.state.ready.append((frame, index))
        else:
            self._start(frame, node)

    def _start(self, frame: Frame, node: PlanNode) -> None:
        frame.nodes[node.index] = RUNNING
        frame.attempts[node.index] = 1
        self.state.running += 1
        self.commands.append(StartStep(frame.key(node), 1, self.at))

    def skip(self, frame: Frame, index: int, *, declined: bool = False) -> None:
        """Skip a node and, without recursion, all that die with it."""
        dead = [index]
        while dead:
            index = dead.pop()
            if frame.nodes[index] >= DECIDED:
                continue  # a join that can't be satisfied any more has cut it off
            frame.nodes[index] = SKIPPED
            frame.remaining -= 1
            node = frame.body.nodes[index]
            self.commands.append(SkipStep(frame.key(node), self.at, declined))
            declined = False
            for edge in node.out:
                target = edge.target
                frame.pending[target] -= 1
                if frame.nodes[target] != UNDECIDED:
                    continue
                if isinstance(frame.body.nodes[target].scope, JoinPlan):
                    joins.arrive(self, frame, frame.body.nodes[target], None)
                elif frame.pending[target] == 0:
                    if frame.live[target]:
                        self.run(frame, target)
                    else:
                        dead.append(target)

    def settle(self, frame: Frame) -> None:
        """End the frame when every node of it is decided."""
        if frame.remaining == 0:
            self.work.append(("ended", frame, 0))

    def failure(self, node: PlanNode, error: StepError, attempt: int) -> Failure:
        """Return the failure of an attempt, with the error as templates see it."""
        return Failure(error, step_error_json(error, node.id, node.type, attempt, node.retry.max_attempts, self.at))

    def node_failed(self, frame: Frame, node: PlanNode, attempt: int, failure: Failure) -> None:
        """An attempt of a node has failed: again, or its error edge, or `on_error`, or the end of its body."""
        index, state = node.index, self.state
        if frame.result is None and should_retry(node.retry, failure.error, attempt):
            frame.attempts[index] = attempt + 1
            seed = b"%s:%s:%d" % (state.seed, f"{node.id}:{frame.path}:{frame.round}".encode(), attempt)
            due = self.at + retry_delay(node.retry, failure.error, attempt, seed)
            if node.scope is None:
                state.running += 1  # it keeps its place
                self.commands.append(StartStep(frame.key(node), attempt + 1, due))
            else:
                state.set_timer(due, Timer("reopen", frame, index, attempt + 1))
            return
        frame.nodes[index] = FAILED
        del frame.attempts[index]
        frame.remaining -= 1
        if frame.result is None:
            if not node.has_error_edge and node.on_error is OnError.FAIL:
                self.close(frame, failure)
                return
            frame.outputs[node.id] = {"error": dict(failure.bound)}
            self.work.append(("failed", frame, index))
        self.settle(frame)

    # --- frames and scopes --------------------------------------------------------------------------------------------

    def scope(self, frame: Frame) -> Scope:
        """Return what expressions see in a frame now."""
        return scope_of(self.plan, self.state, frame, self.at)

    def open_frame(
        self,
        run: ScopeRun,
        body: int,
        place: int,
        path: str,
        outputs: Mapping[str, Json],
        names: Mapping[str, Json],
    ) -> Frame:
        """Put a body of a scope to work."""
        around = run.frame
        frame = Frame(
            self.plan.bodies[body], run, place, path, run.round, dict(outputs), {**around.roots, **names}, self.at
        )
        self.state.frames[body, path, run.round] = frame
        run.children.append(frame)
        for index in frame.body.entries:
            self.run(frame, index)
        return frame

    def close(self, frame: Frame, result: Result) -> None:
        """End a frame early: what runs is cut off, what never ran is skipped. The first reason counts.

        What is inside goes the same way, without recursion.
        """
        closing = [frame]
        while closing:
            frame = closing.pop()
            if frame.result is not None or frame.ended:
                continue
            frame.result = result
            result = CANCELLED
            for index in sorted(frame.attempts):
                closing += self.cut(frame, index)
            if frame.remaining:
                for index, node_state in enumerate(frame.nodes):
                    if node_state < RUNNING:
                        frame.nodes[index] = SKIPPED
                        frame.remaining -= 1
                        self.commands.append(SkipStep(frame.key(frame.body.nodes[index]), self.at))
            self.settle(frame)

    def cut(self, frame: Frame, index: int) -> list[Frame]:
        """Cut off a node that runs; of a scope, return the frames that are to be closed."""
        node = frame.body.nodes[index]
        run = frame.scopes.get(index)
        if run is not None:
            return self._release(run, CANCELLED)
        attempt = frame.attempts.pop(index)
        frame.nodes[index] = FAILED
        frame.remaining -= 1
        if node.scope is None:
            self.state.running -= 1
        if node.scope is None or attempt == 1:
            self.commands.append(CancelStep(frame.key(node), attempt, self.at))
        return []

    def unwind(self, run: ScopeRun, result: Result) -> None:
        """End a scope with `result` as soon as what is in it has ended, which is cut off. The first reason counts."""
        for child in self._release(run, result):
            self.close(child, CANCELLED)

    def _release(self, run: ScopeRun, result: Result) -> list[Frame]:
        """Say how a scope is to end, and return the frames to close before; a `finally` runs to its own end."""
        if run.result is not None:
            return []
        run.result = result
        if not run.children:
            scopes.unwound(self, run)
            return []
        return [] if isinstance(run, TryRun) and run.phase == "finally" else list(run.children)

    def finish(self, run: ScopeRun, result: Result, outputs: Mapping[str, Json] | None = None) -> None:
        """A scope has ended. `outputs` are those of its steps that can be seen from now on."""
        frame, node, attempt = run.frame, run.node, run.attempt
        key = frame.key(node)
        del frame.scopes[node.index]
        if run.round > frame.round or node.retry.max_attempts > 1:
            self.state.rounds[node.id, frame.path] = run.round
        if isinstance(result, Failure):
            self.commands.append(EndStep(key, attempt, None, result.error, result.bound, self.at))
            self.node_failed(frame, node, attempt, result)
            return
        del frame.attempts[node.index]
        frame.remaining -= 1
        if isinstance(result, Success):
            self.commands.append(EndStep(key, attempt, result.output, None, None, self.at))
            frame.nodes[node.index] = SUCCEEDED
            frame.outputs[node.id] = result.output
            if outputs:
                frame.outputs.update(outputs)
            self.work.append(("succeeded", frame, node.index))
        else:
            frame.nodes[node.index] = FAILED
            self.commands.append(CancelStep(key, attempt, self.at))
        self.settle(frame)

    def _tell_end(self, frame: Frame) -> None:
        """A frame has ended: tell its scope, which may end others, or end the run."""
        if frame.ended:
            return
        frame.ended = True
        run = frame.owner
        if run is None:
            ends.end_run(self, frame)
            return
        del self.state.frames[frame.body.number, frame.path, frame.round]
        run.children.remove(frame)
        if run.result is None:
            scopes.child_ended(self, run, frame, frame.result or Success(ends.leaf_output(frame)))
        else:
            scopes.child_cut(run, frame)
            if not run.children:
                scopes.unwound(self, run)
