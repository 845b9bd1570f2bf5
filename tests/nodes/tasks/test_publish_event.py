"""`publish_event` publishes once per step, and tells what can't be published from what can't be published now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gorax_engine.core.event_names import DEFAULT_TTL
from gorax_engine.core.model import SECOND, Json, Micros
from gorax_engine.errors import MalformedInput, PayloadTooLarge, Unavailable
from gorax_engine.nodes.api import Classification, Completed, Failed, NodeContext
from gorax_engine.nodes.tasks.publish_event import PublishEvent

CONTEXT = NodeContext("e", "t", "w", "n", "", 2, 0, "e:n:", b"seed", None)


@dataclass
class Publisher:
    """Keeps what it is asked to publish."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    fails: Exception | None = None

    async def publish(
        self, tenant_id: str, name: str, correlation_key: str | None, payload: Json, ttl: Micros, idempotency_key: str
    ) -> str:
        if self.fails is not None:
            raise self.fails
        self.calls.append((tenant_id, name, correlation_key, payload, ttl, idempotency_key))
        return "id"


async def test_it_publishes_under_the_key_of_the_step() -> None:
    publisher = Publisher()
    config = {"event": "order.paid", "correlation_key": 42, "payload": {"total": 1}, "ttl": "1h"}
    outcome = await PublishEvent(publisher).run(config, CONTEXT)
    assert outcome == Completed({"event_id": "id", "name": "order.paid", "correlation_key": "42"})
    assert publisher.calls == [("t", "order.paid", "42", {"total": 1}, 3_600 * SECOND, "e:n:")]


@pytest.mark.parametrize("more", [{}, {"correlation_key": None}])
async def test_key_and_payload_may_be_absent(more: dict[str, Json]) -> None:
    publisher = Publisher()
    outcome = await PublishEvent(publisher).run({"event": "e", **more}, CONTEXT)
    assert outcome == Completed({"event_id": "id", "name": "e", "correlation_key": None})
    assert publisher.calls == [("t", "e", None, None, DEFAULT_TTL, "e:n:")]


@pytest.mark.parametrize(
    "more",
    [{"event": "a b"}, {"correlation_key": ""}, {"correlation_key": {}}, {"ttl": "31d"}, {"ttl": 0}, {"ttl": None}],
)
async def test_what_is_no_event_is_not_published(more: dict[str, Json]) -> None:
    publisher = Publisher()
    outcome = await PublishEvent(publisher).run({"event": "e", **more}, CONTEXT)
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.classification) == ("invalid_event", Classification.PERMANENT)
    assert publisher.calls == []


@pytest.mark.parametrize("error", [PayloadTooLarge("large"), MalformedInput("NUL")])
async def test_what_is_refused_fails_for_good(error: Exception) -> None:
    outcome = await PublishEvent(Publisher(fails=error)).run({"event": "e"}, CONTEXT)
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.classification) == ("invalid_event", Classification.PERMANENT)


async def test_what_cant_be_published_now_may_be_tried_again() -> None:
    outcome = await PublishEvent(Publisher(fails=Unavailable("away"))).run({"event": "e"}, CONTEXT)
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.classification) == ("unavailable", Classification.TRANSIENT)
