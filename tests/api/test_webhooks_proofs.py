"""Who may start runs by a webhook: proofs, addresses, limits and filters on the wire, and what is written down."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

import httpx2
import pytest
import structlog.testing

from gorax_engine.errors import NotFound, TooManyRequests, Unavailable
from gorax_engine.triggers import deliveries
from gorax_engine.vault.local_key import LocalKey
from gorax_engine.vault.sealed_text import SealedTexts
from tests.api.conftest import Api, TenantHandle, make
from tests.triggers.deliveries import Delivery, load, load_all

pytestmark = pytest.mark.anyio

SECRET = "s3cret-of-orders"


@pytest.fixture
async def hook(api: Api, acme: TenantHandle) -> Any:
    """The webhook `orders` of a published workflow."""
    workflow = await make(acme)
    published = (await acme.client.post(f"/workflows/{workflow['id']}/publish")).json()["data"]
    return {**published["webhooks"][0], "workflow_id": workflow["id"]}


async def change(api: Api, tenant: TenantHandle, *secrets: str, **columns: Any) -> None:
    """Change the webhook; the secrets are sealed, the second one is the one before."""
    sealed = [await SealedTexts(LocalKey(bytes(32))).seal(tenant.id, secret) for secret in secrets]
    columns = {**dict(zip(("secret", "previous_secret"), sealed, strict=False)), **columns}
    names = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 1))
    await api.owner.execute(f"UPDATE webhooks SET {names}", *columns.values())


def outside(api: Api, address: str = "203.0.113.9") -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=api.app, client=(address, 5))
    return httpx2.AsyncClient(transport=transport, base_url="http://gorax/webhooks")


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Webhook-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


async def send(api: Api, delivery: Delivery, address: str = "/orders") -> httpx2.Response:
    async with outside(api) as client:
        return await client.request(delivery.method, address, content=delivery.body, headers=dict(delivery.headers))


@pytest.mark.parametrize("delivery", load_all(), ids=lambda delivery: delivery.name)
async def test_published_deliveries(
    api: Api, acme: TenantHandle, hook: Any, delivery: Delivery, monkeypatch: Any
) -> None:
    monkeypatch.setattr(time, "time", lambda: float(delivery.at))
    await change(api, acme, delivery.secret, auth_type="secret", signature_scheme=delivery.scheme)
    answer = await send(api, delivery)
    assert answer.status_code == 202, answer.text
    [start] = api.verbs.requests
    assert start.delivery is not None
    assert start.delivery.raw_body == delivery.body
    assert delivery.secret not in str(start)
    await change(api, acme, "whsec_" + base64.b64encode(b"another secret, 24 bytes").decode())
    await api.owner.execute("UPDATE webhooks SET path = 'moved'")  # what was remembered of the old path is not asked
    refused = await send(api, delivery, "/moved")
    assert (refused.status_code, refused.json()["code"]) == (401, "webhook_unauthenticated")
    assert len(api.verbs.requests) == 1
    assert api.verbs.recorded == []  # a stranger leaves no trace in the log of events


async def test_stripe_and_slack_deliveries_are_known_by_the_id_in_their_body(
    api: Api, acme: TenantHandle, hook: Any, monkeypatch: Any
) -> None:
    for name, pointer in (("stripe_event", "id"), ("slack_event", "event_id")):
        delivery = load(name)
        monkeypatch.setattr(time, "time", lambda at=delivery.at: float(at))
        await change(api, acme, delivery.secret, auth_type="secret", signature_scheme=delivery.scheme, path=name)
        assert (await send(api, delivery, f"/{name}")).status_code == 202
        key = api.verbs.requests[-1].start_key
        assert key is not None
        assert key.key == f"{hook['id']}:{json.loads(delivery.body)[pointer]}"


@pytest.mark.parametrize(
    ("columns", "headers", "key"),
    [
        ({"dedupe_header": "X-Event"}, {"X-Event": "e1", "webhook-id": "w1"}, "e1"),
        ({"dedupe_header": "X-Event"}, {"webhook-id": "w1"}, None),
        ({"dedupe_header": "X-Session-Id"}, {"X-Session-Id": "s1"}, hashlib.sha256(b"s1").hexdigest()),
        ({"dedupe_path": "$.order.id"}, {"webhook-id": "w1"}, "7"),
        ({"dedupe_path": "$.nothing"}, {}, None),
        ({"dedupe_header": None}, {"webhook-id": ""}, None),
    ],
)
async def test_what_a_delivery_is_known_by(
    api: Api, acme: TenantHandle, hook: Any, columns: dict[str, str], headers: dict[str, str], key: str | None
) -> None:
    await change(api, acme, **columns)
    async with outside(api) as client:
        assert (await client.post("/orders", json={"order": {"id": 7}}, headers=headers)).status_code == 202
    found = api.verbs.requests[0].start_key
    assert (found.key if found else None) == (f"{hook['id']}:{key}" if key else None)


async def test_during_a_rotation_both_secrets_count(api: Api, acme: TenantHandle, hook: Any) -> None:
    await change(api, acme, "new", "old", auth_type="secret")
    body = b"{}"
    async with outside(api) as client:
        await api.owner.execute("UPDATE webhooks SET previous_secret_until = now() + interval '1 hour'")
        for secret, status in (("new", 202), ("old", 202), ("older", 401)):
            assert (await client.post("/orders", content=body, headers=signed(body, secret))).status_code == status
        await api.owner.execute("UPDATE webhooks SET previous_secret_until = now(), path = 'later'")
        for secret, status in (("new", 202), ("old", 401)):
            assert (await client.post("/later", content=body, headers=signed(body, secret))).status_code == status


async def test_basic_and_bearer(api: Api, acme: TenantHandle, hook: Any) -> None:
    await change(api, acme, "ada:pa:ss", auth_type="basic")
    async with outside(api) as client:
        assert (await client.post("/orders", json=1, auth=("ada", "pa:ss"))).status_code == 202
        assert (await client.post("/orders", json=1, auth=("ada", "no"))).status_code == 401
        await change(api, acme, "tok", auth_type="bearer", path="b")
        assert (await client.post("/b", json=1, headers={"Authorization": "Bearer tok"})).status_code == 202
        assert (await client.post("/b", json=1, headers={"X-API-Key": "tok"})).status_code == 202
        assert (await client.post("/b", json=1)).status_code == 401


async def test_no_secret_yet_or_one_that_can_not_be_opened_lets_nobody_in(
    api: Api, acme: TenantHandle, rival: TenantHandle, hook: Any
) -> None:
    await change(api, acme, auth_type="secret")
    async with outside(api) as client:
        assert (await client.post("/orders", content=b"", headers=signed(b"", ""))).status_code == 401
        await change(api, rival, SECRET, path="theirs")  # sealed for another tenant
        assert (await client.post("/theirs", content=b"", headers=signed(b""))).status_code == 401


async def test_what_is_proven_and_can_not_be_read_is_written_down(api: Api, acme: TenantHandle, hook: Any) -> None:
    await change(api, acme, SECRET, auth_type="secret")
    async with outside(api) as client:
        for body, query, headers in (
            (b"{", "", {}),
            (b'"\\u0000"', "", {}),
            (b"{}", "?a=%00", {}),
            (b"a=%ff", "", {"Content-Type": "application/x-www-form-urlencoded"}),
            (b"{}", "", {"Content-Encoding": "gzip"}),
        ):
            answer = await client.post(f"/orders{query}", content=body, headers={**signed(body), **headers})
            status = 415 if "Content-Encoding" in headers else 400
            assert answer.status_code == status, answer.text
            delivery = api.verbs.recorded[-1].delivery
            assert delivery is not None
            assert delivery.refusal is not None
            assert (delivery.refusal.status, delivery.refusal.response) == ("failed", status)
            assert delivery.refusal.reason.startswith(("malformed_input: ", "unsupported_media_type: "))
            assert (delivery.raw_body, delivery.address) == (body, "203.0.113.9")
    assert (len(api.verbs.recorded), api.verbs.requests) == (5, [])


@pytest.mark.parametrize(
    "stop", ["UPDATE webhooks SET enabled = false", "UPDATE tenants SET status = 'suspended'",
             "UPDATE workflows SET status = 'archived'", "UPDATE workflows SET status = 'inactive'"],
)  # fmt: skip
async def test_what_is_switched_off_is_not_there_and_only_the_proven_leave_a_row(
    api: Api, acme: TenantHandle, hook: Any, stop: str
) -> None:
    await change(api, acme, SECRET, auth_type="secret")
    await api.owner.execute(stop)
    async with outside(api) as client:
        unknown = await client.post("/nothing", headers={"X-Request-Id": "r"})
        for method, headers in (("POST", {}), ("GET", {}), ("POST", signed(b"other"))):
            answer = await client.request(method, "/orders", content=b"", headers={**headers, "X-Request-Id": "r"})
            assert (answer.status_code, answer.json()) == (404, unknown.json())
        assert api.verbs.recorded == []
        answer = await client.post("/orders", content=b"", headers={**signed(b""), "X-Request-Id": "r"})
        assert (answer.status_code, answer.json()) == (404, unknown.json())
        [row] = api.verbs.recorded
        assert row.delivery is not None
        assert row.delivery.refusal is not None
        assert row.delivery.refusal.response == 404
        await api.owner.execute("UPDATE webhooks SET auth_type = 'none'")
        assert (await client.post("/orders", content=b"")).status_code == 404
    assert len(api.verbs.recorded) == 1


async def test_switched_off_it_has_neither_addresses_nor_sizes_nor_an_endless_log(
    api: Api, acme: TenantHandle, hook: Any
) -> None:
    await change(
        api, acme, SECRET, auth_type="secret", enabled=False, allowed_ips=["198.51.100.0/24"], max_body_bytes=10,
        rate_limit=1,
    )  # fmt: skip
    async with outside(api) as client:
        for body in (b"", b"x" * 11, b"x" * 200_000):
            assert (await client.post("/orders", content=body, headers=signed(body))).status_code == 404
        assert (await client.get("/orders?hub.mode=subscribe&hub.challenge=1&hub.verify_token=no")).status_code == 404
    assert api.verbs.recorded == []
    async with outside(api, "198.51.100.7") as client:
        for _ in range(3):
            assert (await client.post("/orders?a=1", content=b"", headers=signed(b""))).status_code == 404
    [row] = api.verbs.recorded  # the rate bounds the log, too
    assert row.delivery is not None
    assert row.delivery.query == {"a": "1"}


async def test_handshakes_know_addresses_and_limits(api: Api, acme: TenantHandle, hook: Any) -> None:
    await change(api, acme, SECRET, auth_type="secret", allowed_ips=["198.51.100.0/24"])
    hub = f"/orders?hub.mode=subscribe&hub.challenge=7&hub.verify_token={SECRET}"
    async with outside(api) as client:
        assert (await client.get(hub)).status_code == 403
    async with outside(api, "198.51.100.7") as client:
        codes = [(await client.get(hub)).status_code for _ in range(61)]
    assert codes == [200] * 60 + [429]


async def test_an_address_that_moved_is_judged_anew(api: Api, acme: TenantHandle, hook: Any) -> None:
    """What was remembered is gone, and what has the address now lets fewer in."""
    async with outside(api) as client:
        assert (await client.post("/orders", json=1)).status_code == 202
        await change(api, acme, allowed_ips=["198.51.100.0/24"])
        api.verbs.fails = NotFound("gone")
        assert (await client.post("/orders", json=1)).status_code == 403


async def test_allowed_addresses(api: Api, acme: TenantHandle, hook: Any) -> None:
    await change(api, acme, allowed_ips=["198.51.100.0/24", "2001:db8::/32"])
    via = {"X-Forwarded-For": "198.51.100.7"}
    for address, headers, status in (
        ("198.51.100.7", {}, 202),
        ("2001:db8::1", {}, 202),
        ("203.0.113.9", {}, 403),
        ("203.0.113.9", via, 403),
        ("10.9.1.1", via, 202),
        ("10.9.1.1", {}, 403),
    ):
        async with outside(api, address) as client:
            answer = await client.post("/orders", json=1, headers=headers)
        assert answer.status_code == status, (address, headers)
    assert api.verbs.recorded == []


async def test_limits(api: Api, acme: TenantHandle, hook: Any) -> None:
    await change(api, acme, rate_limit=2, max_body_bytes=10)
    async with outside(api) as client:
        assert (await client.post("/orders", content=b"x" * 11)).status_code == 413
        codes = [(await client.post("/orders", json=n)).status_code for n in range(3)]
        assert codes == [202, 202, 429]
        last = await client.post("/orders", json=1)
        assert (last.json()["code"], last.headers["retry-after"]) == ("rate_limited", "30")
        await api.owner.execute(
            "UPDATE tenants SET quotas = '{\"max_webhooks_per_minute\": 1}';"
            "UPDATE webhooks SET rate_limit = NULL, path = 'q'"
        )
        assert [(await client.post("/q", json=n)).status_code for n in range(2)] == [202, 429]
        await api.owner.execute("UPDATE tenants SET quotas = '{}'; UPDATE webhooks SET path = 'r'")
        api.limits.fails = TooManyRequests("full", code="queue_full", retry_after=5)
        full = await client.post("/r", json=1)
        assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (429, "queue_full", "5")
    assert api.verbs.recorded == []


async def test_filters(api: Api, acme: TenantHandle, hook: Any) -> None:
    await api.owner.execute(
        "INSERT INTO webhook_filters (tenant_id, webhook_id, field_path, operator, value, logic_group)"
        " VALUES ($1, $2, '$.status', 'equals', '\"paid\"', 0), ($1, $2, '$.status', 'equals', '\"sent\"', 0),"
        " ($1, $2, '$.total', 'gte', '100', 1), ($1, $2, 'headers.x-env', 'equals', '\"live\"', 2)",
        acme.id, uuid.UUID(hook["id"]),
    )  # fmt: skip
    async with outside(api) as client:
        live = {"X-Env": "live"}
        passed = await client.post("/orders", json={"status": "sent", "total": 100}, headers=live)
        assert passed.status_code == 202
        for body, headers in (
            ({"status": "new", "total": 100}, live),
            ({"status": "paid", "total": 99}, live),
            ({"status": "paid", "total": 100}, {}),
        ):
            answer = await client.post("/orders", json=body, headers={**headers, "webhook-id": "d1"})
            assert (answer.status_code, answer.json()["status"]) == (200, "filtered")
            assert answer.json()["reason"]
            assert uuid.UUID(answer.json()["event_id"]).version == 4
    assert len(api.verbs.requests) == 1
    for row in api.verbs.recorded:
        assert row.start_key is None  # what was filtered may come again and pass
        assert row.delivery is not None
        assert row.delivery.refusal is not None
        assert (row.delivery.refusal.status, row.delivery.refusal.response) == ("filtered", 200)


async def test_handshakes(api: Api, acme: TenantHandle, hook: Any) -> None:
    async with outside(api) as client:
        answer = await client.get("/orders?challenge=<b>x")
        assert (answer.status_code, answer.text, answer.headers["content-type"].partition(";")[0]) == (
            200, "<b>x", "text/plain",
        )  # fmt: skip
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await client.get("/orders")).status_code == 405
        assert (await client.get("/orders?challenge=" + "x" * 2000)).status_code == 400
        await change(api, acme, SECRET, auth_type="secret", path="meta")
        hub = "/meta?hub.mode=subscribe&hub.challenge=77&hub.verify_token="
        assert (await client.get(hub + SECRET)).text == "77"
        assert (await client.get(f"/meta?hub.challenge=78&hub.verify_token={SECRET}")).text == "78"
        assert (await client.get(hub + "wrong")).status_code == 401
        assert (await client.get(hub + "%C3%A9")).status_code == 401
        await change(api, acme, methods=["GET", "POST"], path="both")
        assert (await client.get(f"/both?hub.challenge=79&hub.verify_token={SECRET}")).text == "79"
        assert (await client.get("/both?challenge=80")).status_code == 401  # no handshake: it takes GETs
        await change(api, acme, SECRET, auth_type="secret", signature_scheme="slack", path="slack", methods=["POST"])
        body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1a", "token": "t"}).encode()
        stamp = str(int(time.time()))
        mac = hmac.new(SECRET.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}"}
        verified = await client.post("/slack", content=body, headers=headers)
        assert (verified.status_code, verified.json()) == (200, {"challenge": "3eZbrw1a"})
        assert (await client.post("/slack", content=body)).status_code == 401
    assert (api.verbs.requests, api.verbs.recorded) == ([], [])


async def test_the_result_is_the_answer_if_it_comes_in_time(api: Api, acme: TenantHandle, hook: Any) -> None:
    await change(api, acme, response_mode="result")
    async with outside(api) as client:
        assert (await client.post("/orders", json=1)).status_code == 202

        async def end(status: str, output: Any) -> httpx2.Response:
            async def write() -> None:
                assert api.verbs.last is not None
                await api.owner.execute(
                    "INSERT INTO executions (id, tenant_id, workflow_id, workflow_version, trigger_type, status,"
                    " output_data, error_code, error_message)"
                    " VALUES ($1, $2, $3, 1, 'webhook', $4, $5, 'boom', 'inside')",
                    api.verbs.last, acme.id, uuid.UUID(hook["workflow_id"]), status, json.dumps(output),
                )  # fmt: skip

            api.ends.ended, api.ends.on_wait = True, write
            return await client.post("/orders", json=1)

        done = await end("completed", {"sum": 2})
        assert (done.status_code, done.json()) == (200, {"sum": 2})
        assert done.headers["x-gorax-execution-id"] == str(api.verbs.last)
        api.ends.on_wait = _outage
        assert (await client.post("/orders", json=1)).status_code == 202  # it is committed, whatever can't be read now
        failed = await end("failed", None)
        assert (failed.status_code, failed.json()["status"], failed.json()["error_code"]) == (500, "failed", "boom")
        assert "inside" not in failed.text


async def _outage() -> None:
    raise Unavailable("The database is away.")


async def test_forms_come_with_what_they_were(api: Api, hook: Any) -> None:
    async with outside(api) as client:
        await client.post("/orders", data={"a": "x y"})
    data = api.verbs.requests[0].trigger_data
    assert (data["body"], data["raw"]) == ({"a": "x y"}, "a=x+y")
    assert deliveries.DEDUPE_FOR.days == 30


async def test_refusals_are_logged_and_do_not_fill_the_log(api: Api, acme: TenantHandle, hook: Any) -> None:
    await change(api, acme, SECRET, auth_type="secret")
    with structlog.testing.capture_logs() as lines:
        async with outside(api) as client:
            for _ in range(65):
                await client.post("/orders", content=b"", headers={"X-Webhook-Signature": "00", "X-Request-Id": "r"})
            await client.post("/nothing", content=b"")
    told = [line for line in lines if line["event"] == "webhook_refused"]
    assert [line["code"] for line in told] == ["webhook_unauthenticated"] * 60 + ["webhook_not_found"]
    assert (told[0]["path"], told[0]["request_id"]) == ("/webhooks/orders", "r")
