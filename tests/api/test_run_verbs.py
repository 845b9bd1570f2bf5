"""What is done with runs over HTTP: what the engine is asked, what it answers, what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from gorax_engine.api import run_schemas, schemas
from gorax_engine.engine.retrying import Again
from gorax_engine.errors import Conflict, InvalidInput, NotFound, Problem, Unavailable
from tests.api.conftest import Api, TenantHandle
from tests.api.test_executions import run

pytestmark = pytest.mark.anyio

VERBS = {
    "cancel": ("execution:cancel", None),
    "pause": ("execution:pause", None),
    "resume": ("execution:resume", None),
    "signal": ("execution:signal", {"name": "paid"}),
    "retry": ("execution:retry", None),
    "replay": ("execution:retry", {}),
}


async def post(tenant: TenantHandle, path: str, body: Any = None, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await tenant.client.post(f"/executions/{path}", json=body, headers=sent) if body is not None else (
        await tenant.client.post(f"/executions/{path}", headers=sent)
    )  # fmt: skip


async def test_cancel_asks_the_engine(api: Api, acme: TenantHandle) -> None:
    execution = uuid.uuid4()
    answer = await post(acme, f"{execution}/cancel", X_Request_Id="r1")
    assert answer.json()["data"] == {"execution_id": str(execution), "status": "running"}
    schemas.One[run_schemas.RunState].model_validate(answer.json())
    assert (await post(acme, f"{execution}/cancel?force=true")).json()["data"]["status"] == "cancelled"
    first, second = api.verbs.cancelled
    assert (*first[:2], first[3], second[3]) == (acme.id, execution, False, True)
    assert "r1" in first[2]
    assert "(forced)" in second[2]


async def test_pause_resume_and_signal(api: Api, acme: TenantHandle) -> None:
    execution = uuid.uuid4()
    paused = await post(acme, f"{execution}/pause")
    resumed = await post(acme, f"{execution}/resume")
    for answer, expected in ((paused, True), (resumed, False)):
        schemas.One[run_schemas.Paused].model_validate(answer.json())
        assert answer.json()["data"] == {"execution_id": str(execution), "paused": expected}
    told = await post(acme, f"{execution}/signal", {"name": "paid", "payload": {"by": "card"}})
    schemas.One[run_schemas.Signalled].model_validate(told.json())
    assert told.json()["data"] == {"execution_id": str(execution), "delivered": 2}
    await post(acme, f"{execution}/signal", {"name": "paid"})
    assert api.verbs.asked == [
        ("pause", acme.id, execution), ("resume", acme.id, execution),
        ("signal", acme.id, execution, "paid", {"by": "card"}), ("signal", acme.id, execution, "paid", None),
    ]  # fmt: skip


async def test_a_signal_is_given_once_under_its_key(api: Api, acme: TenantHandle) -> None:
    execution = uuid.uuid4()
    answers = [await post(acme, f"{execution}/signal", {"name": "paid"}, Idempotency_Key="k") for _ in range(2)]
    assert len(api.verbs.asked) == 1
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert (await post(acme, f"{execution}/signal", {"name": "other"}, Idempotency_Key="k")).status_code == 422


@pytest.mark.parametrize("verb", ["retry", "replay"])
async def test_retry_and_replay(api: Api, acme: TenantHandle, verb: str) -> None:
    execution = uuid.uuid4()
    plain = await post(acme, f"{execution}/{verb}")
    assert plain.status_code == 202
    schemas.One[run_schemas.NewRun].model_validate(plain.json())
    assert plain.json()["data"]["retry_of"] == str(execution)
    await post(acme, f"{execution}/{verb}", {"version": "current", "input": None, "from_step": "charge"})
    (name, tenant, asked, first), (*_, second) = api.verbs.asked
    assert (name, tenant, asked) == (verb, acme.id, execution)
    assert first == Again(started_by=acme.user_id)
    assert second == Again("current", True, None, "charge", acme.user_id)


@pytest.mark.parametrize("verb", ["retry", "replay"])
async def test_a_key_starts_once_and_knows_what_it_stands_for(api: Api, acme: TenantHandle, verb: str) -> None:
    execution = uuid.uuid4()
    for path, body in [
        (f"{execution}/{verb}", None), (f"{execution}/{verb}", {}), (f"{execution}/{verb}", {"input": None}),
        (f"{execution}/{verb}", {"from_step": "a"}), (f"{uuid.uuid4()}/{verb}", None),
    ]:  # fmt: skip
        assert (await post(acme, path, body, Idempotency_Key="k")).status_code == 202
    keys = [again.start_key for *_, again in api.verbs.asked]
    assert {(key.kind, key.key) for key in keys} == {("idempotency", "k")}
    hashes = [key.body_hash for key in keys]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
    assert (await post(acme, f"{execution}/{verb}", None, Idempotency_Key="a b")).status_code == 422


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (NotFound("None.", code="execution_not_found"), 404),
        (Conflict("Over.", code="already_ended"), 409),
        (InvalidInput("No.", code="unknown_step", problems=[Problem("unknown_step", "/from_step", "No.")]), 422),
        (Unavailable("Away."), 503),
    ],
)
async def test_refusals(api: Api, acme: TenantHandle, verb: str, refusal: Any, status: int) -> None:
    api.verbs.fails = refusal
    answer = await post(acme, f"{uuid.uuid4()}/{verb}", VERBS[verb][1])
    assert (answer.status_code, answer.json()["code"]) == (status, refusal.code)


@pytest.mark.parametrize("verb", VERBS)
async def test_each_verb_has_its_permission(api: Api, acme: TenantHandle, verb: str) -> None:
    permission, body = VERBS[verb]
    await api.owner.execute(
        "DELETE FROM role_permissions WHERE tenant_id = $1 AND permission_id = "
        "(SELECT id FROM permissions WHERE resource || ':' || action = $2)", acme.id, permission,
    )  # fmt: skip
    answer = await post(acme, f"{uuid.uuid4()}/{verb}", body)
    assert answer.status_code == 403
    assert permission in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("signal", {}), ("signal", {"name": ""}), ("signal", {"name": "a", "key": 1}), ("retry", {"version": 2}),
        ("retry", {"from_step": ""}), ("replay", {"inputs": 1}), ("cancel?force=maybe", None), ("pause?x=1", None),
    ],
)  # fmt: skip
async def test_wrong_requests(api: Api, acme: TenantHandle, path: str, body: Any) -> None:
    assert (await post(acme, f"{uuid.uuid4()}/{path}", body)).status_code == 422
    assert api.verbs.asked == api.verbs.cancelled == []


async def test_bulk_cancel_by_id(api: Api, acme: TenantHandle) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    api.verbs.refused[second] = Conflict("It has ended.", code="already_ended")
    answer = await post(acme, "bulk/cancel", {"ids": [str(first), str(second), str(first)], "force": True})
    assert answer.status_code == 200, answer.text
    schemas.One[run_schemas.BulkResult].model_validate(answer.json())
    nothing = {"new_execution_id": None}
    assert answer.json()["data"] == {
        "results": [
            {"execution_id": str(first), "status": "cancelled", "code": None, "detail": None, **nothing},
            {
                "execution_id": str(second), "status": None, "code": "already_ended", "detail": "It has ended.",
                **nothing,
            },
        ],
        "succeeded": 1,
        "failed": 1,
        "more": False,
    }  # fmt: skip
    assert [asked[3] for asked in api.verbs.cancelled] == [True]


async def test_bulk_by_filter(api: Api, acme: TenantHandle, rival: TenantHandle) -> None:
    workflow = uuid.uuid4()
    live = [await run(api, acme, workflow_id=workflow, status=status) for status in ("pending", "running", "running")]
    failed = [await run(api, acme, workflow_id=workflow, status="failed") for _ in range(2)]
    cancelled = await run(api, acme, workflow_id=workflow, status="cancelled")
    await run(api, acme, status="failed")
    await run(api, rival, workflow_id=workflow, status="failed")
    wanted = {"filter": {"workflow_id": str(workflow)}}
    answer = await post(acme, "bulk/cancel", wanted)
    assert {item["execution_id"] for item in answer.json()["data"]["results"]} == {str(each) for each in live}
    answer = await post(acme, "bulk/retry", {**wanted, "version": "current"})
    data = answer.json()["data"]
    schemas.One[run_schemas.BulkResult].model_validate(answer.json())
    assert {item["execution_id"] for item in data["results"]} == {str(each) for each in failed}
    assert all(item["new_execution_id"] and item["status"] == "pending" for item in data["results"])
    assert not data["more"]
    one = (await post(acme, "bulk/retry", {**wanted, "limit": 1})).json()["data"]
    assert ([item["execution_id"] for item in one["results"]], one["more"]) == ([str(failed[1])], True)
    chosen = {"filter": {"workflow_id": str(workflow), "status": "cancelled"}}
    answer = await post(acme, "bulk/retry", chosen)
    assert [item["execution_id"] for item in answer.json()["data"]["results"]] == [str(cancelled)]


async def test_bulk_retry_under_a_key_has_one_key_for_each(api: Api, acme: TenantHandle) -> None:
    ids = [str(uuid.uuid4()) for _ in range(2)]
    for _ in range(2):
        await post(acme, "bulk/retry", {"ids": ids}, Idempotency_Key="k")
    keys = [(again.start_key.key, again.start_key.body_hash) for *_, again in api.verbs.asked]
    assert keys[:2] == keys[2:]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    "body",
    [
        {}, {"ids": []}, {"ids": ["x"]}, {"ids": [str(uuid.uuid4())], "filter": {}},
        {"ids": [str(uuid.uuid4()) for _ in range(101)]}, {"filter": {}, "limit": 101}, {"filter": {"name": "x"}},
        {"filter": {"status": "failed"}}, {"filter": {"status": "completed"}},
    ],
)  # fmt: skip
async def test_wrong_bulk_requests(api: Api, acme: TenantHandle, body: Any) -> None:
    assert (await post(acme, "bulk/cancel", body)).status_code == 422
    assert api.verbs.cancelled == []


async def test_bulk_stops_when_the_database_is_away(api: Api, acme: TenantHandle) -> None:
    api.verbs.fails = Unavailable("Away.")
    assert (await post(acme, "bulk/cancel", {"ids": [str(uuid.uuid4())]})).status_code == 503
