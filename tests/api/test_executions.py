"""Runs over HTTP: lists, steps, their tree, explain, the stream. Rows are written by hand, as by the engine."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import msgspec
import pytest

from gorax_engine.api import run_schemas, schemas, stream
from gorax_engine.core.model import StepKey
from gorax_engine.core.step_ids import step_id
from tests.api.conftest import Api, TenantHandle, make

pytestmark = pytest.mark.anyio


async def run(api: Api, tenant: TenantHandle, **columns: Any) -> uuid.UUID:
    """Insert a run and return its id."""
    values = {
        "tenant_id": tenant.id,
        "workflow_id": uuid.uuid4(),
        "workflow_version": 1,
        "trigger_type": "api",
        **columns,
    }
    marks = ", ".join(f"${i + 1}" for i in range(len(values)))
    query = f"INSERT INTO executions ({', '.join(values)}) VALUES ({marks}) RETURNING id"
    found: uuid.UUID = await api.owner.fetchval(query, *values.values())
    return found


async def queue(api: Api, tenant: TenantHandle, execution: uuid.UUID, **columns: Any) -> None:
    values = {"execution_id": execution, "tenant_id": tenant.id, "workflow_id": uuid.uuid4(), **columns}
    marks = ", ".join(f"${i + 1}" for i in range(len(values)))
    await api.owner.execute(f"INSERT INTO execution_queue ({', '.join(values)}) VALUES ({marks})", *values.values())


async def step(
    api: Api, tenant: TenantHandle, execution: uuid.UUID, node: str, attempt: int = 1, **columns: Any
) -> None:
    key = StepKey(node, columns.get("iteration_path", ""), columns.get("round", 0))
    values = {
        "id": uuid.UUID(step_id(execution.int, key, attempt)),
        "tenant_id": tenant.id,
        "execution_id": execution,
        "node_id": node,
        "node_type": "http_request",
        "retry_count": attempt - 1,
        "status": "completed",
        "started_at": datetime.now(UTC),
        **columns,
    }
    marks = ", ".join(f"${i + 1}" for i in range(len(values)))
    await api.owner.execute(f"INSERT INTO step_executions ({', '.join(values)}) VALUES ({marks})", *values.values())


async def worker(api: Api, *, age: float = 0.0) -> uuid.UUID:
    found: uuid.UUID = await api.owner.fetchval(
        "INSERT INTO workers (id, name, version, roles, slots, lease_ms, heartbeat_at) "
        "VALUES (gen_random_uuid(), 'w', '0', '{worker}', 10, 15000, clock_timestamp() - make_interval(secs => $1)) "
        "RETURNING id",
        age,
    )
    return found


async def explain(tenant: TenantHandle, execution: uuid.UUID) -> dict[str, Any]:
    answer = await tenant.client.get(f"/executions/{execution}/explain")
    assert answer.status_code == 200, answer.text
    schemas.One[schemas.ExplanationOut].model_validate(answer.json())
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_runs_are_filtered_and_paged(api: Api, acme: TenantHandle, rival: TenantHandle) -> None:
    now = datetime.now(UTC)
    workflow = uuid.uuid4()
    old = await run(api, acme, status="failed", error_message="50% of_it", created_at=now - timedelta(hours=2))
    mid = await run(api, acme, workflow_id=workflow, created_at=now - timedelta(hours=1))
    new = await run(api, acme, status="running", waiting_for="timer", trigger_type="webhook", created_at=now)
    await run(api, rival)

    async def ids(**params: Any) -> list[uuid.UUID]:
        answer = await acme.client.get("/executions", params=params)
        assert answer.status_code == 200, answer.text
        schemas.Many[schemas.ExecutionSummary].model_validate(answer.json())
        return [uuid.UUID(row["id"]) for row in answer.json()["data"]]

    assert await ids() == [new, mid, old]
    assert await ids(status="failed") == [old]
    assert await ids(workflow_id=str(workflow)) == [mid]
    assert await ids(trigger_type="webhook") == [new]
    assert await ids(waiting_for="timer") == [new]
    assert await ids(error_search="50%") == [old]
    assert await ids(error_search="0% OF_") == [old]
    assert await ids(error_search="%of-it") == []
    at = (now - timedelta(hours=1)).isoformat()
    assert await ids(start_date=at) == [new, mid]
    assert await ids(end_date=at) == [old]
    first = (await acme.client.get("/executions", params={"limit": 2})).json()
    assert await ids(limit=2, cursor=first["next_cursor"]) == [old]
    for bad in ({"start_date": "2026-01-01T00:00:00"}, {"workflow_id": "x"}, {"status": "parked"}):
        assert (await acme.client.get("/executions", params=bad)).status_code == 422


async def test_a_run_and_its_steps(api: Api, acme: TenantHandle, rival: TenantHandle) -> None:
    execution = await run(api, acme, trigger_data='{"body": 1}', output_data="[1]", status="completed")
    shown = (await acme.client.get(f"/executions/{execution}")).json()
    schemas.One[schemas.Execution].model_validate(shown)
    assert (shown["data"]["trigger_data"], shown["data"]["output_data"]) == ({"body": 1}, [1])
    await step(api, acme, execution, "a", 1, status="failed", error_code="timeout")
    await step(api, acme, execution, "a", 2, output_data='{"x": 1}')
    await step(api, acme, execution, "b", 1, round=0)
    await step(api, acme, execution, "b", 2, round=1)
    await step(api, acme, execution, "c", 1, status="skipped", started_at=None, completed_at=datetime.now(UTC))
    latest = (await acme.client.get(f"/executions/{execution}/steps")).json()
    schemas.Many[schemas.Step].model_validate(latest)
    assert [(s["node_id"], s["attempt"]) for s in latest["data"]] == [("a", 2), ("b", 1), ("b", 2), ("c", 1)]
    everything = (await acme.client.get(f"/executions/{execution}/steps", params={"attempts": "all"})).json()
    assert len(everything["data"]) == 5
    pages, cursor = [], None
    for _ in range(3):
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await acme.client.get(f"/executions/{execution}/steps", params=params)).json()
        pages += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == latest["data"]
    for path in ("", "/steps", "/tree", "/explain", "/stream"):
        assert (await rival.client.get(f"/executions/{execution}{path}")).status_code == 404
        assert (await acme.client.get(f"/executions/{uuid.uuid4()}{path}")).status_code == 404


async def tree(tenant: TenantHandle, execution: uuid.UUID, **params: Any) -> dict[str, Any]:
    answer = await tenant.client.get(f"/executions/{execution}/tree", params=params)
    assert answer.status_code == 200, answer.text
    schemas.One[run_schemas.RunTree].model_validate(answer.json())
    data: dict[str, Any] = answer.json()["data"]
    return data


def outline(steps: list[dict[str, Any]]) -> list[Any]:
    """The tree as (node, attempt) or (node, {path#round: [...]})."""
    return [
        (s["node_id"], {f"{b['path']}#{b['round']}": outline(b["steps"]) for b in s["bodies"]} or s["attempt"])
        for s in steps
    ]


NESTED = {
    "nodes": [
        {"id": "begin", "type": "manual_trigger"},
        {"id": "each", "type": "loop", "config": {"source": 2}},
        {"id": "guard", "type": "try", "config": {}},
        {"id": "fan", "type": "parallel", "config": {}},
        {"id": "left", "type": "formula", "config": {"expression": "1"}},
        {"id": "right", "type": "formula", "config": {"expression": "2"}},
        {"id": "mend", "type": "formula", "config": {"expression": "3"}},
        {"id": "last", "type": "formula", "config": {"expression": "4"}},
    ],
    "edges": [
        {"source": "begin", "target": "each"},
        {"source": "each", "target": "guard", "label": "body"},
        {"source": "guard", "target": "fan", "label": "try"},
        {"source": "guard", "target": "mend", "label": "catch"},
        {"source": "fan", "target": "left", "label": "l"},
        {"source": "fan", "target": "right", "label": "r"},
        {"source": "each", "target": "last", "label": "done"},
    ],
}


async def test_the_tree_nests_steps_in_their_scopes(api: Api, acme: TenantHandle) -> None:
    workflow = await make(acme, "nested", definition=NESTED)
    published = await acme.client.post(f"/workflows/{workflow['id']}/publish")
    assert published.status_code == 200, published.text
    execution = await run(api, acme, workflow_id=uuid.UUID(workflow["id"]))
    at = datetime.now(UTC)
    rows = [
        ("begin", "", {}), ("each", "", {}), ("guard", "each[0]", {}), ("fan", "each[0]", {}),
        ("left", "each[0].fan.l", {}), ("right", "each[0].fan.r", {}), ("mend", "each[0]", {}),
        ("guard", "each[1]", {}), ("fan", "each[1]", {}), ("left", "each[1].fan.l", {"round": 1}), ("last", "", {}),
    ]  # fmt: skip
    for place, (node, path, more) in enumerate(rows):
        began = at + timedelta(milliseconds=place)
        await step(api, acme, execution, node, iteration_path=path, started_at=began, **more)
    await step(api, acme, execution, "last", 2, started_at=at + timedelta(seconds=1))
    parent = uuid.UUID(step_id(execution.int, StepKey("last", "", 0), 2))
    child = await run(api, acme, parent_execution_id=execution, parent_step_id=parent)
    found = await tree(acme, execution)
    assert outline(found["steps"]) == [
        ("begin", 1),
        ("each", {
            "each[0]#0": [
                ("guard", {"each[0]#0": [
                    ("fan", {"each[0].fan.l#0": [("left", 1)], "each[0].fan.r#0": [("right", 1)]}), ("mend", 1),
                ]}),
            ],
            "each[1]#0": [("guard", {"each[1]#0": [("fan", {"each[1].fan.l#1": [("left", 1)]})]})],
        }),
        ("last", 2),
    ]  # fmt: skip
    assert [each["id"] for each in found["steps"][-1]["children"]] == [str(child)]
    assert not found["truncated"]
    short = await tree(acme, execution, limit=2)
    assert (outline(short["steps"]), short["truncated"]) == ([("begin", 1), ("each", 1)], True)


async def test_the_tree_of_a_version_that_can_not_be_read_is_flat(api: Api, acme: TenantHandle) -> None:
    execution = await run(api, acme)
    await step(api, acme, execution, "each")
    await step(api, acme, execution, "a", iteration_path="each[0]")
    assert outline((await tree(acme, execution))["steps"]) == [("each", 1), ("a", 1)]


async def test_a_retry_names_the_run_that_it_retries(api: Api, acme: TenantHandle) -> None:
    first = await run(api, acme, status="failed")
    second = await run(api, acme, retry_of=first, trigger_type="retry")
    shown = (await acme.client.get(f"/executions/{second}")).json()["data"]
    assert (shown["retry_of"], shown["trigger_type"]) == (str(first), "retry")
    assert (await acme.client.get("/executions")).json()["data"][0]["retry_of"] == str(first)


async def test_execute_waits_for_the_end(api: Api, acme: TenantHandle) -> None:
    execution = await run(api, acme, status="completed")
    api.ends.ended = True
    api.verbs.next = execution
    answer = await acme.client.post(f"/workflows/{execution}/execute?wait=5", json={"input": 1})
    assert answer.status_code == 200
    schemas.One[schemas.Execution].model_validate(answer.json())


@pytest.mark.parametrize("status", ["completed", "cancelled", "failed"])
async def test_explain_an_end(api: Api, acme: TenantHandle, status: str) -> None:
    execution = await run(api, acme, status=status, error_message="broken", completed_at=datetime.now(UTC))
    found = await explain(acme, execution)
    assert (found["state"], found["blocker"]) == (status, "none")
    assert found["since"]


async def test_explain_quarantine(api: Api, acme: TenantHandle) -> None:
    assert (await explain(acme, await run(api, acme, status="failed", error_code="worker_lost")))[
        "blocker"
    ] == "quarantined"
    await worker(api)
    suspect = await run(api, acme)
    await queue(api, acme, suspect, ready_at=datetime.now(UTC), crashes=2)
    assert (await explain(acme, suspect))["blocker"] == "quarantined"


async def test_explain_the_queue(api: Api, acme: TenantHandle, rival: TenantHandle) -> None:
    first, second, theirs = await run(api, acme), await run(api, acme), await run(api, rival)
    now = datetime.now(UTC)
    await queue(api, rival, theirs, ready_at=now - timedelta(hours=1))
    await queue(api, acme, first, ready_at=now - timedelta(seconds=2))
    await queue(api, acme, second, ready_at=now - timedelta(seconds=1))
    assert (await explain(acme, second))["blocker"] == "no_worker"
    await worker(api, age=60)
    assert (await explain(acme, second))["blocker"] == "no_worker"
    owner = await worker(api)
    behind = await explain(acme, second)
    assert (behind["blocker"], behind["details"]["ahead"]) == ("queued_behind", 1)
    assert (await explain(acme, first))["blocker"] == "none"
    await api.owner.execute("UPDATE execution_queue SET priority = 5 WHERE execution_id = $1", second)
    assert (await explain(acme, second))["blocker"] == "none"
    assert (await explain(acme, first))["blocker"] == "queued_behind"
    await api.owner.execute("UPDATE tenants SET quotas = '{\"max_concurrent_executions\": 1}' WHERE id = $1", acme.id)
    await queue(api, acme, await run(api, acme, status="running"), owner=owner)
    full = await explain(acme, first)
    assert (full["blocker"], full["details"]) == ("tenant_quota", {"limit": 1, "in_flight": 1})


async def test_explain_a_held_run(api: Api, acme: TenantHandle) -> None:
    owner = await worker(api)
    execution = await run(api, acme, status="running", started_at=datetime.now(UTC))
    await queue(api, acme, execution, owner=owner, ready_at=datetime.now(UTC))
    assert (await explain(acme, execution))["blocker"] == "none"
    await step(api, acme, execution, "call", status="running")
    busy = await explain(acme, execution)
    assert busy["blocker"] == "running_step"
    assert "`call`" in busy["sentence"]
    await api.owner.execute("UPDATE workers SET heartbeat_at = heartbeat_at - interval '20 s'")
    assert (await explain(acme, execution))["blocker"] == "lease_lost"
    await api.owner.execute("DELETE FROM workers")
    assert (await explain(acme, execution))["blocker"] == "lease_lost"
    await api.owner.execute('UPDATE execution_queue SET end_requested = \'{"kind": "cancel"}\'')
    assert (await explain(acme, execution))["blocker"] == "cancelling"


@pytest.mark.parametrize("kind", ["timer", "retry_backoff"])
async def test_explain_a_parked_run(api: Api, acme: TenantHandle, kind: str) -> None:
    execution = await run(api, acme, status="running", waiting_for=kind)
    due = datetime.now(UTC) + timedelta(hours=1)
    await queue(api, acme, execution, due_at=due)
    await api.owner.execute(
        "INSERT INTO waits (step_id, tenant_id, execution_id, node_id, kind, due_at) "
        "VALUES (gen_random_uuid(), $1, $2, 'pause', $3, $4)",
        acme.id, execution, kind, due,
    )  # fmt: skip
    found = await explain(acme, execution)
    assert (found["blocker"], found["details"]["waits"][0]["node_id"]) == (kind, "pause")


async def test_explain_what_is_waited_for(api: Api, acme: TenantHandle) -> None:
    owner = await worker(api)
    execution = await run(api, acme, status="running", started_at=datetime.now(UTC))
    child = await run(api, acme, status="running", waiting_for="event", parent_execution_id=execution)
    await queue(api, acme, execution, owner=owner, ready_at=datetime.now(UTC))
    for node, kind, event in (("ask", "human_task", None), ("hear", "event", "paid"), ("sub", "sub_workflow", None)):
        await step(api, acme, execution, node, status="running", node_type=kind)
        await api.owner.execute(
            "INSERT INTO waits (step_id, tenant_id, execution_id, node_id, kind, event_name, child_id) "
            "SELECT id, $1, $2, node_id, $4, $5, $6 FROM step_executions WHERE execution_id = $2 AND node_id = $3",
            acme.id, execution, node, kind, event, child if kind == "sub_workflow" else None,
        )  # fmt: skip
    await api.owner.execute(
        "INSERT INTO human_tasks (tenant_id, execution_id, step_id, task_type, title, assignees) "
        "SELECT $1, $2, id::text, 'approval', 'Pay?', '[{\"type\": \"role\", \"name\": \"boss\"}]' "
        "FROM step_executions WHERE execution_id = $2 AND node_id = 'ask'",
        acme.id, execution,
    )  # fmt: skip
    found = await explain(acme, execution)
    assert found["blocker"] == "human_task"
    assert found["sentence"].startswith('The step `ask` waits for a decision on the task "Pay?" by the role boss.')
    ask, hear, sub = found["details"]["waits"]
    assert ask["task"]["assignees"] == [{"type": "role", "name": "boss"}]
    assert hear["event"] == {"name": "paid", "correlation_key": None}
    assert sub["child"] == {"id": str(child), "status": "running", "waiting_for": "event"}
    await step(api, acme, execution, "call", status="running")
    assert (await explain(acme, execution))["blocker"] == "running_step"
    await api.owner.execute("UPDATE execution_queue SET paused = true")
    paused = await explain(acme, execution)
    assert (paused["blocker"], paused["details"]["steps"][0]["node_id"]) == ("paused", "call")


async def test_explain_a_scope_s_own_timer(api: Api, acme: TenantHandle) -> None:
    execution = await run(api, acme, status="running", waiting_for="retry_backoff")
    await step(api, acme, execution, "again", status="running", node_type="retry")
    await queue(api, acme, execution, due_at=datetime.now(UTC) + timedelta(hours=1))
    found = await explain(acme, execution)
    assert found["blocker"] == "retry_backoff"
    assert "retry `again`" in found["sentence"]


async def test_explain_while_suspended(api: Api, acme: TenantHandle) -> None:
    execution = await run(api, acme)
    await queue(api, acme, execution, ready_at=datetime.now(UTC))
    await acme.client.get("/tenant")
    # The key is still remembered for a moment, so the answer can be asked for.
    await api.owner.execute("UPDATE tenants SET status = 'suspended' WHERE id = $1", acme.id)
    assert (await explain(acme, execution))["blocker"] == "suspended_tenant"


async def test_the_stream_shows_changes_until_the_end(api: Api, acme: TenantHandle) -> None:
    execution = await run(api, acme, status="running")
    await step(api, acme, execution, "a", status="running")

    async def finish() -> None:
        await api.owner.execute("UPDATE step_executions SET status = 'completed' WHERE execution_id = $1", execution)
        await api.owner.execute("UPDATE executions SET status = 'completed' WHERE id = $1", execution)

    api.ends.on_wait = finish
    with anyio.fail_after(20):
        answer = await acme.client.get(f"/executions/{execution}/stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\ndata: ") for block in answer.text.strip().split("\n\n")]
    seen = [(name.removeprefix("event: "), msgspec.json.decode(data).get("status")) for name, data in events]
    assert seen == [
        ("step", "running"), ("execution", "running"), ("step", "completed"), ("execution", "completed"), ("end", None),
    ]  # fmt: skip


async def test_streams_are_bounded(api: Api, acme: TenantHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_STREAMS", 0)
    answer = await acme.client.get(f"/executions/{await run(api, acme)}/stream")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
    assert answer.headers["retry-after"]
