"""POST /events: an event is committed before it is answered, once per key, and reaches those that wait."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.conftest import Api, TenantHandle, make


async def test_an_event_is_kept_and_answered(api: Api, acme: TenantHandle) -> None:
    body = {"name": "order.paid", "correlation_key": "A-1", "payload": {"total": 1}}
    answer = await acme.client.post("/events", json=body)
    assert answer.status_code == 202, answer.text
    data = answer.json()["data"]
    row = await api.owner.fetchrow("SELECT * FROM events WHERE id = $1", uuid.UUID(data["event_id"]))
    assert row is not None
    assert (row["tenant_id"], row["name"], row["correlation_key"]) == (acme.id, "order.paid", "A-1")
    assert (data["name"], data["correlation_key"]) == ("order.paid", "A-1")
    kept = datetime.fromisoformat(data["expires_at"]) - datetime.fromisoformat(data["published_at"])
    assert kept == timedelta(days=1)
    assert row["matched"]
    assert row["dispatched"]


async def test_it_reaches_an_open_wait_before_the_answer(api: Api, acme: TenantHandle, rival: TenantHandle) -> None:
    steps = {}
    for tenant in (acme, rival):
        run, steps[tenant.id] = uuid.uuid4(), uuid.uuid4()
        await api.owner.execute(
            "INSERT INTO execution_queue (execution_id, tenant_id, workflow_id) VALUES ($1, $2, $2)", run, tenant.id
        )
        await api.owner.execute(
            "INSERT INTO waits (step_id, tenant_id, execution_id, node_id, kind, event_name, correlation_key) "
            "VALUES ($1, $2, $3, 'n', 'event', 'order.paid', '7')",
            steps[tenant.id], tenant.id, run,
        )  # fmt: skip
    answer = await acme.client.post("/events", json={"name": "order.paid", "correlation_key": 7, "ttl": "1h"})
    assert answer.status_code == 202, answer.text
    rows = await api.owner.fetch("SELECT step_id FROM signals")
    assert [row["step_id"] for row in rows] == [steps[acme.id]]
    await api.owner.execute("DELETE FROM signals")


async def test_a_key_publishes_once(api: Api, acme: TenantHandle) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await acme.client.post("/events", json={"name": "e", "payload": 1}, headers=headers)
    again = await acme.client.post("/events", json={"name": "e", "payload": 1}, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await acme.client.post("/events", json={"name": "e", "payload": 2}, headers=headers)
    assert other.status_code == 422
    assert await api.owner.fetchval("SELECT count(*) FROM events WHERE tenant_id = $1", acme.id) == 1


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"name": "a b"}, ["/name"]),
        ({"name": "order.*"}, ["/name"]),
        ({"name": "e", "correlation_key": ""}, ["/correlation_key"]),
        ({"name": "e", "correlation_key": "x" * 256}, ["/correlation_key"]),
        ({"name": "e", "ttl": "31d"}, ["/ttl"]),
        ({"name": "e", "ttl": "soon"}, ["/ttl"]),
        ({"name": "", "ttl": 0, "correlation_key": "\n"}, ["/name", "/correlation_key", "/ttl"]),
    ],
)
async def test_all_that_is_wrong_is_said(acme: TenantHandle, body: dict[str, Any], pointers: list[str]) -> None:
    answer = await acme.client.post("/events", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers
    assert {error["code"] for error in answer.json()["errors"]} == {"invalid_event"}


async def test_bodies_are_bounded(acme: TenantHandle) -> None:
    assert (await acme.client.post("/events", json={"name": "e", "more": 1})).status_code == 422
    assert (await acme.client.post("/events", json={"name": "e", "payload": "x" * 100_001})).status_code == 413
    assert (await acme.client.post("/events", json={})).status_code == 422


async def test_it_needs_its_permission(api: Api, acme: TenantHandle) -> None:
    await api.owner.execute(
        "DELETE FROM role_permissions rp USING permissions p "
        "WHERE p.id = rp.permission_id AND p.resource = 'event' AND rp.tenant_id = $1",
        acme.id,
    )
    assert (await acme.client.post("/events", json={"name": "e"})).status_code == 403


async def test_publishing_a_workflow_lets_it_listen_and_archiving_ends_it(api: Api, acme: TenantHandle) -> None:
    def definition(*patterns: str) -> dict[str, Any]:
        nodes = [
            {"id": f"n{place}", "type": "event_trigger", "config": {"event": pattern, "filter": "trigger.body.a > 1"}}
            for place, pattern in enumerate(patterns)
        ]
        return {"nodes": nodes, "edges": []}

    async def listens() -> list[tuple[str, str, str]]:
        rows = await api.owner.fetch(
            "SELECT node_id, pattern, filter FROM event_subscriptions WHERE tenant_id = $1 ORDER BY position", acme.id
        )
        return [tuple(row) for row in rows]

    workflow = await make(acme, definition=definition("order.*", "*"))
    path = f"/workflows/{workflow['id']}"
    assert await listens() == []
    assert (await acme.client.post(path + "/publish", json={})).status_code == 200
    assert await listens() == [("n0", "order.*", "trigger.body.a > 1"), ("n1", "*", "trigger.body.a > 1")]
    changed = await acme.client.put(path, json={"name": "orders", "definition": definition("paid")})
    assert changed.status_code == 200
    assert (await acme.client.post(path + "/publish", json={})).status_code == 200
    assert await listens() == [("n0", "paid", "trigger.body.a > 1")]
    await acme.client.post("/events", json={"name": "paid"})
    assert not await api.owner.fetchval("SELECT dispatched FROM events WHERE name = 'paid'")
    assert (await acme.client.delete(path)).status_code == 200
    assert await listens() == []


@pytest.mark.parametrize("pattern", ["order*", "a b", "*.a", "", "**"])
async def test_a_pattern_that_is_none_is_refused_on_save(acme: TenantHandle, pattern: str) -> None:
    nodes = [{"id": "n", "type": "event_trigger", "config": {"event": pattern}}]
    answer = await acme.client.post("/workflows/validate", json={"definition": {"nodes": nodes, "edges": []}})
    assert [error["code"] for error in answer.json()["data"]["errors"]] == ["invalid_config"]
