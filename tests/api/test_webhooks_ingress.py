"""The ingress on the wire: what is accepted, what is refused, and what a run gets to see."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import httpx2
import pytest

from gorax_engine.errors import Conflict, Forbidden, NotFound, Unavailable
from tests.api.conftest import MAX_BODY, Api, TenantHandle, definition, make

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hook(api: Api, acme: TenantHandle) -> Any:
    """The webhook `orders` of a published workflow."""
    workflow = await make(acme)
    published = (await acme.client.post(f"/workflows/{workflow['id']}/publish")).json()["data"]
    return {**published["webhooks"][0], "workflow_id": workflow["id"]}


def outside(api: Api) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=api.app), base_url="http://gorax/webhooks")


async def test_a_delivery_is_accepted(api: Api, acme: TenantHandle, hook: Any) -> None:
    async with outside(api) as client:
        answer = await client.post(
            "/orders?a=1&a=2&token=s3",
            json={"n": 1},
            headers={"X-Trace": "t", "Authorization": "Bearer s1", "Cookie": "s2"},
        )
    assert answer.status_code == 202
    assert set(answer.json()) == {"execution_id", "event_id", "status"}
    [request] = api.verbs.requests
    assert (request.tenant_id, str(request.workflow_id)) == (acme.id, hook["workflow_id"])
    assert (request.trigger_type, request.trigger_node, request.start_key) == ("webhook", "hook", None)
    data = request.trigger_data
    assert (data["method"], data["path"], data["body"]) == ("POST", "/webhooks/orders", {"n": 1})
    assert data["query"] == {"a": "1", "token": "s3"}
    assert data["headers"]["x-trace"] == "t"
    assert (data["headers"]["authorization"], data["headers"]["cookie"]) == ("[masked]", "[masked]")
    delivery = request.delivery
    assert delivery is not None
    assert str(delivery.webhook_id) == hook["id"]
    assert delivery.query["token"] == "[masked]"
    assert delivery.raw_body == b'{"n":1}'
    assert not any(secret in str(delivery.headers) for secret in ("s1", "s2"))


async def test_the_second_address(api: Api, hook: Any) -> None:
    async with outside(api) as client:
        assert (await client.post(f"/{hook['workflow_id']}/{hook['id']}", json=1)).status_code == 202
        assert (await client.post(f"/{uuid.uuid4()}/{hook['id']}", json=1)).status_code == 404


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b"", None),
        ("application/json; charset=utf-8", b"[1]", [1]),
        ("application/cloudevents+json", b'{"a":1}', {"a": 1}),
        (None, b'{"a":1}', {"a": 1}),
        ("application/x-www-form-urlencoded", b"a=1&b=x+y&a=%C3%A9&c", {"a": ["1", "é"], "b": "x y", "c": ""}),
        ("text/plain", "grüß".encode(), "grüß"),
        ("application/xml", b"<a/>", "<a/>"),
        ("text/plain", b"a\x00b", base64.b64encode(b"a\x00b").decode()),
        ("application/octet-stream", b"\xff\xfe", base64.b64encode(b"\xff\xfe").decode()),
    ],
)
async def test_bodies(api: Api, hook: Any, content_type: str | None, body: bytes, value: Any) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    async with outside(api) as client:
        answer = await client.post("/orders", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert api.verbs.requests[0].trigger_data["body"] == value


@pytest.mark.parametrize(
    ("method", "path", "content", "content_type", "status"),
    [
        ("POST", "/orders", b"{", "application/json", 400),
        ("POST", "/orders", b'"\\u0000"', "application/json", 400),
        ("POST", "/orders", b"[" * 50_000, "application/json", 400),
        ("POST", "/orders", b"9" * 5000, "application/json", 400),
        ("POST", "/orders", b"a=%00", "application/x-www-form-urlencoded", 400),
        ("POST", "/orders", b"a=%ff", "application/x-www-form-urlencoded", 400),
        ("POST", "/orders?a=%00", b"", "application/json", 400),
        ("POST", "/orders", b"x" * (MAX_BODY + 1), "text/plain", 413),
        ("GET", "/orders", b"", "application/json", 405),
        ("POST", "/nothing", b"", "application/json", 404),
        ("POST", "/%00", b"", "application/json", 404),
        ("POST", "/" + "x" * 300, b"", "application/json", 404),
    ],
)
async def test_refusals(
    api: Api, hook: Any, method: str, path: str, content: bytes, content_type: str, status: int
) -> None:
    async with outside(api) as client:
        answer = await client.request(method, path, content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert api.verbs.requests == []
    if status == 405:
        assert answer.headers["allow"] == "POST"


async def test_deliveries_are_known_by_their_id(api: Api, hook: Any) -> None:
    async with outside(api) as client:
        await client.post("/orders", json=1, headers={"webhook-id": "msg_1"})
        await client.post("/orders", json=1, headers={"X-GitHub-Delivery": "d" * 300})
        api.verbs.repeats = True
        answer = await client.post("/orders", json=1, headers={"webhook-id": "msg_1"})
    first, second, _ = (request.start_key for request in api.verbs.requests)
    assert first is not None
    assert second is not None
    assert (first.kind, first.key, first.ttl.days) == ("delivery", f"{hook['id']}:msg_1", 30)
    assert len(second.key) <= 512
    assert answer.status_code == 200
    assert answer.json()["status"] == "duplicate"


async def test_whatever_can_not_start_looks_like_nothing(api: Api, hook: Any) -> None:
    async with outside(api) as client:
        unknown = (await client.post("/nothing", headers={"X-Request-Id": "r"})).json()
        for error in (
            Conflict("x", code="workflow_inactive"), Forbidden("x", code="tenant_suspended"), NotFound("x"),
        ):  # fmt: skip
            api.verbs.fails = error
            answer = await client.post("/orders", json=1, headers={"X-Request-Id": "r"})
            assert (answer.status_code, answer.json()) == (404, unknown)
        api.verbs.fails = Unavailable("gone", retry_after=2)
        busy = await client.post("/orders", json=1)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")
        api.verbs.fails = RuntimeError("internals")  # type: ignore[assignment]
        bug = await client.post("/orders", json=1)
        assert bug.status_code == 500
        assert "internals" not in bug.text


@pytest.mark.parametrize("change", ["enabled = false", "auth_type = 'secret'"])
async def test_disabled_is_404_and_an_unknown_proof_is_401(api: Api, hook: Any, change: str) -> None:
    await api.owner.execute(f"UPDATE webhooks SET {change}")
    async with outside(api) as client:
        answer = await client.post("/orders", json=1)
    assert answer.status_code == (404 if "enabled" in change else 401)
    assert api.verbs.requests == []


async def test_an_archived_workflow_answers_404(api: Api, acme: TenantHandle, hook: Any) -> None:
    await acme.client.delete(f"/workflows/{hook['workflow_id']}")
    async with outside(api) as client:
        assert (await client.post("/orders", json=1)).status_code == 404
        assert (await client.post(f"/{hook['workflow_id']}/{hook['id']}", json=1)).status_code == 404


async def test_methods_of_the_node_are_obeyed(api: Api, acme: TenantHandle) -> None:
    nodes = definition()
    nodes["nodes"][0]["config"] = {"path": "any/thing", "methods": ["GET", "PUT"]}
    workflow = await make(acme, definition=nodes)
    await acme.client.post(f"/workflows/{workflow['id']}/publish")
    async with outside(api) as client:
        assert (await client.get("/any/thing")).status_code == 202
        assert (await client.put("/any/thing/", json=1)).status_code == 202
        assert (await client.post("/any/thing", json=1)).headers["allow"] == "GET, PUT"
