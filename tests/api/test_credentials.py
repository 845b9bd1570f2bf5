"""Routes of credentials: secrets go in and never come out."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from gorax_engine.api.credential_schemas import Credential, CredentialAccess
from gorax_engine.api.credentials import CredentialRoutes
from gorax_engine.api.schemas import Many, One, ProblemDocument
from gorax_engine.vault.keys import NoKey
from tests.api.conftest import Api, TenantHandle

pytestmark = pytest.mark.anyio

SECRET = "sk_live_1234567890"


async def store(tenant: TenantHandle, name: str = "stripe", **more: Any) -> dict[str, Any]:
    """Store a credential and return it."""
    body = {"name": name, "type": "api_key", "value": {"key": SECRET}, **more}
    answer = await tenant.client.post("/credentials", json=body)
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_a_credential_is_stored_shown_changed_and_deleted(acme: TenantHandle) -> None:
    answer = await acme.client.post(
        "/credentials",
        json={
            "name": "stripe", "type": "api_key", "value": {"key": SECRET}, "description": "Payments",
            "expires_at": "2999-01-01T00:00:00+01:00",
        },
        headers={"User-Agent": "curl/8"},
    )  # fmt: skip
    assert answer.status_code == 201
    made = answer.json()["data"]
    One[Credential].model_validate(answer.json())
    assert answer.headers["location"] == f"/api/v1/credentials/{made['id']}"
    assert (made["version"], made["status"], made["expires_at"]) == (1, "active", "2998-12-31T23:00:00Z")
    shown = await acme.client.get(f"/credentials/{made['id']}")
    assert shown.json()["data"] == made
    assert shown.headers["etag"] == '"1"'
    changed = await acme.client.patch(
        f"/credentials/{made['id']}",
        json={"value": {"key": "other-" + SECRET}, "expires_at": None, "status": "inactive"},
    )
    assert changed.status_code == 200, changed.text
    data = changed.json()["data"]
    assert (data["version"], data["revision"], data["status"], data["expires_at"]) == (2, 2, "inactive", None)
    assert data["description"] == "Payments"
    log = await acme.client.get(f"/credentials/{made['id']}/access-log", params={"limit": 1})
    Many[CredentialAccess].model_validate(log.json())
    assert [each["access_type"] for each in log.json()["data"]] == ["update"]
    older = await acme.client.get(f"/credentials/{made['id']}/access-log", params={"cursor": log.json()["next_cursor"]})
    (first,) = older.json()["data"]
    assert (first["access_type"], first["user_agent"], first["accessed_by"]) == ("create", "curl/8", str(acme.user_id))
    deleted = await acme.client.delete(f"/credentials/{made['id']}")
    assert deleted.status_code == 200
    assert (await acme.client.get(f"/credentials/{made['id']}")).status_code == 404
    log = await acme.client.get(f"/credentials/{made['id']}/access-log")
    assert [each["access_type"] for each in log.json()["data"]] == ["delete", "update", "create"]
    for each in (answer, shown, changed, deleted, log):
        assert SECRET not in each.text


async def test_put_replaces_the_value_and_neither_name_nor_type(acme: TenantHandle) -> None:
    made = await store(acme, description="Payments")
    body = {"name": "stripe", "type": "api_key", "value": {"key": "new"}}
    answer = await acme.client.put(f"/credentials/{made['id']}", json=body)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert (data["version"], data["description"], data["status"]) == (2, None, "active")
    answer = await acme.client.put(f"/credentials/{made['id']}", json={**body, "name": "other"})
    assert answer.status_code == 422
    assert [problem["pointer"] for problem in answer.json()["errors"]] == ["/name"]


async def test_a_change_that_came_between_is_noticed(acme: TenantHandle) -> None:
    made = await store(acme)
    path = f"/credentials/{made['id']}"
    for method, body in (("PATCH", {"value": {"key": "new"}}), ("DELETE", None)):
        stale = await acme.client.request(method, path, json=body, headers={"If-Match": '"7"'})
        assert stale.status_code == 412
    assert (await acme.client.patch(path, json={"status": "revoked"}, headers={"If-Match": '"1"'})).status_code == 200


async def test_a_repeat_under_the_same_key_happens_once(api: Api, acme: TenantHandle) -> None:
    body = {"name": "stripe", "type": "api_key", "value": {"key": SECRET}}
    headers = {"Idempotency-Key": "once"}
    first, second = [await acme.client.post("/credentials", json=body, headers=headers) for _ in range(2)]
    assert second.status_code == 201
    assert second.json() == first.json()
    body["value"] = {"key": "another"}
    assert (await acme.client.post("/credentials", json=body, headers=headers)).status_code == 422
    kept = await api.owner.fetchval("SELECT string_agg(response::text, '') FROM request_idempotency")
    assert SECRET not in kept


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "my key"}, "/name"),
        ({"name": ""}, "/name"),
        ({"type": "password"}, "/type"),
        ({"value": {"token": SECRET}}, "/value/key"),
        ({"value": {"key": SECRET * 2000}}, "/value"),
        ({"value": SECRET}, "/value"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "/expires_at"),
        ({"secret": SECRET}, "/secret"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_shown_of_the_value(
    acme: TenantHandle, change: dict[str, Any], pointer: str
) -> None:
    body = {"name": "stripe", "type": "api_key", "value": {"key": SECRET}, **change}
    answer = await acme.client.post("/credentials", json=body)
    assert answer.status_code == 422
    ProblemDocument.model_validate(answer.json())
    assert [problem["pointer"] for problem in answer.json()["errors"]] == [pointer]
    assert SECRET not in answer.text


async def test_a_taken_name_is_a_conflict_and_lists_are_of_the_tenant(acme: TenantHandle, rival: TenantHandle) -> None:
    made = await store(acme)
    again = await acme.client.post("/credentials", json={"name": "stripe", "type": "api_key", "value": {"key": "x"}})
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    await store(acme, "other", type="bearer_token", value={"token": "t"})
    listed = (await acme.client.get("/credentials", params={"type": "bearer_token"})).json()
    Many[Credential].model_validate(listed)
    assert [each["name"] for each in listed["data"]] == ["other"]
    assert [each["name"] for each in (await acme.client.get("/credentials?name=stripe")).json()["data"]] == ["stripe"]
    first = (await acme.client.get("/credentials?limit=1")).json()
    second = (await acme.client.get("/credentials", params={"cursor": first["next_cursor"]})).json()
    assert [each["name"] for each in (*first["data"], *second["data"])] == ["other", "stripe"]
    assert (await rival.client.get("/credentials")).json()["data"] == []
    for method, path in (("GET", ""), ("PATCH", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/access-log")):
        body = (
            {"name": "stripe", "type": "api_key", "value": {"key": "x"}} if method == "PUT" else {"value": {"key": "x"}}
        )
        answer = await rival.client.request(
            method, f"/credentials/{made['id']}{path}", json=None if method in ("GET", "DELETE") else body
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "credential_not_found")
    assert (await acme.client.get(f"/credentials/{uuid.uuid4()}")).status_code == 404


async def test_without_a_key_nothing_is_stored_and_the_setting_is_named(
    api: Api, acme: TenantHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await store(acme)
    for route in api.app.api.router.routes:  # type: ignore[attr-defined]
        routes = getattr(getattr(route, "endpoint", None), "__self__", None)
        if isinstance(routes, CredentialRoutes):
            monkeypatch.setattr(routes._credentials, "_provider", NoKey())
    create = await acme.client.post("/credentials", json={"name": "x", "type": "api_key", "value": {"key": SECRET}})
    change = await acme.client.patch(f"/credentials/{made['id']}", json={"value": {"key": SECRET}})
    for answer in (create, change):
        assert (answer.status_code, answer.json()["code"]) == (503, "vault_unavailable")
        assert "vault.key_file" in answer.json()["detail"]
        assert answer.headers["retry-after"] == "30"
    log = (await acme.client.get(f"/credentials/{made['id']}/access-log")).json()["data"]
    assert [(each["access_type"], each["success"]) for each in log] == [("update", False), ("create", True)]
    assert (await acme.client.patch(f"/credentials/{made['id']}", json={"status": "revoked"})).status_code == 200
