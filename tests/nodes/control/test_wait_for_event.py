"""`wait_for_event` waits for what its config names, and refuses what can't be an event."""

from __future__ import annotations

from typing import Any

import pytest

from gorax_engine.core.model import SECOND
from gorax_engine.nodes.api import EventWait, Failed, Suspended

from .conftest import NOW, Run


def test_it_waits_for_any_event_of_the_name(run: Run) -> None:
    assert run("wait_for_event", {"event": "order.paid"}) == Suspended(None, wait=EventWait("order.paid"))


def test_it_waits_for_a_key_until_a_moment(run: Run) -> None:
    config = {"event": "order.{{ trigger.kind }}", "correlation_key": "{{ trigger.id }}", "timeout": "2h"}
    expected = Suspended(NOW + 7_200 * SECOND, wait=EventWait("order.paid", "A-1"))
    assert run("wait_for_event", config, {"kind": "paid", "id": "A-1"}) == expected


def test_a_whole_number_is_a_key(run: Run) -> None:
    outcome = run("wait_for_event", {"event": "e", "correlation_key": "{{ trigger.id }}"}, {"id": 42})
    assert outcome == Suspended(None, wait=EventWait("e", "42"))


@pytest.mark.parametrize("key", [None, "", 1.5, True, [], "a\nb", "x" * 256, 10**60])
def test_a_key_that_is_none_waits_for_nothing(run: Run, key: Any) -> None:
    outcome = run("wait_for_event", {"event": "e", "correlation_key": "{{ trigger.id }}"}, {"id": key})
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "invalid_event"


@pytest.mark.parametrize("name", ["", "order.*", "a b", "a..b", ".a", "é", "x" * 256, 7, None])
def test_a_name_that_is_none_waits_for_nothing(run: Run, name: Any) -> None:
    outcome = run("wait_for_event", {"event": "{{ trigger.name }}"}, {"name": name})
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "invalid_event"


def test_a_timeout_that_is_none_fails(run: Run) -> None:
    outcome = run("wait_for_event", {"event": "e", "timeout": "{{ trigger.t }}"}, {"t": "soon"})
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "invalid_event"
