"""Workflows over HTTP: save, check, publish, start; tenants apart; writes once per key."""

from __future__ import annotations

import uuid
from typing import Any

import anyio
import pytest

from gorax_engine.api import schemas
from gorax_engine.errors import Conflict, IdempotencyMismatch
from gorax_engine.tenancy.api_keys import new_key
from tests.api.conftest import Api, TenantHandle, definition, make

pytestmark = pytest.mark.anyio


async def test_a_draft_is_stored_and_shown(acme: TenantHandle) -> None:
    workflow = await make(acme, description="d", settings={"timeout": "1h"})
    shown = await acme.client.get(f"/workflows/{workflow['id']}")
    assert shown.json()["data"] == workflow
    assert shown.headers["etag"] == '"1"'
    schemas.Workflow.model_validate_json(shown.text.removeprefix('{"data":').removesuffix("}"))
    assert workflow["status"] == "draft"
    assert workflow["published_version"] is None
    assert "timeout" in workflow["definition"]["settings"]
    listed = (await acme.client.get("/workflows", params={"name": "orders"})).json()
    assert [row["id"] for row in listed["data"]] == [workflow["id"]]
    schemas.Many[schemas.WorkflowSummary].model_validate(listed)


async def test_a_faulty_definition_answers_every_fault_and_stores_nothing(acme: TenantHandle) -> None:
    faulty = {"nodes": [{"id": "a", "type": "nope"}, {"id": "a", "type": "formula", "config": {}}], "edges": []}
    checked = (await acme.client.post("/workflows/validate", json={"definition": faulty})).json()["data"]
    saved = await acme.client.post("/workflows", json={"name": "x", "definition": faulty})
    assert saved.status_code == 422
    assert saved.headers["content-type"] == "application/problem+json"
    assert saved.json()["code"] == "invalid_definition"
    assert saved.json()["errors"] == checked["errors"]
    assert not checked["valid"]
    assert {"unknown_type", "duplicate_id"} <= {fault["code"] for fault in checked["errors"]}
    assert (await acme.client.get("/workflows")).json() == {"data": [], "next_cursor": None}


@pytest.mark.parametrize("raw", [None, 1, "x", [], {}, {"nodes": 3}])
async def test_any_json_may_be_checked(acme: TenantHandle, raw: Any) -> None:
    answer = await acme.client.post("/workflows/validate", json={"definition": raw})
    assert answer.status_code == 200
    assert answer.json()["data"]["valid"] is False


async def test_unknown_fields_are_refused_with_their_place(acme: TenantHandle) -> None:
    answer = await acme.client.post("/workflows", json={"name": "x", "definition": definition(), "a/b": 1})
    assert answer.status_code == 422
    assert [(e["code"], e["pointer"]) for e in answer.json()["errors"]] == [("unknown_field", "/a~1b")]
    assert (await acme.client.get("/workflows", params={"nme": "x"})).json()["errors"][0]["code"] == "unknown_parameter"


async def test_a_name_is_taken_once_per_tenant(acme: TenantHandle, rival: TenantHandle) -> None:
    await make(acme)
    again = await acme.client.post("/workflows", json={"name": "orders", "definition": definition()})
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    await make(rival)
    other = await make(acme, "other")
    renamed = await acme.client.patch(f"/workflows/{other['id']}", json={"name": "orders"})
    assert (renamed.status_code, renamed.json()["code"]) == (409, "name_taken")


async def test_publishing_makes_versions_and_webhooks(acme: TenantHandle) -> None:
    workflow = await make(acme)
    url = f"/workflows/{workflow['id']}"
    first = (await acme.client.post(f"{url}/publish")).json()["data"]
    assert (first["version"], first["published_version"], first["status"]) == (1, 1, "active")
    assert [(w["path"], w["methods"], w["url"]) for w in first["webhooks"]] == [
        ("orders", ["POST"], "/webhooks/orders")
    ]
    same = (await acme.client.post(f"{url}/publish")).json()["data"]
    assert same == first
    changed = definition("orders", output={"a": 1})
    draft = (await acme.client.put(url, json={"name": "orders", "definition": changed})).json()["data"]
    assert draft["published_version"] == 1
    second = (await acme.client.post(f"{url}/publish")).json()["data"]
    assert (second["version"], second["published_version"]) == (2, 2)
    assert second["webhooks"] == first["webhooks"]
    versions = (await acme.client.get(f"{url}/versions")).json()
    assert [v["version"] for v in versions["data"]] == [2, 1]
    schemas.Many[schemas.WorkflowVersionSummary].model_validate(versions)
    shown = (await acme.client.get(f"{url}/versions/1")).json()
    schemas.One[schemas.WorkflowVersion].model_validate(shown)
    assert shown["data"]["definition"] == workflow["definition"]
    for missing in ("3", "0", "99999999999999", "x"):
        assert (await acme.client.get(f"{url}/versions/{missing}")).status_code == 404


async def test_a_version_becomes_the_draft_again(acme: TenantHandle) -> None:
    workflow = await make(acme)
    url = f"/workflows/{workflow['id']}"
    await acme.client.post(f"{url}/publish")
    changed = {"name": "orders", "definition": definition("orders", output={"a": 1})}
    second = (await acme.client.put(url, json=changed)).json()["data"]
    await acme.client.post(f"{url}/publish")
    stale = await acme.client.post(f"{url}/versions/1/restore", headers={"If-Match": f'"{second["revision"]}"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    restored = await acme.client.post(f"{url}/versions/1/restore")
    assert restored.status_code == 200
    data = restored.json()["data"]
    schemas.Workflow.model_validate(data)
    assert data["definition"] == workflow["definition"]
    assert data["published_version"] == 2
    again = await acme.client.post(f"{url}/versions/1/restore")
    assert again.headers["etag"] == restored.headers["etag"]
    third = (await acme.client.post(f"{url}/publish")).json()["data"]
    assert third["published_version"] == 3
    for missing in ("4", "0", "99999999999999"):
        answer = await acme.client.post(f"{url}/versions/{missing}/restore")
        assert (answer.status_code, answer.json()["code"]) == (404, "version_not_found")


async def test_a_made_up_path_stays_and_a_removed_node_frees_its_path(acme: TenantHandle, rival: TenantHandle) -> None:
    workflow = await make(acme, definition=definition(None))
    url = f"/workflows/{workflow['id']}"
    [made_up] = (await acme.client.post(f"{url}/publish")).json()["data"]["webhooks"]
    assert len(made_up["path"]) >= 30
    await acme.client.patch(url, json={"definition": definition(None, output=1)})
    assert (await acme.client.post(f"{url}/publish")).json()["data"]["webhooks"] == [made_up]
    await acme.client.patch(url, json={"definition": definition("mine")})
    [moved] = (await acme.client.post(f"{url}/publish")).json()["data"]["webhooks"]
    assert (moved["id"], moved["path"]) == (made_up["id"], "mine")
    theirs = await make(rival, definition=definition("/webhooks/mine"))
    taken = await rival.client.post(f"/workflows/{theirs['id']}/publish")
    assert (taken.status_code, taken.json()["code"]) == (409, "path_taken")
    assert "acme" not in taken.text
    assert str(acme.id) not in taken.text
    assert (await rival.client.get(f"/workflows/{theirs['id']}")).json()["data"]["published_version"] is None
    manual = {"nodes": [{"id": "m", "type": "manual_trigger"}], "edges": []}
    await acme.client.patch(url, json={"definition": manual})
    assert (await acme.client.post(f"{url}/publish")).json()["data"]["webhooks"] == []
    assert (await rival.client.post(f"/workflows/{theirs['id']}/publish")).status_code == 200


async def test_status_switches_and_the_archive_frees_name_and_path(acme: TenantHandle) -> None:
    workflow = await make(acme)
    url = f"/workflows/{workflow['id']}"
    early = await acme.client.patch(url, json={"status": "inactive"})
    assert (early.status_code, early.json()["code"]) == (409, "not_published")
    assert (await acme.client.patch(url, json={"status": "active"})).json()["data"]["published_version"] == 1
    assert (await acme.client.patch(url, json={"status": "inactive"})).json()["data"]["status"] == "inactive"
    on = (await acme.client.patch(url, json={"status": "active"})).json()["data"]
    assert (on["status"], on["version"]) == ("active", 1)
    gone = (await acme.client.delete(url)).json()["data"]
    assert gone["status"] == "archived"
    assert gone["name"] != "orders"
    assert not gone["webhooks"][0]["enabled"]
    refused = await acme.client.put(url, json={"name": "x", "definition": definition()})
    assert (refused.status_code, refused.json()["code"]) == (409, "workflow_archived")
    assert (await acme.client.get("/workflows")).json()["data"] == []
    assert len((await acme.client.get("/workflows", params={"status": "archived"})).json()["data"]) == 1
    again = await make(acme)
    assert (await acme.client.post(f"/workflows/{again['id']}/publish")).status_code == 200


async def test_if_match_guards_changes(acme: TenantHandle) -> None:
    workflow = await make(acme)
    url = f"/workflows/{workflow['id']}"
    body = {"name": "orders", "definition": definition(output=2)}
    changed = await acme.client.put(url, json=body, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    unchanged = await acme.client.put(url, json=body, headers={"If-Match": '"2"'})
    assert unchanged.headers["etag"] == '"2"'
    for stale in ('"1"', 'W/"2"', "2"):
        for method, target in (("PUT", url), ("PATCH", url), ("DELETE", url), ("POST", f"{url}/publish")):
            sent = None if method in {"DELETE", "POST"} else body
            answer = await acme.client.request(method, target, headers={"If-Match": stale}, json=sent)
            assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")


async def test_another_tenants_workflow_is_absent(acme: TenantHandle, rival: TenantHandle) -> None:
    workflow = await make(acme)
    for method, path, body in (
        ("GET", "", None), ("PUT", "", {"name": "x", "definition": definition()}), ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None), ("POST", "/publish", None), ("GET", "/versions", None), ("GET", "/versions/1", None),
        ("POST", "/versions/1/restore", None),
    ):  # fmt: skip
        theirs = await rival.client.request(method, f"/workflows/{workflow['id']}{path}", json=body)
        nobodys = await rival.client.request(method, f"/workflows/{uuid.uuid4()}{path}", json=body)
        assert (theirs.status_code, theirs.json()["code"]) == (404, "workflow_not_found")
        assert nobodys.json()["code"] == "workflow_not_found"
    assert (await acme.client.get(f"/workflows/{workflow['id']}")).json()["data"] == workflow


async def test_lists_are_paged(acme: TenantHandle) -> None:
    names = [f"w{i}" for i in range(5)]
    for name in names:
        await make(acme, name)
    seen, cursor = [], None
    for _ in range(3):
        page = (
            await acme.client.get("/workflows", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        seen += [row["name"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert seen == names[::-1]
    assert cursor is None
    for bad in ({"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"cursor": "=" * 8}, {"status": "nope"}):
        assert (await acme.client.get("/workflows", params=bad)).status_code == 422


async def test_a_write_happens_once_per_key(api: Api, acme: TenantHandle, rival: TenantHandle) -> None:
    key = {"Idempotency-Key": "k1"}
    body = {"name": "once", "definition": definition()}
    first = await acme.client.post("/workflows", json=body, headers=key)
    again = await acme.client.post("/workflows", json=body, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    other = await acme.client.post("/workflows", json={**body, "name": "other"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert (await rival.client.post("/workflows", json=body, headers=key)).json()["data"]["id"] != first.json()["data"][
        "id"
    ]
    bad = await acme.client.post("/workflows", json=body, headers={"Idempotency-Key": "a b"})
    assert bad.json()["code"] == "invalid_idempotency_key"


async def test_a_failed_write_leaves_its_key_free(acme: TenantHandle) -> None:
    await make(acme)
    key = {"Idempotency-Key": "k1"}
    taken = await acme.client.post("/workflows", json={"name": "orders", "definition": definition()}, headers=key)
    assert taken.status_code == 409
    free = await acme.client.post("/workflows", json={"name": "free", "definition": definition()}, headers=key)
    assert free.status_code == 201


async def test_a_key_in_use_is_a_conflict(api: Api, acme: TenantHandle) -> None:
    text = f"{acme.id}:{acme.user_id}:k1"
    async with api.database.tenant(acme.id) as connection:
        lock = "SELECT pg_advisory_xact_lock(hashtext('gorax.request_idempotency'), hashtext($1))"
        await connection.execute(lock, text)
        body = {"name": "x", "definition": definition()}
        running = await acme.client.post("/workflows", json=body, headers={"Idempotency-Key": "k1"})
    assert (running.status_code, running.json()["code"]) == (409, "idempotency_key_running")


async def test_execute_hands_the_input_over(api: Api, acme: TenantHandle) -> None:
    workflow = await make(acme)
    url = f"/workflows/{workflow['id']}/execute"
    answer = await acme.client.post(url, json={"input": {"n": 1}}, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202
    schemas.One[schemas.StartedRun].model_validate(answer.json())
    [request] = api.verbs.requests
    assert (request.tenant_id, str(request.workflow_id)) == (acme.id, workflow["id"])
    assert (request.trigger_type, request.trigger_data) == ("api", {"body": {"n": 1}})
    assert request.started_by == acme.user_id
    assert request.start_key is not None
    assert (request.start_key.kind, request.start_key.key) == ("idempotency", "k")
    await acme.client.post(url, json={"input": {"n": 2}}, headers={"Idempotency-Key": "k"})
    second = api.verbs.requests[1].start_key
    assert second is not None
    assert second.body_hash != request.start_key.body_hash
    assert (await acme.client.post(url)).status_code == 202
    assert api.verbs.requests[2].trigger_data == {"body": None}
    assert api.verbs.requests[2].start_key is None
    assert (await acme.client.post(url, json={"input": 1, "x": 2})).status_code == 422
    assert (await acme.client.post(f"{url}?wait=61", json={})).status_code == 422
    assert (await acme.client.post(f"{url}?wait=1", json={})).status_code == 202


@pytest.mark.parametrize(
    ("error", "status"),
    [(Conflict("no", code="not_published"), 409), (IdempotencyMismatch("no"), 422)],
)
async def test_execute_passes_refusals_on(api: Api, acme: TenantHandle, error: Any, status: int) -> None:
    api.verbs.fails = error
    answer = await acme.client.post(f"/workflows/{uuid.uuid4()}/execute", json={})
    assert (answer.status_code, answer.json()["code"]) == (status, error.code)


async def test_two_publishers_take_turns(acme: TenantHandle) -> None:
    workflow = await make(acme)
    url = f"/workflows/{workflow['id']}/publish"
    answers: list[int] = []

    async def publish() -> None:
        answers.append((await acme.client.post(url)).json()["data"]["version"])

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(publish)
    assert answers == [1, 1, 1, 1]


def test_keys_do_not_show_in_repr() -> None:
    key = new_key()
    assert key.secret not in repr(key)
