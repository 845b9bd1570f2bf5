"""Explain as a function: every blocker, which one wins, what is said of it, and that there is always an answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.engine.explain import Blocker, Child, Facts, Step, Task, Wait, explain

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STEP = Step("call", "http_request", "items[1]", 2, NOW)
TIMER = Wait("pause", "", 1, "timer", NOW + timedelta(hours=1), NOW)
BACKOFF = replace(TIMER, kind="retry_backoff", attempt=3)
ID = UUID(int=7)
LATER = NOW + timedelta(hours=2)
TASK = replace(TIMER, kind="human_task", due_at=None)
ASKED = replace(TASK, task=Task(ID, "P?", [{"type": "role", "name": "hr"}], due_date=LATER))
CHILD = replace(TIMER, kind="sub_workflow", due_at=None, child=Child(ID, "running", "timer"))
EVENT = replace(TIMER, kind="event", event=("order.paid", "A-17"))
LOOP = Step("each", "loop", "", 1, NOW)
RETRY = Step("again", "retry", "each[3]", 1, NOW)

QUEUED = Facts(
    status="running", now=NOW, created_at=NOW, started_at=NOW, completed_at=None, error_code=None, error_message=None,
    tenant_active=True, queued=True, owned=False, ready=True, ready_at=NOW, ending=None, crashes=0, owner_name=None,
    owner_age_ms=None, owner_seen_at=None, lease_ms=None, live_workers=1, in_flight=0, ahead=0, limit=None,
)  # fmt: skip
HELD = replace(QUEUED, owned=True, owner_name="w1", owner_age_ms=10.0, owner_seen_at=NOW, lease_ms=15_000)
PARKED = replace(QUEUED, ready=False, ready_at=None, waits=(TIMER,))


@pytest.mark.parametrize(
    ("facts", "blocker"),
    [
        (replace(QUEUED, status="completed"), Blocker.NONE),
        (replace(QUEUED, status="failed", error_code="timeout"), Blocker.NONE),
        (replace(QUEUED, status="failed", error_code="worker_lost"), Blocker.QUARANTINED),
        (replace(HELD, ending="cancel", steps=(STEP,)), Blocker.CANCELLING),
        (replace(QUEUED, ending="timeout"), Blocker.CANCELLING),
        (replace(QUEUED, ending="worker_lost"), Blocker.QUARANTINED),
        (HELD, Blocker.NONE),
        (replace(HELD, steps=(STEP,), waits=(TIMER,)), Blocker.RUNNING_STEP),
        (replace(HELD, waits=(TIMER,)), Blocker.TIMER),
        (replace(HELD, steps=(STEP,), owner_age_ms=15_001.0), Blocker.LEASE_LOST),
        (replace(HELD, owner_age_ms=None, lease_ms=None), Blocker.LEASE_LOST),
        (PARKED, Blocker.TIMER),
        (replace(PARKED, waits=(), waiting_for="version_unsupported"), Blocker.VERSION_UNSUPPORTED),
        (replace(PARKED, waits=(BACKOFF, TIMER)), Blocker.RETRY_BACKOFF),
        (replace(HELD, ending="cancel", paused=True), Blocker.CANCELLING),
        (replace(QUEUED, paused=True), Blocker.PAUSED),
        (replace(QUEUED, status="completed", paused=True), Blocker.NONE),
        (replace(HELD, paused=True, steps=(STEP,)), Blocker.PAUSED),
        (replace(PARKED, paused=True, tenant_active=False), Blocker.PAUSED),
        (replace(HELD, steps=(LOOP, RETRY)), Blocker.NONE),
        (replace(HELD, steps=(STEP, LOOP), waits=(TIMER,)), Blocker.RUNNING_STEP),
        (replace(HELD, steps=(LOOP,), waits=(CHILD,)), Blocker.SUB_WORKFLOW),
        (replace(PARKED, waits=(), steps=(LOOP,), waiting_for="timer", due_at=LATER), Blocker.TIMER),
        (replace(PARKED, waits=(), steps=(LOOP,), waiting_for="retry_backoff", due_at=LATER), Blocker.RETRY_BACKOFF),
        (replace(PARKED, waits=()), Blocker.NONE),
        (replace(PARKED, waits=(ASKED,)), Blocker.HUMAN_TASK),
        (replace(PARKED, waits=(CHILD,)), Blocker.SUB_WORKFLOW),
        (replace(PARKED, waits=(EVENT,)), Blocker.EVENT),
        (replace(PARKED, waits=(replace(TIMER, kind="timeout"),)), Blocker.TIMER),
        (replace(PARKED, waits=(TASK, TIMER)), Blocker.HUMAN_TASK),
        (replace(PARKED, waits=(replace(TASK, kind="in_doubt"),)), Blocker.HUMAN_TASK),
        (replace(PARKED, waits=(replace(TASK, kind="event"),)), Blocker.EVENT),
        (replace(PARKED, waits=(replace(TASK, kind="sub_workflow"),)), Blocker.SUB_WORKFLOW),
        (replace(PARKED, live_workers=0), Blocker.TIMER),
        (replace(PARKED, tenant_active=False), Blocker.SUSPENDED_TENANT),
        (replace(PARKED, ready=True), Blocker.NONE),
        (replace(QUEUED, live_workers=0, ahead=3, limit=0), Blocker.NO_WORKER),
        (replace(QUEUED, crashes=2, ahead=3), Blocker.QUARANTINED),
        (replace(QUEUED, limit=2, in_flight=2, ahead=3), Blocker.TENANT_QUOTA),
        (replace(QUEUED, limit=2, in_flight=1, ahead=3), Blocker.QUEUED_BEHIND),
        (replace(QUEUED, limit=-1, in_flight=9), Blocker.NONE),
        (QUEUED, Blocker.NONE),
    ],
)
def test_blockers(facts: Facts, blocker: Blocker) -> None:
    assert explain(facts).blocker is blocker


def test_sentences_name_what_they_speak_of() -> None:
    assert "`items[1].call` (http_request, attempt 2)" in explain(replace(HELD, steps=(STEP,))).sentence
    assert "and 2 more" in explain(replace(HELD, steps=(STEP, STEP, STEP))).sentence
    assert "2026-11-24T13:00:00Z" in explain(PARKED).sentence


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            replace(PARKED, waits=(ASKED,)),
            'The step `pause` waits for a decision on the task "P?" by the role hr; it is due at 2026-11-24T14:00:00Z.',
        ),
        (replace(PARKED, waits=(TASK,)), "The step `pause` waits for people."),
        (
            replace(PARKED, waits=(CHILD,)),
            f"The step `pause` waits for the end of the run {ID}, which is running, waiting for timer.",
        ),
        (
            replace(PARKED, waits=(replace(CHILD, child=None),)),
            "The step `pause` waits for the run that it is starting.",
        ),
        (
            replace(PARKED, waits=(EVENT,)),
            "The step `pause` waits for an event `order.paid` with the key `A-17`, at most until 2026-11-24T13:00:00Z.",
        ),
        (
            replace(PARKED, waits=(replace(EVENT, event=("order.paid", None), due_at=None),)),
            "The step `pause` waits for an event `order.paid`.",
        ),
        (
            replace(PARKED, waits=(replace(TIMER, kind="timeout"),)),
            "The step `pause` waits, at most until 2026-11-24T13:00:00Z.",
        ),
        (
            replace(PARKED, waits=(TIMER, ASKED), wait_count=800),
            "The step `pause` waits until 2026-11-24T13:00:00Z. It waits for 799 others, too; see the details.",
        ),
        (
            replace(PARKED, waits=(), steps=(LOOP, RETRY), waiting_for="retry_backoff", due_at=LATER),
            "The next attempt of the retry `each[3].again` is due at 2026-11-24T14:00:00Z.",
        ),
        (
            replace(PARKED, waits=(), steps=(LOOP,), waiting_for="timer", due_at=LATER),
            "The timer of the loop `each` is due at 2026-11-24T14:00:00Z.",
        ),
        (
            replace(HELD, paused=True, steps=(STEP,)),
            "The run is paused: no further step begins; `items[1].call` still runs to its end. Resume it to go on.",
        ),
        (
            replace(PARKED, paused=True),
            "The run is paused; resume it to go on, with all that has fallen due meanwhile.",
        ),
        (
            replace(HELD, ending="cancel", steps=(STEP, LOOP)),
            "The run is about to end because it was asked to; what must run before is at work: `items[1].call`.",
        ),
        (
            replace(QUEUED, ending="timeout"),
            "The run is about to end because its deadline has passed; the next free worker sees to it.",
        ),
    ],
)  # fmt: skip
def test_sentences(facts: Facts, sentence: str) -> None:
    assert explain(facts).sentence == sentence


def test_details_are_for_programs() -> None:
    waits = explain(replace(PARKED, waits=(ASKED, CHILD, EVENT))).details["waits"]
    assert waits[0]["task"] == {
        "id": str(ID), "title": "P?", "due_date": "2026-11-24T14:00:00Z",
        "assignees": [{"type": "role", "name": "hr"}],
    }  # fmt: skip
    assert waits[1]["child"] == {"id": str(ID), "status": "running", "waiting_for": "timer"}
    assert waits[2]["event"] == {"name": "order.paid", "correlation_key": "A-17"}
    ending = explain(replace(HELD, ending="cancel", steps=(STEP,), waits=(TIMER,))).details
    assert (ending["kind"], ending["steps"][0]["node_id"], ending["waits"][0]["node_id"]) == ("cancel", "call", "pause")


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


@given(
    status=some("pending", "running", "completed", "failed", "cancelled"), tenant_active=st.booleans(),
    queued=st.booleans(), owned=st.booleans(), ready=st.booleans(),
    ending=some(None, "cancel", "timeout", "worker_lost"),
    crashes=st.integers(0, 3), owner_age_ms=some(None, 0.0, 1e6), lease_ms=some(None, 15_000),
    owner_name=some(None, "w"),
    live_workers=st.integers(0, 2), in_flight=st.integers(0, 3), ahead=st.integers(0, 2), limit=some(None, -1, 0, 2),
    steps=some((), (STEP,), (LOOP,), (STEP, LOOP)), paused=st.booleans(), due_at=some(None, LATER),
    waits=some((), (TIMER,), (BACKOFF,), (TASK,), (ASKED, CHILD), (EVENT,)), waiting_for=some(None, "timer", "paused"),
)  # fmt: skip
def test_there_is_always_an_answer(**changes: Any) -> None:
    facts = replace(QUEUED, **changes)
    found = explain(facts)
    assert found.state == facts.status
    assert found.sentence
