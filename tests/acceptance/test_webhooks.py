"""Webhooks: what is answered, what is stored, what a run gets, and what is never done twice."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import uuid
from typing import Any

import asyncpg
import httpx2
import pytest

from .harness import Api, Dev, fresh, node, until
from .postgres import dsn_of_dev
from .test_api import problem

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


def hook(path: str | None = None, **config: Any) -> dict[str, Any]:
    return {
        "nodes": [
            node("hook", "webhook_trigger", {**({"path": path} if path else {}), **config}),
            node("f", "formula", {"expression": "trigger.body"}),
        ],
        "edges": [{"source": "hook", "target": "f"}],
    }


def post(dev: Dev, path: str, body: Any = None, **more: Any) -> httpx2.Response:
    return httpx2.post(f"{dev.url}/webhooks/{path}", json=body, timeout=20, **more)


def test_accepted_and_what_the_run_gets(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    workflow = api.publish(hook(path))
    answer = post(dev, path + "?a=1&b=x%20y&a=2", {"n": 1}, headers={"X-Thing": "t"})
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"execution_id", "event_id", "status"}
    execution = api.ended(body["execution_id"])
    assert execution["workflow_id"] == workflow["id"]
    assert (execution["trigger_type"], execution["status"], execution["output_data"]) == (
        "webhook",
        "completed",
        {"f": {"n": 1}},
    )
    data = execution["trigger_data"]
    assert (
        {"method", "path", "headers", "query", "body"}
        <= set(data)
        <= {"method", "path", "headers", "query", "body", "raw"}
    )
    assert (data["method"], data["body"], data["query"]) == ("POST", {"n": 1}, {"a": "1", "b": "x y"})
    assert data["path"].endswith(path)
    assert data["headers"]["x-thing"] == "t"


def test_the_event_is_a_row(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    api.publish(hook(path))
    body = post(dev, path, {"n": 1}).json()

    async def read() -> Any:
        connection = await asyncpg.connect(dsn_of_dev(dev.folder, user="postgres"))
        try:
            return await connection.fetchrow("SELECT * FROM webhook_events WHERE id = $1", uuid.UUID(body["event_id"]))
        finally:
            await connection.close()

    row = asyncio.run(read())
    assert str(row["execution_id"]) == body["execution_id"]
    assert (row["request_method"], json.loads(row["request_body"])) == ("POST", {"n": 1})


@pytest.mark.parametrize("header", ["webhook-id", "X-GitHub-Delivery"])
def test_a_delivery_is_accepted_once(dev: Dev, api: Api, header: str) -> None:
    path, delivery = fresh("hook"), str(uuid.uuid4())
    workflow = api.publish(hook(path))
    first = post(dev, path, {"n": 1}, headers={header: delivery})
    again = post(dev, path, {"n": 1}, headers={header: delivery})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["status"] == "duplicate"
    for name in ("execution_id", "event_id"):
        assert again.json()[name] == first.json()[name]
    assert post(dev, path, {"n": 1}, headers={header: str(uuid.uuid4())}).status_code == 202
    assert len(api.data("GET", "/executions", params={"workflow_id": workflow["id"]})) == 2


def test_the_same_delivery_at_the_same_time_is_one_run(dev: Dev, api: Api) -> None:
    path, delivery = fresh("hook"), str(uuid.uuid4())
    workflow = api.publish(hook(path))
    answers: list[httpx2.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(dev, path, 1, headers={"webhook-id": delivery})))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json()["execution_id"] for answer in answers}) == 1
    assert len(api.data("GET", "/executions", params={"workflow_id": workflow["id"]})) == 1


def test_what_is_not_there(dev: Dev, api: Api) -> None:
    problem(post(dev, fresh("unknown"), {}), 404)
    path = fresh("hook")
    workflow = api.create(hook(path))
    problem(post(dev, path, {}), 404)
    api.data("POST", f"/workflows/{workflow['id']}/publish")
    assert post(dev, path, {}).status_code == 202
    api.data("DELETE", f"/workflows/{workflow['id']}")
    until(lambda: post(dev, path, {}).status_code == 404, timeout=5)


def test_a_path_that_was_asked_for_before_works_at_once_when_published(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    problem(post(dev, path, {}), 404)
    api.publish(hook(path))
    assert post(dev, path, {}).status_code == 202


def test_a_taken_path_is_a_conflict_that_names_nobody(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    owner = api.publish(hook(path))
    other = api.create(hook(f"/webhooks/{path}"))
    document = problem(api("POST", f"/workflows/{other['id']}/publish"), 409)
    assert owner["id"] not in json.dumps(document)
    assert owner["name"] not in document["detail"]


def test_methods(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    api.publish(hook(path, method="PUT"))
    answer = post(dev, path, {})
    problem(answer, 405)
    assert "PUT" in answer.headers["allow"]
    assert httpx2.put(f"{dev.url}/webhooks/{path}", json={}).status_code == 202


def test_a_random_path_and_the_address_by_ids(dev: Dev, api: Api) -> None:
    workflow = api.publish(hook())
    (webhook,) = workflow["webhooks"]
    assert len(webhook["path"]) >= 16
    assert post(dev, webhook["path"], {}).status_code == 202
    assert post(dev, f"{workflow['id']}/{webhook['id']}", {}).status_code == 202
    problem(post(dev, f"{workflow['id']}/{uuid.uuid4()}", {}), 404)


@pytest.mark.parametrize(
    ("content_type", "raw", "body"),
    [
        ("application/json", b'{"a": [1.5, null]}', {"a": [1.5, None]}),
        ("application/x-www-form-urlencoded", b"a=1&b=x+y", {"a": "1", "b": "x y"}),
        ("text/plain", "grüß".encode(), "grüß"),
        (None, b"", None),
    ],
)  # fmt: skip
def test_bodies(dev: Dev, api: Api, content_type: str | None, raw: bytes, body: Any) -> None:
    path = fresh("hook")
    api.publish(hook(path))
    headers = {"Content-Type": content_type} if content_type else {}
    answer = httpx2.post(f"{dev.url}/webhooks/{path}", content=raw, headers=headers)
    assert answer.status_code == 202
    assert api.ended(answer.json()["execution_id"])["trigger_data"]["body"] == body


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"a": "\\u0000"}', 400), (b'"\\ud800"', 400), (b"NaN", 400), (b"1" * 5000, 400), (b"[" * 200_000, 400),
        (b"{", 400), (b'"' + b"x" * 1_048_577 + b'"', 413),
    ],
    ids=["nul", "surrogate", "nan", "digits", "brackets", "cut", "megabyte"],
)  # fmt: skip
def test_bodies_that_mean_harm(dev: Dev, api: Api, raw: bytes, status: int) -> None:
    path = fresh("hook")
    api.publish(hook(path))
    headers = {"Content-Type": "application/json"}
    problem(httpx2.post(f"{dev.url}/webhooks/{path}", content=raw, headers=headers), status)
    assert post(dev, path, {}).status_code == 202


def test_a_webhook_that_asks_for_a_proof_is_not_open(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    workflow = api.publish(hook(path, auth_type="basic"))
    assert post(dev, path, {}).status_code == 401
    made = api.data("POST", f"/webhooks/{workflow['webhooks'][0]['id']}/rotate-secret")
    name, _, password = made["secret"].partition(":")

    def event_of_one_that_is_let_in() -> str | None:
        """What a process remembers of a webhook is a second old at most."""
        answer = httpx2.post(f"{dev.url}/webhooks/{path}", json={}, auth=(name, password))
        assert answer.status_code in (202, 401)
        return str(answer.json()["event_id"]) if answer.status_code == 202 else None

    event = until(event_of_one_that_is_let_in)
    replayed = api.data("POST", f"/webhooks/events/{event}/replay")
    assert api.ended(replayed["execution_id"])["trigger_type"] == "webhook_replay"


def test_an_address_follows_its_workflow_at_once(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    first = api.publish(hook(path))
    assert post(dev, path, {}).status_code == 202
    api.data("DELETE", f"/workflows/{first['id']}")
    second = api.publish(hook(path))
    execution = api.ended(post(dev, path, {}).json()["execution_id"])
    assert execution["workflow_id"] == second["id"]
    api.data("PUT", f"/workflows/{second['id']}", {"name": second["name"], "definition": hook(path, method="PUT")})
    api.data("POST", f"/workflows/{second['id']}/publish")
    assert httpx2.put(f"{dev.url}/webhooks/{path}", json={}).status_code == 202


def test_management_is_not_on_the_public_port(dev: Dev) -> None:
    for path in ("/metrics", "/livez", "/readyz", "/startupz"):
        assert httpx2.get(dev.url + path).status_code == 404
        assert httpx2.get(dev.management + path).status_code == 200


def test_metrics_have_the_names_of_the_contract(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    api.publish(hook(path))
    api.ended(post(dev, path, {}).json()["execution_id"])
    text = httpx2.get(dev.management + "/metrics").text
    described = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    for name, kind in {
        "executions_started_total": "counter", "executions_finished_total": "counter",
        "execution_duration_seconds": "histogram", "execution_queue_seconds": "histogram",
        "executions_in_flight": "gauge", "steps_finished_total": "counter", "step_duration_seconds": "histogram",
        "step_retries_total": "counter", "queue_depth": "gauge", "queue_oldest_age_seconds": "gauge",
        "claim_batch_size": "histogram", "claim_seconds": "histogram", "journal_flush_seconds": "histogram",
        "journal_flush_rows": "histogram", "leases_lost_total": "counter", "executions_rescued_total": "counter",
        "executions_quarantined_total": "counter", "webhook_requests_total": "counter",
        "webhook_accept_seconds": "histogram", "timers_due": "gauge", "notify_received_total": "counter",
        "outbound_requests_total": "counter", "db_pool_connections": "gauge", "db_errors_total": "counter",
        "worker_info": "gauge",
    }.items():  # fmt: skip
        assert described.get(f"gorax_{name}") == kind, name
    for sample in (
        'gorax_executions_started_total{trigger_type="webhook"}', 'gorax_executions_finished_total{status="completed"}',
        'gorax_steps_finished_total{node_type="formula",status="completed"}',
        'gorax_webhook_requests_total{result="accepted"}',
        'gorax_queue_depth{state="ready"}',
    ):  # fmt: skip
        assert sample in text


def test_fifty_deliveries_of_one_id_are_one_run_and_fifty_sane_answers(dev: Dev, api: Api) -> None:
    path, body = fresh("hook"), b'{"n": 1}'
    api.publish(
        hook(
            path, auth_type="secret", secret="the secret of fifty",
            filters=[{"field_path": "$.n", "operator": "gte", "value": 1}],
        )
    )  # fmt: skip
    signature = hmac.new(b"the secret of fifty", body, hashlib.sha256).hexdigest()
    headers = {"webhook-id": fresh("d"), "X-Webhook-Signature": signature}

    async def all_at_once() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=50), timeout=30) as client:
            url = f"{dev.url}/webhooks/{path}"
            return await asyncio.gather(*(client.post(url, content=body, headers=headers) for _ in range(50)))

    answers = asyncio.run(all_at_once())
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    assert {answer.json()["status"] for answer in answers if answer.status_code == 200} == {"duplicate"}
    ids = {(answer.json()["execution_id"], answer.json()["event_id"]) for answer in answers}
    assert len(ids) == 1
    assert api.ended(next(iter(ids))[0])["status"] == "completed"


def test_the_result_of_the_run_is_the_answer(dev: Dev, api: Api) -> None:
    path = fresh("hook")
    api.publish(hook(path, response_mode="result"))
    answer = post(dev, path, {"n": 2})
    assert (answer.status_code, answer.json()) == (200, {"f": {"n": 2}})
    assert api.execution(answer.headers["x-gorax-execution-id"])["status"] == "completed"
