"""The routes of human tasks and notifications, over HTTP on a real database."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from gorax_engine.api.schemas import Many, One
from gorax_engine.api.task_schemas import Notification, Task, TaskSummary
from gorax_engine.tenancy.api_keys import new_key
from tests.people.office import Office

if TYPE_CHECKING:
    from .conftest import Api, TenantHandle

pytestmark = pytest.mark.anyio


@pytest.fixture
async def office(api: Api, acme: TenantHandle) -> Any:
    made = Office(api.owner, acme.id, acme.user_id)
    await made.user("ann", "approvers", "editor")
    await made.user("carl", "editor")
    yield made
    await api.owner.execute("DELETE FROM signals")


async def client_of(api: Api, office: Office, name: str) -> httpx2.AsyncClient:
    key = new_key()
    await api.owner.execute(
        "INSERT INTO api_keys (tenant_id, user_id, name, prefix, key_hash, created_by)"
        " VALUES ($1, $2, 'k', $3, $4, $2)",
        office.tenant, office.users[name], key.prefix, key.hash,
    )  # fmt: skip
    return api.client(key.secret)


def ids(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    Many[TaskSummary].model_validate_json(answer.text)
    return [each["id"] for each in answer.json()["data"]]


async def test_lists_and_filters(api: Api, acme: TenantHandle, rival: TenantHandle, office: Office) -> None:
    ann = await client_of(api, office, "ann")
    mine = await office.open("ann", due_date="2001-01-01T00:00:00Z")
    role = await office.open("approvers", "ann")
    other = await office.open("carl")
    assert ids(await ann.get("/tasks")) == [str(each.id) for each in (other, role, mine)]
    assert ids(await ann.get("/tasks?assignee=me")) == [str(role.id), str(mine.id)]
    assert ids(await acme.client.get("/tasks?assignee=me")) == []
    assert ids(await acme.client.get(f"/tasks?assignee={office.users['carl']}")) == [str(other.id)]
    assert ids(await ann.get("/tasks?overdue=true")) == [str(mine.id)]
    assert ids(await ann.get("/tasks?assignee=me&overdue=false")) == [str(role.id)]
    assert ids(await ann.get(f"/tasks?execution_id={role.execution_id}")) == [str(role.id)]
    assert (await ann.post(f"/tasks/{role.id}/approve")).status_code == 200
    assert ids(await ann.get("/tasks?assignee=me&status=pending")) == [str(mine.id)]
    assert ids(await ann.get("/tasks?assignee=me&status=approved")) == [str(role.id)]
    assert ids(await ann.get("/tasks?status=pending")) == [str(other.id), str(mine.id)]
    assert ids(await rival.client.get("/tasks")) == []
    assert (await ann.get("/tasks?assignee=somebody")).status_code == 422


@pytest.mark.parametrize("whose", ["", "assignee=me&"])
async def test_pages(api: Api, office: Office, whose: str) -> None:
    ann = await client_of(api, office, "ann")
    made = [str((await office.open("ann", "approvers")).id) for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await ann.get(f"/tasks?{whose}limit=2{cursor}")
        seen += ids(answer)
        if (following := answer.json()["next_cursor"]) is None:
            break
        cursor = f"&cursor={following}"
    assert seen == made[::-1]


async def test_one_task_and_its_approval(api: Api, office: Office) -> None:
    ann = await client_of(api, office, "ann")
    fields = [{"name": "n", "type": "number", "label": "n", "required": True, "options": []}]
    task = await office.open("ann", form_fields=fields, final_action="expire")
    shown = await ann.get(f"/tasks/{task.id}")
    One[Task].model_validate_json(shown.text)
    assert shown.json()["data"]["form_fields"] == fields
    wrong = await ann.post(f"/tasks/{task.id}/approve", json={"data": {"n": "one"}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_response")
    assert wrong.json()["errors"][0]["pointer"] == "/data/n"
    answer = await ann.post(f"/tasks/{task.id}/approve", json={"comment": "ok", "data": {"n": 1}})
    assert answer.status_code == 200, answer.text
    One[Task].model_validate_json(answer.text)
    assert answer.json()["data"]["response_data"] == {"comment": "ok", "n": 1}
    again = await ann.post(f"/tasks/{task.id}/approve", json={"data": {"n": 1}})
    assert (again.status_code, again.json()["code"]) == (409, "task_already_decided")


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("reject", {"reason": "no", "data": {"a": 1}}, "rejected"),
        ("submit", {"data": {"a": 1}}, "approved"),
        ("approve", {}, "approved"),
    ],
)
async def test_every_verb(api: Api, office: Office, verb: str, body: Any, status: str) -> None:
    ann = await client_of(api, office, "ann")
    task = await office.open("approvers")
    answer = await ann.post(f"/tasks/{task.id}/{verb}", json=body)
    assert answer.json()["data"]["status"] == status
    assert (await office.signal(task))["outcome"] == status


async def test_a_repeated_idempotency_key_gets_the_first_answer(api: Api, office: Office) -> None:
    ann = await client_of(api, office, "ann")
    task = await office.open("ann")
    key = {"Idempotency-Key": "once"}
    first = await ann.post(f"/tasks/{task.id}/approve", json={"comment": "x"}, headers=key)
    second = await ann.post(f"/tasks/{task.id}/approve", json={"comment": "x"}, headers=key)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"


async def test_refusals(api: Api, acme: TenantHandle, rival: TenantHandle, office: Office) -> None:
    carl = await client_of(api, office, "carl")
    task = await office.open("ann")
    for verb in ("approve", "reject", "submit"):
        answer = await carl.post(f"/tasks/{task.id}/{verb}", json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_assigned")
        answer = await rival.client.post(f"/tasks/{task.id}/{verb}", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")
    assert (await rival.client.get(f"/tasks/{task.id}")).status_code == 404
    assert (await acme.client.get(f"/tasks/{uuid.uuid4()}")).status_code == 404
    unknown = await acme.client.post(f"/tasks/{task.id}/approve", json={"komment": "x"})
    assert (unknown.status_code, unknown.json()["errors"][0]["code"]) == (422, "unknown_field")
    assert (await acme.client.post(f"/tasks/{task.id}/approve", json={"data": [1]})).status_code == 422


@pytest.mark.parametrize("shape", ["id", "object", "role", "role object"])
async def test_handing_on(api: Api, office: Office, shape: str) -> None:
    ann = await client_of(api, office, "ann")
    task = await office.open("ann")
    carl = str(office.users["carl"])
    to = {"id": carl, "object": {"type": "user", "id": carl}, "role": "editor",
          "role object": {"type": "role", "name": "editor"}}[shape]  # fmt: skip
    answer = await ann.post(f"/tasks/{task.id}/delegate", json={"to": to, "comment": "please"})
    assert answer.status_code == 200, answer.text
    data = One[Task].model_validate_json(answer.text).data
    assert data.assignees == [
        {"type": "user", "id": carl} if "r" not in shape[:1] else {"type": "role", "name": "editor"}
    ]
    assert data.history[0]["comment"] == "please"


async def test_handing_on_to_nobody(api: Api, office: Office) -> None:
    ann = await client_of(api, office, "ann")
    task = await office.open("ann")
    for to in ("no such role", {"type": "user", "id": "x"}):
        answer = await ann.post(f"/tasks/{task.id}/delegate", json={"to": to})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_assignee")
    assert (await ann.post(f"/tasks/{task.id}/delegate", json={"to": {"type": "user"}})).status_code == 422
    assert (await ann.post(f"/tasks/{task.id}/delegate", json={})).status_code == 422


async def test_notifications_are_the_own_users(api: Api, office: Office) -> None:
    ann, carl = await client_of(api, office, "ann"), await client_of(api, office, "carl")
    for _ in range(3):
        task = await office.open("approvers")
    answer = await ann.get("/notifications?limit=2")
    Many[Notification].model_validate_json(answer.text)
    first = answer.json()["data"][0]
    assert first["metadata"] == {
        "kind": "task_assigned", "task_id": str(task.id), "execution_id": str(task.execution_id),
    }  # fmt: skip
    rest = await ann.get(f"/notifications?limit=2&cursor={answer.json()['next_cursor']}")
    assert len(rest.json()["data"]) == 1
    assert (await carl.get("/notifications")).json()["data"] == []
    assert (await carl.post(f"/notifications/{first['id']}/read")).status_code == 404
    read = await ann.post(f"/notifications/{first['id']}/read")
    One[Notification].model_validate_json(read.text)
    assert read.json()["data"]["is_read"] is True
    again = await ann.post(f"/notifications/{first['id']}/read")
    assert json.loads(again.text) == json.loads(read.text)
    assert len((await ann.get("/notifications?unread=true")).json()["data"]) == 2
    assert len((await ann.get("/notifications?unread=false")).json()["data"]) == 1


async def test_permissions_are_asked_for(api: Api, office: Office) -> None:
    await office.user("eve", "viewer")
    eve = await client_of(api, office, "eve")
    task = await office.open("eve")
    assert (await eve.get("/tasks?assignee=me")).status_code == 200
    answer = await eve.post(f"/tasks/{task.id}/approve")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
