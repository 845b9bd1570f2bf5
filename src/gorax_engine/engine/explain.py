"""Why a run stands where it stands: one blocker of a closed set, and a sentence for people. Pure: facts in, words out.

The order of the questions is the order of what holds a run up: what ended it, what ends it, who holds it, whether
anybody may take it up, and only then what it waits for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from gorax_engine.core.structure import SCOPES

QUARANTINE_CRASHES = 2
"""After so many lost workers a run is a suspect and runs alone; one more fails it."""


class Blocker(StrEnum):
    NONE = "none"
    RUNNING_STEP = "running_step"
    QUEUED_BEHIND = "queued_behind"
    TENANT_QUOTA = "tenant_quota"
    WORKFLOW_LIMIT = "workflow_limit"
    NO_WORKER = "no_worker"
    VERSION_UNSUPPORTED = "version_unsupported"
    TIMER = "timer"
    RETRY_BACKOFF = "retry_backoff"
    HUMAN_TASK = "human_task"
    SUB_WORKFLOW = "sub_workflow"
    EVENT = "event"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    LEASE_LOST = "lease_lost"
    QUARANTINED = "quarantined"
    SUSPENDED_TENANT = "suspended_tenant"


SCOPE_TYPES: Final = SCOPES | {"join"}
"""Steps of these types are open while others work; they do nothing themselves, but may have timers."""
VERSION_UNSUPPORTED: Final = "version_unsupported"
"""What a run that this worker can't compile is parked with, in `waiting_for`."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that runs now."""

    node_id: str
    node_type: str
    path: str
    attempt: int
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Task:
    """A human task that is open. `assignees` as the task has them."""

    id: UUID
    title: str
    assignees: Sequence[Mapping[str, Any]]
    due_date: datetime | None


@dataclass(frozen=True, slots=True)
class Child:
    """The run that a step has started and waits for."""

    id: UUID
    status: str
    waiting_for: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that the run waits for, of a kind of the table `waits`; without `due_at` it has no end of its own.

    `task`, `child` and `event` (its name and key) are what it is about, None where that is not there yet.
    """

    node_id: str
    path: str
    attempt: int
    kind: str
    due_at: datetime | None
    created_at: datetime
    task: Task | None = None
    child: Child | None = None
    event: tuple[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run at one moment of the database's clock (`now`).

    `failed` is the step whose failure ended it. `steps` run, `waits` are the first of `wait_count`; `due_at` is when a
    run that nobody holds goes on by itself.
    `owned`: a worker holds it; then `owner_name` and `owner_age_ms` (since its heartbeat) are None if its row is gone.
    `ready`: it may be claimed. `ahead` counts the tenant's ready runs that come first, `in_flight` those that are held.
    `limit` is the tenant's (None or negative: no limit).
    """

    status: str
    now: datetime
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    error_code: str | None
    error_message: str | None
    tenant_active: bool
    queued: bool
    owned: bool
    ready: bool
    ready_at: datetime | None
    ending: str | None
    crashes: int
    owner_name: str | None
    owner_age_ms: float | None
    owner_seen_at: datetime | None
    lease_ms: int | None
    live_workers: int
    in_flight: int
    ahead: int
    limit: int | None
    steps: Sequence[Step] = ()
    waits: Sequence[Wait] = ()
    wait_count: int = 0
    waiting_for: str | None = None
    failed: Step | None = None
    due_at: datetime | None = None
    paused: bool = False

    @property
    def at_work(self) -> Sequence[Step]:
        """The steps that do something themselves."""
        return [step for step in self.steps if step.node_type not in SCOPE_TYPES]

    @property
    def scopes(self) -> Sequence[Step]:
        """The scopes that are open, the innermost (youngest) first."""
        return [step for step in self.steps if step.node_type in SCOPE_TYPES][::-1]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer: the run's state, what holds it up, a sentence, since when, and what the sentence was made of."""

    state: str
    blocker: Blocker
    sentence: str
    since: datetime | None
    details: Mapping[str, Any] = field(default_factory=dict)


def explain(facts: Facts) -> Explanation:
    """Return why the run stands where it stands."""
    if facts.status in {"completed", "failed", "cancelled"}:
        return _ended(facts)
    if facts.ending is not None:
        return _ending(facts)
    if facts.paused:
        return _paused(facts)
    if facts.owned:
        return _held(facts)
    if not facts.tenant_active:
        sentence = "The tenant is suspended; its runs go on when the operator of this service lifts the suspension."
        return _answer(facts, Blocker.SUSPENDED_TENANT, sentence, None)
    if facts.waiting_for == VERSION_UNSUPPORTED and not facts.ready:
        sentence = "No worker that took the run up can run its version: node types of it are not installed there."
        return _answer(facts, Blocker.VERSION_UNSUPPORTED, sentence, None)
    if facts.queued and not facts.ready:
        return _parked(facts)
    return _queued(facts)


def _ended(facts: Facts) -> Explanation:
    if facts.error_code == "worker_lost":
        sentence = (
            f"The run lost {QUARANTINE_CRASHES + 1} workers without progress and was ended, so that it takes no more "
            "of them along."
        )
        return _answer(facts, Blocker.QUARANTINED, sentence, facts.completed_at, crashes=facts.crashes)
    if facts.status == "failed":
        reason = facts.error_message or facts.error_code or "no reason was recorded"
        step = facts.failed
        if step is None:
            sentence = f"The run has failed: {reason}"
            return _answer(facts, Blocker.NONE, sentence, facts.completed_at, error_code=facts.error_code)
        sentence = f"The run has failed at the step `{_place(step.node_id, step.path)}`: {reason}"
        where = {"node_id": step.node_id, "iteration_path": step.path, "attempt": step.attempt}
        return _answer(facts, Blocker.NONE, sentence, facts.completed_at, error_code=facts.error_code, **where)
    return _answer(facts, Blocker.NONE, f"The run is {facts.status}.", facts.completed_at)


def _ending(facts: Facts) -> Explanation:
    if facts.ending == "worker_lost":
        sentence = "The run lost too many workers without progress; the next worker to take it up ends it."
        return _answer(facts, Blocker.QUARANTINED, sentence, None, crashes=facts.crashes)
    cause = "it was asked to" if facts.ending == "cancel" else "its deadline has passed"
    left = [_place(step.node_id, step.path) for step in facts.at_work]
    left += [_place(wait.node_id, wait.path) for wait in facts.waits]
    if facts.owned and left:
        rest = f"what must run before is at work: {_some(left)}."
    elif facts.owned:
        rest = "what must run before is running."
    elif left:
        rest = f"what must run before waits: {_some(left)}."
    else:
        rest = "the next free worker sees to it."
    sentence = f"The run is about to end because {cause}; {rest}"
    details = {"kind": facts.ending, "held": facts.owned, "steps": _steps(facts.at_work), "waits": _waits(facts)}
    return _answer(facts, Blocker.CANCELLING, sentence, None, **details)


def _paused(facts: Facts) -> Explanation:
    work = facts.at_work
    if facts.owned and work:
        places = _some([_place(step.node_id, step.path) for step in work])
        sentence = f"The run is paused: no further step begins; {places} still runs to its end. Resume it to go on."
    else:
        sentence = "The run is paused; resume it to go on, with all that has fallen due meanwhile."
    return _answer(facts, Blocker.PAUSED, sentence, None, steps=_steps(work), waits=_waits(facts))


def _held(facts: Facts) -> Explanation:
    age, lease = facts.owner_age_ms, facts.lease_ms
    if age is None or lease is None or age > lease:
        sentence = "The worker that held the run is lost; another one takes over as soon as the sweep has freed it."
        details = {"worker": facts.owner_name, "lease_ms": lease, "crashes": facts.crashes}
        return _answer(facts, Blocker.LEASE_LOST, sentence, facts.owner_seen_at, **details)
    work = facts.at_work
    if work:
        first = work[0]
        more = f" and {len(work) - 1} more" if len(work) > 1 else ""
        sentence = (
            f"The step `{_place(first.node_id, first.path)}` ({first.node_type}, attempt {first.attempt}){more} runs."
        )
        if age > lease / 2:
            sentence += (
                f" But its worker was last heard of {age / 1000:.0f} s ago; if it is dead, another one takes over when "
                f"{lease / 1000:.0f} s are over."
            )
        running = _steps(work)
        return _answer(facts, Blocker.RUNNING_STEP, sentence, first.started_at, worker=facts.owner_name, steps=running)
    if facts.waits:
        return _parked(facts)
    inside = f"; it is in the {_scope(facts.scopes[0])}" if facts.scopes else ""
    sentence = f"The worker {facts.owner_name} works on the run; no step is at work at this moment{inside}."
    return _answer(facts, Blocker.NONE, sentence, facts.started_at, worker=facts.owner_name)


def _parked(facts: Facts) -> Explanation:
    if not facts.waits:
        return _scope_waits(facts)
    first = facts.waits[0]
    blocker, sentence = _of_wait(first)
    others = max(facts.wait_count, len(facts.waits)) - 1
    if others:
        sentence += f" It waits for {others} other{'s' if others > 1 else ''}, too; see the details."
    return _answer(facts, blocker, sentence, first.created_at, waits=_waits(facts))


def _of_wait(wait: Wait) -> tuple[Blocker, str]:
    """Return what one wait is, in a sentence."""
    place = _place(wait.node_id, wait.path)
    until = "" if wait.due_at is None else f", at most until {_text(wait.due_at)}"
    match wait.kind:
        case "retry_backoff":
            return Blocker.RETRY_BACKOFF, f"Attempt {wait.attempt} of the step `{place}` is due at {_due(wait)}."
        case "human_task" | "in_doubt":
            task = wait.task
            if task is None:
                return Blocker.HUMAN_TASK, f"The step `{place}` waits for people{until}."
            who = ", ".join(_assignee(each) for each in task.assignees) or "nobody"
            due = "" if task.due_date is None else f"; it is due at {_text(task.due_date)}"
            sentence = f'The step `{place}` waits for a decision on the task "{task.title}" by {who}{due}{until}.'
            return Blocker.HUMAN_TASK, sentence
        case "sub_workflow":
            if wait.child is None:
                return Blocker.SUB_WORKFLOW, f"The step `{place}` waits for the run that it is starting{until}."
            state = wait.child.status
            if wait.child.waiting_for:
                state += f", waiting for {wait.child.waiting_for}"
            sentence = f"The step `{place}` waits for the end of the run {wait.child.id}, which is {state}{until}."
            return Blocker.SUB_WORKFLOW, sentence
        case "event":
            name, key = wait.event or ("", None)
            with_key = "" if key is None else f" with the key `{key}`"
            return Blocker.EVENT, f"The step `{place}` waits for an event `{name}`{with_key}{until}."
        case "timeout":
            return Blocker.TIMER, f"The step `{place}` waits{until}."
        case _:
            return Blocker.TIMER, f"The step `{place}` waits until {_due(wait)}."


def _scope_waits(facts: Facts) -> Explanation:
    """No step waits: it is a scope's own timer, or nothing at all."""
    blocker = Blocker.RETRY_BACKOFF if facts.waiting_for == Blocker.RETRY_BACKOFF else Blocker.TIMER
    if facts.due_at is None:
        return _answer(facts, Blocker.NONE, "The run waits for what happens next.", None, waiting_for=facts.waiting_for)
    what = "next attempt" if blocker is Blocker.RETRY_BACKOFF else "timer"
    scopes = [scope for scope in facts.scopes if blocker is Blocker.TIMER or scope.node_type != "join"]
    of = f" of the {_scope(scopes[0])}" if scopes else " of a scope"
    sentence = f"The {what}{of} is due at {_text(facts.due_at)}."
    return _answer(facts, blocker, sentence, None, due_at=_text(facts.due_at), scopes=_steps(scopes))


def _queued(facts: Facts) -> Explanation:
    since = facts.ready_at or facts.created_at
    if not facts.live_workers:
        sentence = "No worker is alive; start one (`gorax serve` with the role worker)."
        return _answer(facts, Blocker.NO_WORKER, sentence, since, live_workers=0)
    if facts.crashes >= QUARANTINE_CRASHES:
        sentence = f"The run lost {facts.crashes} workers without progress, so it waits for one that runs it alone."
        return _answer(facts, Blocker.QUARANTINED, sentence, since, crashes=facts.crashes)
    if facts.limit is not None and 0 <= facts.limit <= facts.in_flight:
        sentence = (
            f"The tenant may have {facts.limit} runs in flight and has {facts.in_flight}; this one waits for a place."
        )
        return _answer(facts, Blocker.TENANT_QUOTA, sentence, since, limit=facts.limit, in_flight=facts.in_flight)
    if facts.ahead:
        sentence = f"{facts.ahead} of the tenant's runs come first; {facts.live_workers} workers are alive."
        return _answer(
            facts, Blocker.QUEUED_BEHIND, sentence, since, ahead=facts.ahead, live_workers=facts.live_workers
        )
    sentence = "The run is the tenant's next; the next free worker takes it up."
    return _answer(facts, Blocker.NONE, sentence, since, live_workers=facts.live_workers)


def _answer(facts: Facts, blocker: Blocker, sentence: str, since: datetime | None, **details: Any) -> Explanation:
    return Explanation(facts.status, blocker, sentence, since, details)


def _steps(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [
        {"node_id": s.node_id, "node_type": s.node_type, "iteration_path": s.path, "attempt": s.attempt} for s in steps
    ]


def _waits(facts: Facts) -> list[dict[str, Any]]:
    return [_wait(wait) for wait in facts.waits]


def _wait(wait: Wait) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "node_id": wait.node_id,
        "iteration_path": wait.path,
        "kind": wait.kind,
        "attempt": wait.attempt,
        "due_at": None if wait.due_at is None else _text(wait.due_at),
    }
    if (task := wait.task) is not None:
        due = None if task.due_date is None else _text(task.due_date)
        shown["task"] = {"id": str(task.id), "title": task.title, "assignees": list(task.assignees), "due_date": due}
    if (child := wait.child) is not None:
        shown["child"] = {"id": str(child.id), "status": child.status, "waiting_for": child.waiting_for}
    if wait.event is not None:
        shown["event"] = {"name": wait.event[0], "correlation_key": wait.event[1]}
    return shown


def _assignee(given: Mapping[str, Any]) -> str:
    return f"the {given.get('type') or 'user'} {given.get('name') or given.get('id')}"


def _scope(step: Step) -> str:
    return f"{step.node_type} `{_place(step.node_id, step.path)}`"


def _some(places: Sequence[str]) -> str:
    shown = ", ".join(f"`{place}`" for place in places[:3])
    return f"{shown} and {len(places) - 3} more" if len(places) > 3 else shown


def _place(node_id: str, path: str) -> str:
    return f"{path}.{node_id}" if path else node_id


def _due(wait: Wait) -> str:
    return "an unknown time" if wait.due_at is None else _text(wait.due_at)


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
