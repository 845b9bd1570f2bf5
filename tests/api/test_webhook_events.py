"""The log of deliveries, and replays of what stands in it."""

# ruff: noqa: F811 (fixtures of another module)

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from gorax_engine.api.schemas import Many, One
from gorax_engine.api.webhook_schemas import Event, EventSummary, ReplayedEvent, ReplayResult
from gorax_engine.store import webhook_events
from tests.api.conftest import TenantHandle
from tests.api.webhooks_world import World, acme, call, publish, refused, world  # noqa: F401

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(world: World, acme: TenantHandle) -> dict[str, Any]:
    """A webhook at `shop`."""
    await publish(acme, {"path": "managed"})
    made: dict[str, Any] = await call(acme, "POST", "/webhooks", {"workflow": "orders", "path": "shop"}, 201)
    return made


async def deliver(world: World, content: bytes = b'{"a": 1.50, "b": [true, null]}', **more: Any) -> dict[str, Any]:
    """Send a delivery to `shop` and return the answer."""
    async with world.outside() as client:
        answer = await client.post("/shop", content=content, **more)
    data: dict[str, Any] = answer.json()
    return {"http": answer.status_code, **data}


async def events(tenant: TenantHandle, hook: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answer = await tenant.client.get(f"/webhooks/{hook['id']}/events", params=query)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def run(world: World, execution_id: str) -> Any:
    return await world.row("SELECT * FROM executions WHERE id = $1", uuid.UUID(execution_id))


class TestLog:
    async def test_deliveries_are_listed_and_shown(
        self, world: World, acme: TenantHandle, shop: dict[str, Any]
    ) -> None:
        sent = b'{"a": 1}'
        await deliver(
            world, sent, params={"q": "1", "token": "t0ken"}, headers={"X-Secret": "s3cret", "webhook-id": "w1"}
        )
        await deliver(world, sent, headers={"webhook-id": "w1"})
        await deliver(world, b"{", headers={"Content-Type": "application/json"})
        answer = await acme.client.get(f"/webhooks/{shop['id']}/events")
        Many[EventSummary].model_validate(answer.json())
        failed, duplicate, first = answer.json()["data"]
        assert [each["status"] for each in (first, duplicate, failed)] == ["processed", "filtered", "failed"]
        assert (duplicate["filtered_reason"], failed["execution_id"], failed["body_bytes"]) == ("duplicate", None, 1)
        shown = await acme.client.get(f"/webhooks/events/{first['id']}")
        One[Event].model_validate(shown.json())
        event = shown.json()["data"]
        assert base64.b64decode(event["raw_body"]) == sent
        assert (event["request_body"], event["request_query"]["token"]) == ({"a": 1}, "[masked]")
        assert (event["source_ip"], event["request_headers"]["x-secret"]) == ("203.0.113.9", "[masked]")
        assert "s3cret" not in shown.text
        assert [each["id"] for each in await events(acme, shop, status="failed")] == [failed["id"]]
        page = (await acme.client.get(f"/webhooks/{shop['id']}/events", params={"limit": 2})).json()
        rest = await events(acme, shop, cursor=page["next_cursor"])
        assert [each["id"] for each in rest] == [first["id"]]
        later = await events(acme, shop, since=duplicate["created_at"])
        assert [each["id"] for each in later] == [failed["id"], duplicate["id"]]
        assert [each["id"] for each in await events(acme, shop, until=duplicate["created_at"])] == [first["id"]]
        health = (await call(acme, "GET", f"/webhooks/{shop['id']}"))["health"]
        figures = {name: health[name] for name in ("total", "processed", "filtered", "duplicates", "failed")}
        assert figures == {"total": 3, "processed": 1, "filtered": 0, "duplicates": 1, "failed": 1}
        assert health["success_rate"] == pytest.approx(2 / 3)
        assert health["last_event_at"] == failed["created_at"]

    async def test_health_looks_at_a_day(self, world: World, acme: TenantHandle, shop: dict[str, Any]) -> None:
        await deliver(world)
        await world.api.owner.execute(
            "UPDATE webhook_events SET created_at = now() - interval '25 hours' WHERE webhook_id = $1",
            uuid.UUID(shop["id"]),
        )
        health = (await call(acme, "GET", f"/webhooks/{shop['id']}"))["health"]
        assert (health["total"], health["success_rate"], health["last_event_at"]) == (0, None, None)


class TestReplay:
    async def test_a_replay_gets_what_the_first_run_got(
        self, world: World, acme: TenantHandle, shop: dict[str, Any]
    ) -> None:
        first = await deliver(world, params={"q": "1"}, headers={"X-Kind": "ä".encode("latin-1")})
        event = first["event_id"]
        answer = await acme.client.post(f"/webhooks/events/{event}/replay")
        assert answer.status_code == 202, answer.text
        One[ReplayedEvent].model_validate(answer.json())
        replayed = answer.json()["data"]
        assert replayed["source_event_id"] == event
        runs = [await run(world, each["execution_id"]) for each in (first, replayed)]
        assert [each["trigger_type"] for each in runs] == ["webhook", "webhook_replay"]
        assert runs[0]["trigger_data"] == runs[1]["trigger_data"]
        assert runs[0]["trigger_node"] == runs[1]["trigger_node"] == "hook"
        assert runs[1]["started_by"] == acme.user_id
        own, source = await events(acme, shop)
        assert (own["id"], own["source_event_id"], own["execution_id"]) == (
            replayed["event_id"], event, replayed["execution_id"],
        )  # fmt: skip
        assert (source["replay_count"], own["replay_count"], own["body_bytes"]) == (1, 0, source["body_bytes"])
        again = await call(acme, "POST", f"/webhooks/events/{own['id']}/replay", status=202)
        assert again["source_event_id"] == event
        assert (await events(acme, shop))[-1]["replay_count"] == 2

    async def test_forms_and_filtered_deliveries(self, world: World, acme: TenantHandle, shop: dict[str, Any]) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        first = await deliver(world, b"a=1&a=%C3%A4", headers=form)
        replayed = await call(acme, "POST", f"/webhooks/events/{first['event_id']}/replay", status=202)
        data = [json.loads((await run(world, each["execution_id"]))["trigger_data"]) for each in (first, replayed)]
        assert data[0] == data[1]
        assert data[1]["raw"] == "a=1&a=%C3%A4"
        await call(acme, "POST", f"/webhooks/{shop['id']}/filters", {"field_path": "$.x", "operator": "exists"}, 201)
        await anyio.sleep(1.1)  # what a process remembers of a webhook
        filtered = await deliver(world)
        assert filtered["status"] == "filtered"
        await call(acme, "POST", f"/webhooks/events/{filtered['event_id']}/replay", status=202)

    async def test_a_key_replays_once(self, world: World, acme: TenantHandle, shop: dict[str, Any]) -> None:
        first, other = await deliver(world), await deliver(world)
        path = f"/webhooks/events/{first['event_id']}/replay"
        headers = {"Idempotency-Key": "k1"}
        answers = [await call(acme, "POST", path, status=202, headers=headers) for _ in range(7)]
        assert all(each == answers[0] for each in answers)
        assert len(await events(acme, shop)) == 3
        answer = await refused(acme, "POST", f"/webhooks/events/{other['event_id']}/replay", headers=headers)
        assert answer == (422, "idempotency_mismatch")

    async def test_five_of_ten_at_once_succeed(self, world: World, acme: TenantHandle, shop: dict[str, Any]) -> None:
        first = await deliver(world)
        own = await call(acme, "POST", f"/webhooks/events/{first['event_id']}/replay", status=202)
        other = await deliver(world)
        statuses: list[int] = []

        async def replay(event: str) -> None:
            statuses.append((await acme.client.post(f"/webhooks/events/{event}/replay")).status_code)

        async with anyio.create_task_group() as group:
            for number in range(10):
                # Those of a replay count on the same delivery.
                group.start_soon(replay, own["event_id"] if number % 2 else first["event_id"])
        assert sorted(statuses) == [202] * 4 + [409] * 6
        assert (await events(acme, shop))[-1]["replay_count"] == 5
        statuses.clear()
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(replay, other["event_id"])
        assert sorted(statuses) == [202] * 5 + [409] * 5
        count = "SELECT count(*) AS n FROM executions WHERE trigger_type = 'webhook_replay' AND tenant_id = $1"
        assert (await world.row(count, acme.id))["n"] == 10
        assert await refused(acme, "POST", f"/webhooks/events/{first['event_id']}/replay") == (409, "replay_limit")

    async def test_what_can_t_be_replayed(self, world: World, acme: TenantHandle, shop: dict[str, Any]) -> None:
        first = await deliver(world)
        await deliver(world, b"{", headers={"Content-Type": "application/json"})
        broken = (await events(acme, shop, status="failed"))[0]["id"]
        assert await refused(acme, "POST", f"/webhooks/events/{broken}/replay") == (409, "not_replayable")
        assert await refused(acme, "POST", f"/webhooks/events/{uuid.uuid4()}/replay") == (404, "event_not_found")
        path = f"/webhooks/events/{first['event_id']}/replay"
        await call(acme, "PATCH", f"/workflows/{shop['workflow_id']}", {"status": "inactive"})
        assert await refused(acme, "POST", path) == (409, "workflow_inactive")
        await call(acme, "PATCH", f"/workflows/{shop['workflow_id']}", {"status": "active"})
        await call(acme, "PATCH", f"/webhooks/{shop['id']}", {"enabled": False})
        assert await refused(acme, "POST", path) == (409, "webhook_disabled")
        await call(acme, "DELETE", f"/webhooks/{shop['id']}")
        assert await refused(acme, "POST", path) == (409, "webhook_deleted")
        kept = await events(acme, shop)
        assert [each["replay_count"] for each in kept] == [0, 0]

    async def test_a_webhook_that_is_disabled_meanwhile(
        self, world: World, acme: TenantHandle, shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await deliver(world)
        look = webhook_events.replay_target

        async def look_and_disable(*arguments: Any) -> Any:
            found = await look(*arguments)
            await world.api.owner.execute("UPDATE webhooks SET enabled = false WHERE path = 'shop'")
            return found

        monkeypatch.setattr(webhook_events, "replay_target", look_and_disable)
        answer = await refused(acme, "POST", f"/webhooks/events/{first['event_id']}/replay")
        assert answer == (409, "webhook_disabled")
        assert (await events(acme, shop))[0]["replay_count"] == 0

    async def test_what_came_while_nothing_could_start_is_replayed_later(
        self, world: World, acme: TenantHandle, shop: dict[str, Any]
    ) -> None:
        proof = await call(acme, "PATCH", f"/webhooks/{shop['id']}", {"auth_type": "bearer", "enabled": False})
        headers = {"Authorization": f"Bearer {proof['secret']}"}
        assert (await deliver(world, headers=headers))["http"] == 404
        (failed,) = await events(acme, shop)
        assert failed["status"] == "failed"
        await call(acme, "PATCH", f"/webhooks/{shop['id']}", {"enabled": True})
        replayed = await call(acme, "POST", f"/webhooks/events/{failed['id']}/replay", status=202)
        data = json.loads((await run(world, replayed["execution_id"]))["trigger_data"])
        assert data["body"] == {"a": 1.5, "b": [True, None]}
        assert proof["secret"] not in json.dumps(data)

    async def test_the_first_may_be_gone(self, world: World, acme: TenantHandle, shop: dict[str, Any]) -> None:
        first = await deliver(world)
        own = await call(acme, "POST", f"/webhooks/events/{first['event_id']}/replay", status=202)
        await world.api.owner.execute("DELETE FROM webhook_events WHERE id = $1", uuid.UUID(first["event_id"]))
        again = await call(acme, "POST", f"/webhooks/events/{own['event_id']}/replay", status=202)
        assert again["source_event_id"] == own["event_id"]


class TestReplayOfMany:
    async def test_by_ids(self, world: World, acme: TenantHandle, shop: dict[str, Any]) -> None:
        first, second = await deliver(world), await deliver(world)
        other = await publish(acme, {"path": "elsewhere"}, name="others")
        async with world.outside() as client:
            stranger = (await client.post("/elsewhere", json={})).json()["event_id"]
        for _ in range(5):
            await call(acme, "POST", f"/webhooks/events/{second['event_id']}/replay", status=202)
        wanted = [first["event_id"], second["event_id"], stranger, str(uuid.uuid4()), first["event_id"]]
        answer = await acme.client.post(f"/webhooks/{shop['id']}/events/replay", json={"event_ids": wanted})
        assert answer.status_code == 202, answer.text
        One[ReplayResult].model_validate(answer.json())
        data = answer.json()["data"]
        assert [each["requested_event_id"] for each in data["replayed"]] == [first["event_id"]]
        assert [(each["event_id"], each["code"]) for each in data["refused"]] == [
            (second["event_id"], "replay_limit"), (stranger, "event_not_found"), (wanted[3], "event_not_found"),
        ]  # fmt: skip
        assert (await events(acme, other["webhooks"][0]))[0]["replay_count"] == 0

    async def test_by_status_oldest_first_and_never_twice(
        self, world: World, acme: TenantHandle, shop: dict[str, Any]
    ) -> None:
        sent = [(await deliver(world, headers={"webhook-id": f"w{n}"}))["event_id"] for n in (1, 2, 3)]
        await deliver(world, headers={"webhook-id": "w1"})
        path = f"/webhooks/{shop['id']}/events/replay"
        done = await call(acme, "POST", path, {"status": "processed", "limit": 2}, 202)
        assert ([each["requested_event_id"] for each in done["replayed"]], done["more"]) == (sent[:2], True)
        done = await call(acme, "POST", path, {"status": "processed"}, 202)
        assert ([each["requested_event_id"] for each in done["replayed"]], done["more"]) == (sent[2:], False)
        for body in ({"status": "processed"}, {"status": "filtered"}):  # a duplicate is not meant
            assert await call(acme, "POST", path, body, 202) == {"replayed": [], "refused": [], "more": False}

    async def test_in_a_span_of_time_and_once_per_key(
        self, world: World, acme: TenantHandle, shop: dict[str, Any]
    ) -> None:
        first = await deliver(world)
        path = f"/webhooks/{shop['id']}/events/replay"
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        none = await call(acme, "POST", path, {"status": "processed", "since": tomorrow}, 202)
        assert none["replayed"] == []
        body = {"status": "processed", "until": tomorrow}
        once, twice = [await call(acme, "POST", path, body, 202, headers={"Idempotency-Key": "many"}) for _ in range(2)]
        assert once == twice
        assert [each["requested_event_id"] for each in once["replayed"]] == [first["event_id"]]
        assert (await events(acme, shop))[-1]["replay_count"] == 1

    @pytest.mark.parametrize(
        "body",
        [{}, {"event_ids": []}, {"event_ids": [str(uuid.uuid4())] * 101}, {"status": "failed", "limit": 101},
         {"event_ids": [str(uuid.uuid4())], "status": "failed"}, {"since": "2030-01-01T00:00:00Z"}],
    )  # fmt: skip
    async def test_bad_choices(
        self, world: World, acme: TenantHandle, shop: dict[str, Any], body: dict[str, Any]
    ) -> None:
        assert (await refused(acme, "POST", f"/webhooks/{shop['id']}/events/replay", body))[0] == 422


async def test_replaying_is_a_permission_of_its_own(world: World, acme: TenantHandle, shop: dict[str, Any]) -> None:
    first = await deliver(world)
    key = await call(acme, "POST", "/api-keys", {"name": "viewer", "role": "viewer"}, 201)
    async with world.api.client(key["key"]) as client:
        assert (await client.get(f"/webhooks/events/{first['event_id']}")).status_code == 200
        for path in (f"/webhooks/events/{first['event_id']}/replay", f"/webhooks/{shop['id']}/events/replay"):
            answer = await client.post(path, json={"status": "failed"})
            assert answer.status_code == 403
            assert "webhook:replay" in answer.json()["detail"]
