"""What the steps of one run wait for: opened with their rows, due at their time, ended by a signal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.core.instants import format_instant
from gorax_engine.core.json_edge import Unencodable, encode
from gorax_engine.core.model import (
    SECOND,
    ChildWait,
    Classification,
    Completed,
    EventWait,
    Failed,
    StepError,
    StepKey,
    Suspended,
    TaskWait,
)
from gorax_engine.core.policies import classify
from gorax_engine.engine.entries import ChildStart, StartedChild
from gorax_engine.engine.recorder import encode_bounded
from gorax_engine.store.runs import OpenWait

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json, Outcome
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.engine.recorder import Recorder
    from gorax_engine.engine.run import Run

MAX_DEPTH: Final = 10
"""The depth at which a child may still run; the root's is 0."""
LATEST: Final = 253_402_300_799 * SECOND
"""The last second of the year 9999, in microseconds since 1970."""

Attempt = tuple[StepKey, int]


class Waiting:
    """The open waits of one run, by step and attempt."""

    def __init__(self, run: Run, recorder: Recorder) -> None:
        self.open: dict[Attempt, OpenWait] = {}
        self._run = run
        self._recorder = recorder
        self._steps: dict[UUID, Attempt] = {}
        self._orphans: dict[UUID, OpenWait] = {}  # cut off before it was known which run was started for them

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt in self.open

    def __bool__(self) -> bool:
        return bool(self.open)

    def adopt(self, waits: Mapping[Attempt, OpenWait]) -> None:
        """Take over the waits that are recorded."""
        self.open.update(waits)
        self._steps.update((self._recorder.step_id(*attempt), attempt) for attempt in waits)

    def due(self) -> Instant | None:
        """When the next of them is over."""
        return min((wait.due for wait in self.open.values() if wait.due is not None), default=None)

    def take_due(self, now: Instant) -> list[OpenWait]:
        """Remove those that are over, and return them in the order of their times."""
        over = [wait for wait in self.open.values() if wait.due is not None and wait.due <= now]
        over.sort(key=lambda wait: (wait.due, wait.step, wait.attempt))
        for wait in over:
            self.close(wait)
        return over

    def oldest(self) -> OpenWait | None:
        """The one to be named when the run is asked what it waits for: the next that is due, else any."""
        late = max((wait.due for wait in self.open.values() if wait.due is not None), default=0) + 1
        return min(self.open.values(), key=lambda wait: (wait.due or late, wait.step), default=None)

    def close(self, wait: OpenWait) -> None:
        """A wait is over."""
        del self.open[wait.step, wait.attempt]
        self._steps.pop(self._recorder.step_id(wait.step, wait.attempt), None)
        self._recorder.waited_for(wait)

    def cut(self, attempt: Attempt) -> OpenWait | None:
        """A step is cut off: end its wait, and the child that it waits for, unless that may go on."""
        wait = self.open.get(attempt)
        if wait is None:
            return None
        self.close(wait)
        self.let_go(wait)
        return wait

    def let_go(self, wait: OpenWait) -> None:
        """Nobody waits for a child any more."""
        if wait.kind == "sub_workflow" and not (wait.detail or {}).get("abandon"):
            if wait.child is None:
                self._orphans[self._recorder.step_id(wait.step, wait.attempt)] = wait
            self._recorder.cancel_child(wait)

    def backoff(self, node: PlanNode, step: StepKey, attempt: int, due: Instant) -> None:
        """An attempt is not due yet."""
        self._add(node, OpenWait(step, attempt, "retry_backoff", due, None))

    def doubt(self, node: PlanNode, step: StepKey, attempt: int) -> None:
        """It is not known what an attempt did whose worker died: people are asked."""
        wait = OpenWait(step, attempt, "in_doubt", None, None)
        content = {
            "task_type": "review",
            "title": f"Did the step {node.id} happen?"[:255],
            "description": "Its worker died while it ran. Approve if it happened: the response becomes its output. "
            "Reject to run it again.",
            "assignees": [{"type": "role", "name": "admin"}],
        }
        task = self._task(node, wait, content)
        self._add(node, wait)
        self._recorder.open_task(self._recorder.step_id(step, attempt), task)

    def begin(self, node: PlanNode, step: StepKey, attempt: int, outcome: Suspended, now: Instant) -> Failed | None:
        """Open the wait of a step that has suspended itself; or say why it can't wait."""
        flaw = _flaw(outcome)
        if flaw is not None:
            return Failed(StepError("type_error", f"What the step waits for can't be stored: {flaw}."))
        due, kind = outcome.due_at, "timer"
        if node.timeout is not None and (due is None or now + node.timeout < due):
            kind, due = "timeout", now + node.timeout
        try:
            match outcome.wait:
                case None:
                    encode(outcome.output)
                    self._add(node, OpenWait(step, attempt, kind, due, outcome.output))
                case TaskWait(content=content):
                    wait = OpenWait(step, attempt, "human_task", due, None)
                    task = self._task(node, wait, content)
                    self._add(node, wait)
                    self._recorder.open_task(self._recorder.step_id(step, attempt), task)
                case EventWait(name=name, correlation_key=key):
                    encode([name, key])
                    self._add(node, OpenWait(step, attempt, "event", due, None), event_name=name, correlation_key=key)
                    self._recorder.match_event(step, attempt)
                case ChildWait() as child:
                    return self._begin_child(node, OpenWait(step, attempt, "sub_workflow", due, None), child)
        except Unencodable as error:
            return Failed(StepError("type_error", f"What the step waits for can't be stored: {error}."))
        return None

    def _begin_child(self, node: PlanNode, wait: OpenWait, child: ChildWait) -> Failed | None:
        claim = self._run.claim
        if claim.depth >= MAX_DEPTH:
            message = (
                f"Sub-workflows may be nested {MAX_DEPTH} deep, and this run is at that depth: "
                "look for workflows that start each other."
            )
            return Failed(StepError("depth_exceeded", message))
        detail = {
            "abandon": child.abandon or not child.is_sync,
            "output_mapping": child.output_mapping,
            "is_sync": child.is_sync,
        }
        wait.detail = detail
        start = ChildStart(
            self._recorder.step_id(wait.step, wait.attempt),
            claim.execution_id,
            claim.tenant_id,
            child.workflow,
            encode_bounded({"body": child.input}),
            claim.depth + 1,
            child.is_sync,
        )
        encode([detail, child.workflow])
        self._add(node, wait)
        self._recorder.start_child(start)
        return None

    def child_started(self, started: StartedChild) -> None:
        """A flush has started a child."""
        wait = self._orphans.pop(started.step_id, None) or self.waits_for(started.step_id)
        if wait is not None:
            wait.child = started.execution_id

    def waits_for(self, step_id: UUID) -> OpenWait | None:
        """Return the wait of a step's row, if it is open."""
        attempt = self._steps.get(step_id)
        return None if attempt is None else self.open[attempt]

    def signalled(self, signals: Mapping[UUID, Json]) -> Iterable[tuple[OpenWait, UUID, Json]]:
        """Return the waits for which something has come, with it."""
        for step_id, resolution in signals.items():
            attempt = self._steps.get(step_id)
            if attempt is not None:
                yield self.open[attempt], step_id, resolution

    def _add(
        self, node: PlanNode, wait: OpenWait, event_name: str | None = None, correlation_key: str | None = None
    ) -> None:
        self.open[wait.step, wait.attempt] = wait
        self._steps[self._recorder.step_id(wait.step, wait.attempt)] = (wait.step, wait.attempt)
        self._recorder.waiting(node, wait, event_name, correlation_key)

    def _task(self, node: PlanNode, wait: OpenWait, content: Mapping[str, Json]) -> str:
        """Return what `gorax_open_tasks` takes, as JSON. Raises Unencodable."""
        claim = self._run.claim
        task = {
            "tenant_id": str(claim.tenant_id),
            "execution_id": str(claim.execution_id),
            "workflow_id": str(claim.workflow_id),
            "step_id": str(self._recorder.step_id(wait.step, wait.attempt)),
            "node_id": node.id,
            "iteration_path": wait.step.path,
            "opened_at": format_instant(self._run.last),
            "content": dict(content),
        }
        return encode_bounded(task)


def _flaw(outcome: Suspended) -> str | None:
    """Return what is wrong with the types of a suspension: nobody has checked what a plug-in made."""
    due, wait = outcome.due_at, outcome.wait
    if not _is(due, int, NoneType) or (due or 0) > LATEST:
        return "its moment is no number of microseconds up to the year 9999"
    if not _is(wait, TaskWait, EventWait, ChildWait, NoneType):
        return f"there is no waiting for a {type(wait).__name__}"
    match wait:
        case TaskWait(content=content) if not _is(content, Mapping):
            return "the content of its task is no object"
        case EventWait(name=name, correlation_key=key) if not (_is(name, str) and _is(key, str, NoneType)):
            return "the name or the key of its event is no text"
        case ChildWait(workflow=workflow) if not _is(workflow, str):
            return "the name of its workflow is no text"
        case _:
            return None


def _is(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds)


def outcome_of(resolution: Mapping[str, Json]) -> Outcome:
    """Return what a signal says, as the outcome of the step that waited for it."""
    if resolution.get("status") == "completed":
        return Completed(resolution.get("output"), resolution.get("outcome"))
    error = resolution.get("error") or {}
    return Failed(
        StepError(
            error.get("code") or "unknown",
            error.get("message") or "",
            Classification(error.get("classification") or classify(error.get("code") or "").value),
            error.get("details") or {},
        )
    )
