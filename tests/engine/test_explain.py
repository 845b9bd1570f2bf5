"""Explain as a function: every blocker of this release, which one wins, and that it always has an answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.engine.explain import Blocker, Facts, Step, Wait, explain

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STEP = Step("call", "http_request", "items[1]", 2, NOW)
TIMER = Wait("pause", "", 1, "timer", NOW + timedelta(hours=1), NOW)
BACKOFF = replace(TIMER, kind="retry_backoff", attempt=3)
TASK = replace(TIMER, kind="human_task", due_at=None)

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
    assert explain(replace(PARKED, waits=(TASK,))).sentence.endswith("waits for people to decide its task.")
    assert "at most until 2026" in explain(replace(PARKED, waits=(replace(TASK, due_at=NOW),))).sentence
    assert "Attempt 3" in explain(replace(PARKED, waits=(BACKOFF,))).sentence


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


@given(
    status=some("pending", "running", "completed", "failed", "cancelled"), tenant_active=st.booleans(),
    queued=st.booleans(), owned=st.booleans(), ready=st.booleans(),
    ending=some(None, "cancel", "timeout", "worker_lost"),
    crashes=st.integers(0, 3), owner_age_ms=some(None, 0.0, 1e6), lease_ms=some(None, 15_000),
    owner_name=some(None, "w"),
    live_workers=st.integers(0, 2), in_flight=st.integers(0, 3), ahead=st.integers(0, 2), limit=some(None, -1, 0, 2),
    steps=some((), (STEP,)), waits=some((), (TIMER,), (BACKOFF,), (TASK,)),
)  # fmt: skip
def test_there_is_always_an_answer(**changes: Any) -> None:
    facts = replace(QUEUED, **changes)
    found = explain(facts)
    assert found.state == facts.status
    assert found.sentence
