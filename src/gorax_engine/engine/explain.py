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
class Wait:
    """Something that the run waits for; `kind` is that of `waits`. Without `due_at` it waits without end."""

    node_id: str
    path: str
    attempt: int
    kind: str
    due_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run at one moment of the database's clock (`now`).

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
    waiting_for: str | None = None


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
    if facts.owned:
        return _held(facts)
    if not facts.tenant_active:
        sentence = "The tenant is suspended; its runs go on when the operator of this service lifts the suspension."
        return _answer(facts, Blocker.SUSPENDED_TENANT, sentence, None)
    if facts.waiting_for == VERSION_UNSUPPORTED and not facts.ready:
        sentence = "No worker that took the run up can run its version: node types of it are not installed there."
        return _answer(facts, Blocker.VERSION_UNSUPPORTED, sentence, None)
    if facts.waits and not facts.ready:
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
        sentence = f"The run has failed: {facts.error_message or facts.error_code or 'no reason was recorded'}"
        return _answer(facts, Blocker.NONE, sentence, facts.completed_at, error_code=facts.error_code)
    return _answer(facts, Blocker.NONE, f"The run is {facts.status}.", facts.completed_at)


def _ending(facts: Facts) -> Explanation:
    if facts.ending == "worker_lost":
        sentence = "The run lost too many workers without progress; the next worker to take it up ends it."
        return _answer(facts, Blocker.QUARANTINED, sentence, None, crashes=facts.crashes)
    cause = "it was asked to" if facts.ending == "cancel" else "its deadline has passed"
    sentence = f"The run is about to end because {cause}; what must still run is running."
    return _answer(facts, Blocker.CANCELLING, sentence, None, kind=facts.ending, held=facts.owned)


def _held(facts: Facts) -> Explanation:
    age, lease = facts.owner_age_ms, facts.lease_ms
    if age is None or lease is None or age > lease:
        sentence = "The worker that held the run is lost; another one takes over as soon as the sweep has freed it."
        details = {"worker": facts.owner_name, "lease_ms": lease, "crashes": facts.crashes}
        return _answer(facts, Blocker.LEASE_LOST, sentence, facts.owner_seen_at, **details)
    if facts.steps:
        first = facts.steps[0]
        more = f" and {len(facts.steps) - 1} more" if len(facts.steps) > 1 else ""
        sentence = (
            f"The step `{_place(first.node_id, first.path)}` ({first.node_type}, attempt {first.attempt}){more} runs."
        )
        running = [
            {"node_id": s.node_id, "node_type": s.node_type, "iteration_path": s.path, "attempt": s.attempt}
            for s in facts.steps
        ]
        return _answer(facts, Blocker.RUNNING_STEP, sentence, first.started_at, worker=facts.owner_name, steps=running)
    if facts.waits:
        return _parked(facts)
    sentence = f"The worker {facts.owner_name} works on the run; no step is open at this moment."
    return _answer(facts, Blocker.NONE, sentence, facts.started_at, worker=facts.owner_name)


def _parked(facts: Facts) -> Explanation:
    oldest = facts.waits[0]
    place = _place(oldest.node_id, oldest.path)
    due = None if oldest.due_at is None else _text(oldest.due_at)
    waits = [
        {
            "node_id": w.node_id,
            "iteration_path": w.path,
            "kind": w.kind,
            "attempt": w.attempt,
            "due_at": None if w.due_at is None else _text(w.due_at),
        }
        for w in facts.waits
    ]
    blocker, sentence = _waiting(oldest.kind, place, oldest.attempt, due)
    return _answer(facts, blocker, sentence, oldest.created_at, waits=waits)


def _waiting(kind: str, place: str, attempt: int, due: str | None) -> tuple[Blocker, str]:
    """Say what a wait of this kind is for."""
    until = "" if due is None else f", at most until {due}"
    match kind:
        case "retry_backoff":
            return Blocker.RETRY_BACKOFF, f"Attempt {attempt} of the step `{place}` is due at {due}."
        case "human_task":
            return Blocker.HUMAN_TASK, f"The step `{place}` waits for people to decide its task{until}."
        case "in_doubt":
            return Blocker.HUMAN_TASK, f"Whether the step `{place}` has happened is for an admin to say{until}."
        case "event":
            return Blocker.EVENT, f"The step `{place}` waits for an event{until}."
        case "sub_workflow":
            return Blocker.SUB_WORKFLOW, f"The step `{place}` waits for the end of another run{until}."
        case _:
            return Blocker.TIMER, f"The step `{place}` waits until {due}."


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


def _place(node_id: str, path: str) -> str:
    return f"{path}.{node_id}" if path else node_id


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
