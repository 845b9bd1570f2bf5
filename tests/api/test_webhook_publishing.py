"""Webhook nodes and their webhooks: secrets are sealed on saving, and publishing keeps the two in step."""

# ruff: noqa: F811 (fixtures of another module)

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from uuid import UUID

import anyio
import pytest

from gorax_engine.vault.local_key import LocalKey
from gorax_engine.vault.sealed_text import SealedTexts
from tests.api.conftest import TenantHandle
from tests.api.webhooks_world import World, acme, call, publish, refused, rival, workflow_of, world  # noqa: F401

pytestmark = pytest.mark.anyio

SECRET = "s3cret-of-orders"
SIGNED = {"path": "shop", "auth_type": "secret", "secret": SECRET}


async def send(world: World, secret: str, path: str = "shop") -> int:
    body = b"{}"
    headers = {"X-Webhook-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
    async with world.outside() as client:
        return (await client.post(f"/{path}", content=body, headers=headers)).status_code


def config_of(workflow: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = workflow["definition"]["nodes"][0]["config"]
    return config


async def hook_of(tenant: TenantHandle, workflow: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await call(tenant, "GET", f"/webhooks/{workflow['webhooks'][0]['id']}")
    return {name: value for name, value in found.items() if name != "health"}


class TestSealing:
    async def test_a_secret_is_stored_sealed_and_works(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, SIGNED)
        text = config_of(workflow)["secret"]
        assert text.startswith("sealed:v1:")
        assert await world.sealed.open(acme.id, text) == SECRET
        assert [await send(world, each) for each in (SECRET, "other")] == [202, 401]

    async def test_a_file_that_is_applied_again_changes_nothing(self, world: World, acme: TenantHandle) -> None:
        first = await publish(acme, SIGNED)
        again = await publish(acme, SIGNED)
        assert (again["published_version"], again["revision"]) == (first["published_version"], first["revision"])
        hook = await hook_of(acme, again)
        # Also the other way round: what was read is written back.
        back = await publish(acme, config_of(first))
        assert (back["published_version"], back["revision"]) == (first["published_version"], first["revision"])
        assert await hook_of(acme, back) == hook
        # And when the draft has another secret meanwhile, what is published is still known.
        await call(
            acme, "PATCH", f"/workflows/{first['id']}", {"definition": workflow_of({**SIGNED, "secret": "other"})}
        )
        third = await publish(acme, SIGNED)
        assert third["published_version"] == first["published_version"]
        assert config_of(third)["secret"] == config_of(first)["secret"]
        changed = await publish(acme, {**SIGNED, "secret": "another-one"})
        assert changed["published_version"] == first["published_version"] + 1

    async def test_put_patch_and_restore_seal_too(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, SIGNED)
        path = f"/workflows/{workflow['id']}"
        for secret, method in (("by-put", "PUT"), ("by-patch", "PATCH")):
            body: dict[str, Any] = {"definition": workflow_of({**SIGNED, "secret": secret})}
            body |= {"name": "orders"} if method == "PUT" else {}
            saved = await call(acme, method, path, body)
            assert await world.sealed.open(acme.id, config_of(saved)["secret"]) == secret
        restored = await call(acme, "POST", f"{path}/versions/1/restore", {})
        assert config_of(restored)["secret"] == config_of(workflow)["secret"]
        assert "by-p" not in await world.texts()

    async def test_another_tenant_s_sealed_text_is_refused(
        self, world: World, acme: TenantHandle, rival: TenantHandle
    ) -> None:
        text = config_of(await publish(acme, SIGNED))["secret"]
        other_key = await SealedTexts(LocalKey(bytes([1]) * 32)).seal(rival.id, "x")
        for foreign in (text, text[:-8] + "AAAAAAA=", "sealed:v1:", "sealed:v1:%%%"):
            body = {"name": "w", "definition": workflow_of({**SIGNED, "path": "mine", "secret": foreign})}
            answer = await rival.client.post("/workflows", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_definition")
            (problem,) = answer.json()["errors"]
            assert (problem["code"], problem["pointer"]) == ("invalid_config", "/nodes/0/config/secret")
            assert "write the secret itself" in problem["message"]
        body = {"name": "w", "definition": workflow_of({**SIGNED, "path": "mine", "secret": other_key})}
        assert (await rival.client.post("/workflows", json=body)).status_code in (422, 503)

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"secret": SECRET}, "auth_type"),
            ({"secret": SECRET, "auth_type": "basic"}, "username:password"),
            ({"secret": SECRET + "{{ vars.x }}", "auth_type": "secret"}, "templates"),
            ({"secret": SECRET, "auth_type": "secret", "signature_scheme": "standard"}, "base64"),
            ({"secret": SECRET * 100, "auth_type": "secret"}, "500"),
            ({"secret": SECRET + " \n", "auth_type": "bearer"}, "secret"),
        ],
    )
    async def test_bad_secrets_are_told_and_not_shown(
        self, world: World, acme: TenantHandle, config: dict[str, Any], words: str
    ) -> None:
        definition = workflow_of(config)
        for path, body in (
            ("/workflows", {"name": "w", "definition": definition}),
            ("/workflows/validate", {"definition": definition}),
        ):
            answer = await acme.client.post(path, json=body)
            found = answer.json()["data"]["errors"] if "data" in answer.json() else answer.json()["errors"]
            assert [(each["code"], each["pointer"]) for each in found] == [("invalid_config", "/nodes/0/config/secret")]
            assert words in found[0]["message"]
            assert SECRET not in answer.text

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"data": {"config": {"auth_type": "secret", "secret": SECRET}}}, "/data/config/secret"),
            ({"data": {"webhookSecret": SECRET}}, "/data/webhookSecret"),
            ({"secret": SECRET}, "/secret"),
            ({"config": {"path": "shop", "signing_secret": SECRET}}, "/config/signing_secret"),
        ],
    )
    async def test_a_secret_where_nobody_looks_is_refused(
        self, world: World, acme: TenantHandle, change: dict[str, Any], pointer: str
    ) -> None:
        definition = workflow_of({"path": "shop"})
        definition["nodes"][0].update(change)
        answer = await acme.client.post("/workflows", json={"name": "w", "definition": definition})
        assert [each["pointer"] for each in answer.json()["errors"]] == ["/nodes/0" + pointer]
        assert SECRET not in answer.text + await world.texts()

    async def test_sealed_texts_keep_their_kind_of_proof(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, SIGNED)
        body = {"definition": workflow_of({**config_of(workflow), "auth_type": "basic"})}
        assert (await refused(acme, "PATCH", f"/workflows/{workflow['id']}", body))[0] == 422

    async def test_validation_seals_nothing(self, world: World, acme: TenantHandle) -> None:
        answer = await acme.client.post("/workflows/validate", json={"definition": workflow_of(SIGNED)})
        assert answer.json()["data"] == {"valid": True, "errors": [], "warnings": []}

    async def test_what_was_stored_past_the_api_is_not_published(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {"path": "shop"})
        stored = json.dumps(workflow_of(SIGNED))
        await world.api.owner.execute(
            "UPDATE workflows SET definition = $1 WHERE id = $2", stored, UUID(workflow["id"])
        )
        assert await refused(acme, "POST", f"/workflows/{workflow['id']}/publish") == (422, "invalid_definition")


class TestSync:
    async def test_all_that_a_node_names_is_set(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(
            acme,
            {
                **SIGNED, "methods": ["POST", "PUT"], "signature_scheme": "github", "timestamp_tolerance": 60,
                "allowed_ips": ["203.0.113.9", "2001:DB8::/32"], "max_body_bytes": 100, "rate_limit": 10,
                "dedupe_header": "X-Id", "dedupe_path": "$.id", "response_mode": "result", "priority": 7,
                "description": "Orders",
                "filters": [
                    {"field_path": "$.b", "operator": "exists", "logic_group": 1},
                    {"field_path": "$.a", "operator": "exists"},
                ],
            },
        )  # fmt: skip
        hook = await hook_of(acme, workflow)
        found = {name: hook[name] for name in (
            "managed", "node_id", "name", "path", "methods", "auth_type", "signature_scheme", "timestamp_tolerance",
            "allowed_ips", "max_body_bytes", "rate_limit", "dedupe_header", "dedupe_path", "response_mode", "priority",
            "description", "has_secret",
        )}  # fmt: skip
        assert found == {
            "managed": True, "node_id": "hook", "name": "hook", "path": "shop", "methods": ["POST", "PUT"],
            "auth_type": "secret", "signature_scheme": "github", "timestamp_tolerance": 60,
            "allowed_ips": ["203.0.113.9/32", "2001:db8::/32"], "max_body_bytes": 100, "rate_limit": 10,
            "dedupe_header": "X-Id", "dedupe_path": "$.id", "response_mode": "result", "priority": 7,
            "description": "Orders", "has_secret": True,
        }  # fmt: skip
        rules = (await acme.client.get(f"/webhooks/{hook['id']}/filters")).json()["data"]
        assert [each["field_path"] for each in rules] == ["$.a", "$.b"]
        await call(acme, "POST", f"/workflows/{workflow['id']}/publish")
        assert (await hook_of(acme, workflow))["revision"] == hook["revision"]
        same = (await acme.client.get(f"/webhooks/{hook['id']}/filters")).json()["data"]
        assert [each["id"] for each in same] == [each["id"] for each in rules]

    async def test_what_a_node_doesn_t_name_survives(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {"path": "shop", "priority": 2})
        hook = await hook_of(acme, workflow)
        path = f"/webhooks/{hook['id']}"
        await call(acme, "PATCH", path, {"rate_limit": 5, "enabled": False, "priority": 9, "description": "d"})
        await call(acme, "POST", path + "/filters", {"field_path": "$.a", "operator": "exists"}, 201)
        published = await call(acme, "POST", f"/workflows/{workflow['id']}/publish")
        assert published["published_version"] == 1
        kept = await hook_of(acme, workflow)
        # The priority is the node's, so that publishing it again has set it back.
        assert [kept[name] for name in ("rate_limit", "enabled", "priority", "description")] == [5, False, 2, "d"]
        await publish(acme, {"path": "shop", "methods": ["PUT"], "filters": []})
        moved = await hook_of(acme, workflow)
        assert (moved["id"], moved["methods"], moved["rate_limit"], moved["enabled"]) == (hook["id"], ["PUT"], 5, False)
        assert (await acme.client.get(path + "/filters")).json()["data"] == []

    async def test_another_secret_lets_the_one_before_in_for_a_day(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, SIGNED)
        await publish(acme, {**SIGNED, "secret": "second"})
        assert [await send(world, each) for each in (SECRET, "second", "third")] == [202, 202, 401]
        row = await world.row("SELECT previous_secret_until - now() AS left FROM webhooks WHERE path = 'shop'")
        assert 23.9 < row["left"].total_seconds() / 3600 <= 24
        assert (await hook_of(acme, workflow))["previous_secret_until"] is not None

    async def test_a_rotation_by_hand_is_not_undone(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, SIGNED)
        hook = await hook_of(acme, workflow)
        rotated = await call(acme, "POST", f"/webhooks/{hook['id']}/rotate-secret", {"grace": "0s"})
        await publish(acme, SIGNED)
        await publish(acme, {**SIGNED, "priority": 4})
        assert [await send(world, each) for each in (SECRET, rotated["secret"])] == [401, 202]
        await publish(acme, {**SIGNED, "secret": "news"})
        await anyio.sleep(1.1)
        assert [await send(world, each) for each in ("news", rotated["secret"], SECRET)] == [202, 202, 401]

    async def test_another_kind_of_proof_ends_the_old_secret(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, SIGNED)
        await publish(acme, {"path": "shop", "auth_type": "bearer"})
        hook = await hook_of(acme, workflow)
        assert (hook["has_secret"], hook["previous_secret_until"]) == (False, None)
        row = await world.row("SELECT secret, previous_secret FROM webhooks WHERE path = 'shop'")
        assert (row["secret"], row["previous_secret"]) == (None, None)
        back = await publish(acme, SIGNED)
        assert (await hook_of(acme, back))["has_secret"]
        assert await send(world, SECRET) == 202
        await publish(acme, {"path": "shop"})
        assert not (await hook_of(acme, workflow))["has_secret"]

    async def test_hand_made_ones_are_left_alone(self, world: World, acme: TenantHandle) -> None:
        workflow = await publish(acme, {"path": "shop"})
        made = await call(acme, "POST", "/webhooks", {"workflow": "orders", "path": "by-hand"}, 201)
        await publish(acme, {"path": "shop2"})
        assert await call(acme, "GET", f"/webhooks/{made['id']}")
        body = {"definition": {"nodes": [{"id": "m", "type": "manual_trigger"}], "edges": []}}
        await call(acme, "PATCH", f"/workflows/{workflow['id']}", body)
        left = (await call(acme, "POST", f"/workflows/{workflow['id']}/publish"))["webhooks"]
        assert [each["path"] for each in left] == ["by-hand"]
        await call(acme, "PATCH", f"/workflows/{workflow['id']}", {"definition": workflow_of({"path": "by-hand"})})
        assert await refused(acme, "POST", f"/workflows/{workflow['id']}/publish") == (409, "path_taken")

    async def test_swapped_paths_keep_their_webhooks(self, world: World, acme: TenantHandle) -> None:
        def both(first: str, second: str) -> dict[str, Any]:
            return {"definition": {"nodes": [
                {"id": "a", "type": "webhook_trigger", "config": {"path": first}},
                {"id": "b", "type": "webhook_trigger", "config": {"path": second}},
            ], "edges": []}}  # fmt: skip

        made = await call(acme, "POST", "/workflows", {"name": "two", **both("p", "q")}, 201)
        before = (await call(acme, "POST", f"/workflows/{made['id']}/publish"))["webhooks"]
        await call(acme, "PATCH", f"/workflows/{made['id']}", both("q", "p"))
        after = (await call(acme, "POST", f"/workflows/{made['id']}/publish"))["webhooks"]
        assert [(each["id"], each["path"]) for each in after] == [(before[0]["id"], "q"), (before[1]["id"], "p")]
