"""Webhooks as their owners see them: made, changed, rotated, tried out, deleted; secrets come out once, if ever."""

# ruff: noqa: F811 (fixtures of another module)

from __future__ import annotations

import hashlib
import hmac
import uuid
from typing import Any, ClassVar

import anyio
import pytest

from gorax_engine.api.schemas import Many, One, ProblemDocument
from gorax_engine.api.webhook_schemas import (
    FilterVerdict,
    TrialVerdict,
    Webhook,
    WebhookFilter,
    WebhookWithHealth,
    WebhookWithSecret,
)
from gorax_engine.vault.keys import NoKey
from tests.api.conftest import TenantHandle
from tests.api.webhooks_world import World, acme, call, open_world, publish, refused, rival, world  # noqa: F401

pytestmark = pytest.mark.anyio

SECRET = "s3cret-of-orders"


def signed(body: bytes, secret: str) -> dict[str, str]:
    return {"X-Webhook-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


async def send(world: World, path: str, secret: str, body: bytes = b"{}") -> int:
    async with world.outside() as client:
        return (await client.post(f"/{path}", content=body, headers=signed(body, secret))).status_code


async def make(tenant: TenantHandle, **more: Any) -> dict[str, Any]:
    """Make a webhook by hand and return it."""
    made: dict[str, Any] = await call(tenant, "POST", "/webhooks", {"workflow": "orders", **more}, 201)
    return made


class TestByHand:
    async def test_made_shown_changed_and_deleted(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {"path": "managed"})
        answer = await acme.client.post(
            "/webhooks", json={"workflow": "orders", "auth_type": "signature", "name": "Shop"}
        )
        assert answer.status_code == 201, answer.text
        One[WebhookWithSecret].model_validate(answer.json())
        made = answer.json()["data"]
        assert answer.headers["location"] == f"/api/v1/webhooks/{made['id']}"
        assert (made["managed"], made["node_id"], made["auth_type"], made["has_secret"]) == (
            False,
            "hook",
            "secret",
            True,
        )
        assert len(made["path"]) == 32
        assert made["url"] == f"/webhooks/{made['path']}"
        assert made["id_url"] == f"/webhooks/{workflow['id']}/{made['id']}"
        assert await send(world, made["path"], made["secret"]) == 202
        assert await send(world, made["id_url"].removeprefix("/webhooks/"), made["secret"]) == 202
        assert await send(world, made["path"], "wrong") == 401
        shown = await acme.client.get(f"/webhooks/{made['id']}")
        One[WebhookWithHealth].model_validate(shown.json())
        assert made["secret"] not in shown.text
        assert shown.headers["etag"] == '"1"'
        assert (shown.json()["data"]["trigger_count"], shown.json()["data"]["health"]["processed"]) == (2, 2)
        changed = await call(
            acme, "PATCH", f"/webhooks/{made['id']}",
            {"path": "/webhooks/shop/", "rate_limit": 5, "allowed_ips": ["203.0.113.9", "10.0.0.0/8"]},
            headers={"If-Match": '"1"'},
        )  # fmt: skip
        assert (changed["path"], changed["rate_limit"], changed["revision"]) == ("shop", 5, 2)
        assert changed["allowed_ips"] == ["203.0.113.9/32", "10.0.0.0/8"]
        assert changed["secret"] is None
        assert await refused(acme, "PATCH", f"/webhooks/{made['id']}", {}, headers={"If-Match": '"1"'}) == (
            412, "precondition_failed",
        )  # fmt: skip
        same = await call(acme, "PATCH", f"/webhooks/{made['id']}", {"rate_limit": 5})
        assert same["revision"] == 2
        assert await send(world, "shop", made["secret"]) == 202
        await call(acme, "DELETE", f"/webhooks/{made['id']}")
        assert await refused(acme, "GET", f"/webhooks/{made['id']}") == (404, "webhook_not_found")
        listed = (await acme.client.get(f"/webhooks/{made['id']}/events")).json()["data"]
        assert len(listed) == 3

    async def test_put_sets_defaults_but_never_opens_a_webhook(self, world: World, acme: TenantHandle) -> None:
        await publish(acme, {"path": "managed"})
        made = await make(acme, path="shop", auth_type="bearer", methods=["PUT"], rate_limit=5, description="d")
        replaced = await call(acme, "PUT", f"/webhooks/{made['id']}", {"priority": 3})
        kept = {name: replaced[name] for name in ("path", "methods", "auth_type", "node_id", "has_secret")}
        assert kept == {
            "path": "shop", "methods": ["PUT"], "auth_type": "bearer", "node_id": "hook", "has_secret": True,
        }  # fmt: skip
        assert (replaced["rate_limit"], replaced["description"], replaced["priority"]) == (None, None, 3)

    async def test_a_taken_path_doesn_t_name_its_owner(
        self, world: World, acme: TenantHandle, rival: TenantHandle
    ) -> None:
        await publish(rival, {"path": "theirs"}, name="secret-project")
        await publish(acme, {"path": "managed"})
        made = await make(acme)
        for path in ("theirs", "managed"):
            for method, route in (("POST", "/webhooks"), ("PATCH", f"/webhooks/{made['id']}")):
                body = {"path": path} | ({"workflow": "orders"} if method == "POST" else {})
                answer = await acme.client.request(method, route, json=body)
                assert (answer.status_code, answer.json()["code"]) == (409, "path_taken")
                assert "secret-project" not in answer.text

    @pytest.mark.parametrize(
        ("body", "code", "pointer"),
        [
            ({"path": "a b"}, "invalid_path", "/path"),
            ({"path": f"{uuid.uuid4()}/{uuid.uuid4()}"}, "invalid_path", "/path"),
            ({"node_id": "sum"}, "unknown_node", "/node_id"),
            ({"allowed_ips": ["10.0.0.1/8"]}, "invalid_range", "/allowed_ips/0"),
            ({"dedupe_path": "$..a..b"}, "invalid_path", "/dedupe_path"),
            ({"auth_type": "basic", "secret": SECRET}, "invalid_secret", "/secret"),
            ({"secret": SECRET}, "invalid_secret", "/secret"),
            ({"auth_type": "secret", "signature_scheme": "standard", "secret": SECRET}, "invalid_secret", "/secret"),
            ({"secret": SECRET * 100, "auth_type": "secret"}, "string_too_long", "/secret"),
            ({"response_url": "http://x"}, "unknown_field", "/response_url"),
        ],
    )
    async def test_what_is_wrong_is_said_without_the_secret(
        self, world: World, acme: TenantHandle, body: dict[str, Any], code: str, pointer: str
    ) -> None:
        await publish(acme, {"path": "managed"})
        answer = await acme.client.post("/webhooks", json={"workflow": "orders", **body})
        assert answer.status_code == 422
        ProblemDocument.model_validate(answer.json())
        assert [(each["code"], each["pointer"]) for each in answer.json()["errors"]] == [(code, pointer)]
        assert SECRET not in answer.text

    async def test_workflows_are_named_or_known_by_their_id(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {})
        assert (await make(acme, workflow=workflow["id"]))["workflow_id"] == workflow["id"]
        by_id = await call(acme, "POST", "/webhooks", {"workflow_id": workflow["id"]}, 201)
        assert by_id["workflow_id"] == workflow["id"]
        assert await refused(acme, "POST", "/webhooks", {"workflow": "absent"}) == (404, "workflow_not_found")
        for body in ({}, {"workflow": "orders", "workflow_id": workflow["id"]}):
            assert (await refused(acme, "POST", "/webhooks", body))[0] == 422
        draft = await call(acme, "POST", "/workflows", {"name": "draft", "definition": workflow["definition"]}, 201)
        assert (await make(acme, workflow="draft"))["node_id"] == ""
        await call(acme, "DELETE", f"/workflows/{draft['id']}")
        assert await refused(acme, "POST", "/webhooks", {"workflow": "draft"}) == (404, "workflow_not_found")
        assert await refused(acme, "POST", "/webhooks", {"workflow": draft["id"]}) == (404, "workflow_not_found")

    async def test_lists_are_filtered_and_paged(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {"path": "managed"})
        await publish(acme, {"path": "other"}, name="others")
        made = await make(acme, enabled=False)
        listed = (await acme.client.get("/webhooks")).json()
        Many[Webhook].model_validate(listed)
        assert [each["path"] for each in listed["data"]] == [made["path"], "other", "managed"]
        off = (await acme.client.get("/webhooks", params={"enabled": "false"})).json()["data"]
        assert [each["id"] for each in off] == [made["id"]]
        own = (await acme.client.get("/webhooks", params={"workflow_id": workflow["id"], "limit": 1})).json()
        rest = (
            await acme.client.get("/webhooks", params={"workflow_id": workflow["id"], "cursor": own["next_cursor"]})
        ).json()
        assert [each["path"] for each in (*own["data"], *rest["data"])] == [made["path"], "managed"]

    async def test_an_archived_workflow_retires_all(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {"path": "managed"})
        made = await make(acme, path="shop")
        await call(acme, "DELETE", f"/workflows/{workflow['id']}")
        async with world.outside() as client:
            assert (await client.post("/shop", json={})).status_code == 404
        assert await refused(acme, "PATCH", f"/webhooks/{made['id']}", {"enabled": True}) == (409, "workflow_archived")
        await publish(acme, {"path": "managed"}, name="again")
        await make(acme, workflow="again", path="shop")
        await call(acme, "DELETE", f"/webhooks/{made['id']}")


class TestManaged:
    async def test_what_the_node_says_is_the_node_s(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {"path": "managed", "auth_type": "secret", "secret": SECRET})
        path = f"/webhooks/{workflow['webhooks'][0]['id']}"
        for change in ({"path": "x"}, {"methods": ["GET"]}, {"auth_type": "none"}, {"signature_scheme": "github"}):
            assert await refused(acme, "PATCH", path, change) == (409, "managed_by_node")
        assert await refused(acme, "DELETE", path) == (409, "managed_by_node")
        assert await send(world, "managed", SECRET) == 202
        changed = await call(acme, "PATCH", path, {"secret": "another-secret", "enabled": True, "path": "managed"})
        assert (changed["has_secret"], changed["secret"]) == (True, None)
        await call(acme, "PATCH", path, {"enabled": False})
        await call(acme, "POST", f"/workflows/{workflow['id']}/publish")
        assert not (await call(acme, "GET", path))["enabled"]


class TestSecrets:
    async def test_a_rotation_has_its_window(self, world: World, acme: TenantHandle) -> None:
        await publish(acme, {})
        made = await make(acme, path="shop", auth_type="secret")
        path = f"/webhooks/{made['id']}"
        answer = await acme.client.post(path + "/rotate-secret", headers={"Idempotency-Key": "r1"})
        One[WebhookWithSecret].model_validate(answer.json())
        second = answer.json()["data"]
        again = await acme.client.post(path + "/rotate-secret", headers={"Idempotency-Key": "r1"})
        assert (again.json()["data"]["secret"], again.json()["data"]["revision"]) == (None, second["revision"])
        window = await world.row(
            "SELECT previous_secret_until - now() BETWEEN interval '23:59' AND interval '24:00' AS is_a_day "
            "FROM webhooks WHERE id = $1", uuid.UUID(made["id"]),
        )  # fmt: skip
        assert window["is_a_day"]
        await anyio.sleep(1.1)  # what a process remembers of a webhook
        assert [await send(world, "shop", each) for each in (made["secret"], second["secret"])] == [202, 202]
        third = await call(acme, "POST", path + "/rotate-secret", {"grace": "0s", "secret": "third-secret-by-hand"})
        assert (third["secret"], third["previous_secret_until"]) == (None, None)
        await anyio.sleep(1.1)
        used = [made["secret"], second["secret"], "third-secret-by-hand"]
        assert [await send(world, "shop", each) for each in used] == [401, 401, 202]
        row = await world.row("SELECT previous_secret FROM webhooks WHERE id = $1", uuid.UUID(made["id"]))
        assert row["previous_secret"] is None

    async def test_a_window_ends_by_itself(self, world: World, acme: TenantHandle) -> None:
        await publish(acme, {})
        made = await make(acme, path="shop", auth_type="secret", secret="first-secret")
        await call(acme, "POST", f"/webhooks/{made['id']}/rotate-secret", {"grace": 1})
        assert await send(world, "shop", "first-secret") == 202
        await anyio.sleep(2.2)
        assert await send(world, "shop", "first-secret") == 401
        assert (await call(acme, "GET", f"/webhooks/{made['id']}"))["previous_secret_until"] is None

    @pytest.mark.parametrize(
        ("body", "status"),
        [({"grace": "31d"}, 422), ({"grace": "soon"}, 422), ({"secret": ""}, 422), ({"grace": -1}, 422)],
    )
    async def test_bad_rotations(self, world: World, acme: TenantHandle, body: dict[str, Any], status: int) -> None:
        await publish(acme, {})
        made = await make(acme, auth_type="secret")
        assert (await refused(acme, "POST", f"/webhooks/{made['id']}/rotate-secret", body))[0] == status
        opened = await make(acme)
        assert await refused(acme, "POST", f"/webhooks/{opened['id']}/rotate-secret", {}) == (
            409, "webhook_without_proof",
        )  # fmt: skip

    async def test_another_kind_of_proof_makes_another_secret(self, world: World, acme: TenantHandle) -> None:
        await publish(acme, {})
        made = await make(acme, path="shop")
        assert (made["has_secret"], made["secret"]) == (False, None)
        path = f"/webhooks/{made['id']}"
        first = await call(acme, "PATCH", path, {"auth_type": "secret", "enabled": True})
        assert first["secret"]
        await call(acme, "PATCH", path, {"secret": "no-base-64"})
        kept = await call(acme, "PATCH", path, {"signature_scheme": "github"})
        assert kept["secret"] is None
        standard = await call(acme, "PATCH", path, {"signature_scheme": "standard"})
        assert standard["secret"].startswith("whsec_")
        basic = await call(acme, "PATCH", path, {"auth_type": "basic"})
        assert basic["secret"].startswith("webhook:")
        assert basic["previous_secret_until"] is None
        opened = await call(acme, "PATCH", path, {"auth_type": "none"})
        assert (opened["has_secret"], opened["secret"]) == (False, None)

    async def test_secrets_are_in_no_row_and_no_other_answer(
        self, world: World, acme: TenantHandle, capfd: Any
    ) -> None:
        workflow = await publish(acme, {"path": "managed", "auth_type": "secret", "secret": SECRET})
        given = await make(acme, path="shop", auth_type="bearer", secret="given-by-hand-1")
        made = await make(acme, auth_type="basic")
        headers = {"Idempotency-Key": "once"}
        rotated = await call(acme, "POST", f"/webhooks/{given['id']}/rotate-secret", headers=headers)
        await call(acme, "PATCH", f"/webhooks/{made['id']}", {"secret": "user:pass-by-hand"})
        answers = [
            await acme.client.get(path)
            for path in (
                "/webhooks", f"/webhooks/{given['id']}", f"/webhooks/{made['id']}", f"/workflows/{workflow['id']}",
                f"/workflows/{workflow['id']}/versions/1", "/workflows",
            )
        ]  # fmt: skip
        answers.append(await acme.client.post(f"/webhooks/{given['id']}/rotate-secret", headers=headers))
        texts = await world.texts() + "".join(each.text for each in answers) + "".join(capfd.readouterr())
        assert "sealed:v1:" in texts
        for secret in (
            SECRET,
            "given-by-hand-1",
            made["secret"],
            made["secret"].split(":")[1],
            rotated["secret"],
            "by-hand",
        ):
            assert secret not in texts

    async def test_without_a_key_only_open_webhooks_are_made(self, api_dsn: str, acme: TenantHandle) -> None:
        async with open_world(api_dsn, NoKey()) as keyless:
            client = TenantHandle(acme.id, acme.user_id, acme.key, keyless.api.client(acme.key))
            await publish(client, {"path": "managed"})
            await make(client)
            assert await refused(client, "POST", "/webhooks", {"workflow": "orders", "auth_type": "secret"}) == (
                503, "vault_unavailable",
            )  # fmt: skip
            body = {"name": "w", "definition": {"nodes": [
                {"id": "h", "type": "webhook_trigger", "config": {"auth_type": "secret", "secret": SECRET}}
            ], "edges": []}}  # fmt: skip
            answer = await client.client.post("/workflows", json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "vault_unavailable")
            assert SECRET not in answer.text


class TestFilters:
    FILTER: ClassVar = {"field_path": "$.status", "operator": "equals", "value": "paid"}

    async def test_kept_in_order_and_tried_out(self, world: World, acme: TenantHandle) -> None:
        await publish(acme, {})
        made = await make(acme, path="shop")
        path = f"/webhooks/{made['id']}/filters"
        first = await call(acme, "POST", path, self.FILTER, 201)
        second = await call(
            acme, "POST", path, {"field_path": "headers.X-Kind", "operator": "exists", "logic_group": 1}, 201
        )
        listed = (await acme.client.get(path)).json()
        Many[WebhookFilter].model_validate(listed)
        assert [each["id"] for each in listed["data"]] == [first["id"], second["id"]]
        answer = await acme.client.post(path + "/test", json={"body": {"status": "open"}, "headers": {"X-Kind": "a"}})
        One[FilterVerdict].model_validate(answer.json())
        verdict = answer.json()["data"]
        assert (verdict["passed"], [rule["passed"] for rule in verdict["rules"]]) == (False, [False, True])
        assert (verdict["rules"][0]["actual"], verdict["rules"][0]["id"]) == ("open", first["id"])
        async with world.outside() as client:
            answer = await client.post("/shop", json={"status": "open"}, headers={"X-Kind": "a"})
        assert (answer.status_code, answer.json()["reason"]) == (200, verdict["reason"])
        await call(acme, "PATCH", f"{path}/{first['id']}", {"enabled": False})
        changed = await call(
            acme, "PUT", f"{path}/{second['id']}", {"field_path": "method", "operator": "equals", "value": "GET"}
        )
        assert (changed["logic_group"], changed["value"]) == (0, "GET")
        verdict = await call(acme, "POST", path + "/test", {"method": "GET"})
        assert (verdict["passed"], len(verdict["rules"])) == (True, 1)
        await call(acme, "DELETE", f"{path}/{second['id']}")
        assert await refused(acme, "GET", f"{path}/{second['id']}") == (404, "filter_not_found")

    async def test_bad_filters_and_too_many(self, world: World, acme: TenantHandle) -> None:
        await publish(acme, {})
        path = f"/webhooks/{(await make(acme))['id']}/filters"
        for change, pointer in (
            ({"field_path": "$..a..b"}, "/field_path"), ({"operator": "like"}, "/operator"),
            ({"operator": "regex", "value": "("}, "/value"),
        ):  # fmt: skip
            answer = await acme.client.post(path, json={**self.FILTER, **change})
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        for _ in range(48):
            await call(acme, "POST", path, self.FILTER, 201)
        statuses: list[int] = []

        async def add() -> None:
            statuses.append((await acme.client.post(path, json=self.FILTER)).status_code)

        # Whoever else changes the webhook is waited for, before the filters are counted.
        async with anyio.create_task_group() as group, world.api.owner.transaction():
            await world.api.owner.execute("SELECT 1 FROM webhooks FOR UPDATE")
            for _ in range(5):
                group.start_soon(add)
            await anyio.sleep(0.5)
        assert sorted(statuses) == [201, 201, 409, 409, 409]
        assert await refused(acme, "POST", path, self.FILTER) == (409, "too_many_filters")


class TestTrials:
    async def test_what_would_happen_is_said_and_nothing_is_stored(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {})
        made = await make(acme, path="shop", auth_type="secret")
        path = f"/webhooks/{made['id']}"
        await call(acme, "POST", path + "/filters", TestFilters.FILTER, 201)
        sent = {"body": {"status": "paid"}, "headers": {"X-Token": "t", "X-Kind": "a"}, "query": {"q": "1"}}
        answer = await acme.client.post(path + "/test", json=sent)
        One[TrialVerdict].model_validate(answer.json())
        verdict = answer.json()["data"]
        assert (verdict["accepted"], verdict["code"]) == (True, None)
        assert verdict["trigger_data"] == {
            "method": "POST", "path": "/webhooks/shop", "headers": {"x-token": "[masked]", "x-kind": "a"},
            "query": {"q": "1"}, "body": {"status": "paid"},
        }  # fmt: skip
        assert verdict["workflow"]["id"] == workflow["id"]
        verdict = await call(acme, "POST", path + "/test", {"body": {}})
        assert (verdict["accepted"], verdict["code"], len(verdict["filters"]["rules"])) == (False, "filtered", 1)
        assert (await call(acme, "POST", path + "/test", {**sent, "method": "GET"}))["code"] == "method_not_allowed"
        await call(acme, "PATCH", path, {"enabled": False})
        assert (await call(acme, "POST", path + "/test", sent))["code"] == "webhook_disabled"
        await call(acme, "PATCH", path, {"enabled": True})
        await call(acme, "PATCH", f"/workflows/{workflow['id']}", {"status": "inactive"})
        assert (await call(acme, "POST", path + "/test", sent))["code"] == "workflow_inactive"
        assert (await acme.client.get(path + "/events")).json()["data"] == []

    async def test_a_webhook_without_its_secret_lets_nobody_in(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {"path": "managed", "auth_type": "bearer"})
        path = f"/webhooks/{workflow['webhooks'][0]['id']}"
        assert (await call(acme, "POST", path + "/test", {}))["code"] == "secret_missing"
        async with world.outside() as client:
            assert (await client.post("/managed", json={}, headers={"Authorization": "Bearer x"})).status_code == 401
        made = await call(acme, "POST", path + "/rotate-secret")
        assert (await call(acme, "POST", path + "/test", {}))["accepted"]
        await anyio.sleep(1.1)
        async with world.outside() as client:
            headers = {"Authorization": f"Bearer {made['secret']}"}
            assert (await client.post("/managed", json={}, headers=headers)).status_code == 202


async def test_other_tenants_webhooks_are_not_there(world: World, acme: TenantHandle, rival: TenantHandle) -> None:
    await publish(acme, {})
    made = await make(acme, path="shop", auth_type="secret")
    path = f"/webhooks/{made['id']}"
    rule = await call(acme, "POST", path + "/filters", TestFilters.FILTER, 201)
    assert await send(world, "shop", made["secret"]) == 200
    (event,) = (await acme.client.get(path + "/events")).json()["data"]
    routes: list[tuple[str, str, Any]] = [
        ("GET", path, None), ("PATCH", path, {"enabled": False}), ("PUT", path, {}), ("DELETE", path, None),
        ("POST", path + "/rotate-secret", {}), ("POST", path + "/test", {}), ("GET", path + "/events", None),
        ("POST", path + "/events/replay", {"event_ids": [event["id"]]}),
        ("GET", f"/webhooks/events/{event['id']}", None),
        ("POST", f"/webhooks/events/{event['id']}/replay", None), ("GET", path + "/filters", None),
        ("POST", path + "/filters", TestFilters.FILTER), ("POST", path + "/filters/test", {}),
        ("GET", f"{path}/filters/{rule['id']}", None), ("PATCH", f"{path}/filters/{rule['id']}", {}),
        ("PUT", f"{path}/filters/{rule['id']}", TestFilters.FILTER), ("DELETE", f"{path}/filters/{rule['id']}", None),
    ]  # fmt: skip
    for method, route, body in routes:
        assert (await refused(rival, method, route, body))[0] == 404, (method, route)
    assert (await rival.client.get("/webhooks")).json()["data"] == []
    assert await refused(rival, "POST", "/webhooks", {"workflow": made["workflow_id"]}) == (404, "workflow_not_found")
    assert (await call(acme, "GET", path))["enabled"]
