"""Routes of schedules: kept, refused with every fault, looked ahead at, started by hand, filled afterwards."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gorax_engine.api.schedule_schemas import FilledStretch, Occurrence, Preview, Schedule
from gorax_engine.api.schemas import Many, One
from gorax_engine.errors import Conflict, TooManyRequests
from gorax_engine.telemetry import Telemetry
from gorax_engine.triggers.scheduler import Scheduler
from tests.api.conftest import Api, TenantHandle, make

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def workflow(acme: TenantHandle) -> str:
    """A published workflow's id."""
    made = await make(acme)
    answer = await acme.client.post(f"/workflows/{made['id']}/publish")
    assert answer.status_code == 200, answer.text
    return str(made["id"])


async def schedule(tenant: TenantHandle, workflow: str, **more: Any) -> dict[str, Any]:
    """Create a schedule and return it."""
    body = {"workflow_id": workflow, "cron_expression": "*/5 * * * *", **more}
    answer = await tenant.client.post("/schedules", json=body)
    assert answer.status_code == 201, answer.text
    One[Schedule].model_validate(answer.json())
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_a_schedule_is_made_shown_changed_and_deleted(acme: TenantHandle, workflow: str) -> None:
    body = {
        "workflow_id": workflow, "name": "nightly", "cron_expression": "@daily", "timezone": "Europe/Berlin",
        "dst": {"fold": "both"}, "starts_at": "2030-01-01T00:00:00+01:00", "ends_at": "2031-01-01T00:00:00Z",
        "jitter": 90, "catchup_window": "PT1H30M", "misfire_policy": "all", "misfire_limit": 7,
        "overlap_policy": "queue", "input": {"a": [1, None, "{{x}}"]}, "priority": 9, "description": "At night",
    }  # fmt: skip
    answer = await acme.client.post("/schedules", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()["data"]
    One[Schedule].model_validate(answer.json())
    assert answer.headers["location"] == f"/api/v1/schedules/{made['id']}"
    assert made == {
        **body, "dst": {"gap": "shift", "fold": "both"}, "starts_at": "2029-12-31T23:00:00Z", "jitter": "1m30s",
        "catchup_window": "1h30m", "enabled": True, "next_run_at": "2029-12-31T23:00:00Z", "last_run_at": None,
        "last_execution_id": None, "node_id": None, "revision": 1, "id": made["id"], "created_by": str(acme.user_id),
        "created_at": made["created_at"], "updated_at": made["updated_at"],
    }  # fmt: skip
    path = f"/schedules/{made['id']}"
    shown = await acme.client.get(path)
    assert (shown.json()["data"], shown.headers["etag"]) == (made, '"1"')
    changed = await acme.client.patch(path, json={"dst": {"gap": "skip"}, "ends_at": None, "jitter": None})
    assert changed.status_code == 200, changed.text
    data = changed.json()["data"]
    assert (data["dst"], data["ends_at"], data["jitter"]) == ({"gap": "skip", "fold": "both"}, None, "0s")
    assert (data["revision"], data["input"], data["name"]) == (2, body["input"], "nightly")
    put = await acme.client.put(path, json={"cron_expression": "0 9 * * MON-FRI", "workflow_id": workflow})
    data = put.json()["data"]
    assert (data["name"], data["timezone"], data["input"], data["priority"]) == ("nightly", "UTC", {}, 1)
    assert (data["misfire_policy"], data["description"], data["starts_at"]) == ("last", None, None)
    deleted = await acme.client.delete(path)
    assert deleted.status_code == 200
    assert deleted.json()["data"] == data
    assert (await acme.client.get(path)).status_code == 404


async def test_what_is_left_out_has_defaults(acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow)
    assert (made["name"], made["timezone"], made["input"], made["enabled"]) == ("schedule", "UTC", {}, True)
    assert (made["overlap_policy"], made["misfire_policy"], made["catchup_window"]) == ("skip", "last", "24h")
    assert (await schedule(acme, workflow))["name"] == "schedule 2"
    by_name = await acme.client.post("/schedules", json={"workflow": "orders", "cron_expression": "@hourly"})
    assert by_name.json()["data"]["workflow_id"] == workflow


async def test_every_fault_is_told_at_once(acme: TenantHandle, workflow: str) -> None:
    body = {
        "workflow_id": "x", "name": " ", "description": 7, "cron_expression": "61 * * * *", "timezone": "Europe/Berlni",
        "dst": {"gap": "jump", "fold": 1, "leap": True}, "starts_at": "2030-01-02", "ends_at": 5, "jitter": "2d",
        "catchup_window": "-1s", "misfire_policy": "some", "misfire_limit": 1001, "overlap_policy": "wait",
        "priority": 101, "enabled": "yes",
    }  # fmt: skip
    answer = await acme.client.post("/schedules", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "invalid_schedule"
    pointers = {each["pointer"] for each in problem["errors"]}
    assert pointers == {f"/{key}" for key in body if key != "dst"} | {"/dst/gap", "/dst/fold", "/dst/leap"}
    assert "did you mean `Europe/Berlin`" in str(problem["errors"])
    assert not (await acme.client.get("/schedules")).json()["data"]


@pytest.mark.parametrize(
    ("change", "status", "pointer", "code"),
    [
        ({"cron_expression": None}, 422, "/cron_expression", "invalid_schedule"),
        ({"cron_expression": "0 0 30 2 *"}, 422, "/cron_expression", "invalid_schedule"),
        ({"workflow_id": None}, 422, "/workflow_id", "invalid_schedule"),
        ({"workflow": "orders"}, 422, "/workflow_id", "invalid_schedule"),
        ({"workflow_id": str(uuid.uuid4())}, 404, None, "workflow_not_found"),
        ({"starts_at": "2031-01-01T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"}, 422, "/ends_at", "invalid_schedule"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, 422, "/ends_at", "never_occurs"),
        ({"cron_expression": "30 2 31 3 SUN", "timezone": "Europe/Berlin", "dst": {"gap": "skip"},
          "starts_at": "2030-03-31T00:00:00Z", "ends_at": "2030-04-01T00:00:00Z"}, 422, "/ends_at", "never_occurs"),
        ({"input": "x" * 50_000, "colour": "red"}, 422, "/colour", "invalid_input"),
        ({"dst": []}, 422, "/dst", "invalid_schedule"),
    ],
)  # fmt: skip
async def test_refusals(
    acme: TenantHandle, workflow: str, change: dict[str, Any], status: int, pointer: str | None, code: str
) -> None:
    body = {"workflow_id": workflow, "cron_expression": "* * * * *", **change}
    answer = await acme.client.post("/schedules", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert [each["pointer"] for each in answer.json()["errors"]] == ([] if pointer is None else [pointer])


async def test_names_are_unique_within_a_workflow(acme: TenantHandle, workflow: str) -> None:
    first = await schedule(acme, workflow, name="a")
    second = await schedule(acme, workflow, name="b")
    body = {"workflow_id": workflow, "cron_expression": "* * * * *", "name": "a"}
    for answer in (
        await acme.client.post("/schedules", json=body),
        await acme.client.patch(f"/schedules/{second['id']}", json={"name": "a"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    other = await make(acme, "others", definition={"nodes": [{"id": "m", "type": "manual_trigger"}], "edges": []})
    assert (await schedule(acme, other["id"], name="a"))["id"] != first["id"]


async def test_an_archived_workflow_has_no_schedules_that_run(acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow)
    assert (await acme.client.delete(f"/workflows/{workflow}")).status_code == 200
    path = f"/schedules/{made['id']}"
    data = (await acme.client.get(path)).json()["data"]
    assert (data["enabled"], data["next_run_at"]) == (False, None)
    body = {"workflow_id": workflow, "cron_expression": "* * * * *"}
    for answer in (
        await acme.client.post("/schedules", json=body),
        await acme.client.patch(path, json={"enabled": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "workflow_archived")
    assert (await acme.client.delete(path)).status_code == 200


async def test_lists_are_filtered_and_paged(acme: TenantHandle, workflow: str) -> None:
    other = await make(acme, "others", definition={"nodes": [{"id": "m", "type": "manual_trigger"}], "edges": []})
    made = [await schedule(acme, workflow, name=f"s{n}", enabled=n != 1) for n in range(3)]
    await schedule(acme, other["id"])
    answer = await acme.client.get("/schedules", params={"workflow_id": workflow, "limit": 2})
    Many[Schedule].model_validate(answer.json())
    assert [each["name"] for each in answer.json()["data"]] == ["s2", "s1"]
    rest = await acme.client.get("/schedules", params={"workflow_id": workflow, "cursor": answer.json()["next_cursor"]})
    assert (rest.json()["data"], rest.json()["next_cursor"]) == ([made[0]], None)
    named = await acme.client.get("/schedules", params={"name": "s0"})
    assert named.json()["data"] == [made[0]]
    off = await acme.client.get("/schedules", params={"enabled": "false"})
    assert off.json()["data"] == [made[1]]
    assert made[1]["next_run_at"] is None


async def test_another_tenant_s_schedule_is_as_if_absent(
    acme: TenantHandle, rival: TenantHandle, workflow: str
) -> None:
    made = await schedule(acme, workflow)
    path = f"/schedules/{made['id']}"
    stretch = {"start": "2020-01-01T00:00:00Z", "end": "2020-01-01T00:10:00Z"}
    answers = [
        await rival.client.get(path),
        await rival.client.put(path, json={"cron_expression": "* * * * *"}),
        await rival.client.patch(path, json={"enabled": False}),
        await rival.client.delete(path),
        await rival.client.get(path + "/occurrences"),
        await rival.client.post(path + "/trigger"),
        await rival.client.post(path + "/backfill", json=stretch),
        await rival.client.post("/schedules", json={"workflow_id": workflow, "cron_expression": "* * * * *"}),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert (await rival.client.get("/schedules")).json()["data"] == []
    assert (await acme.client.get(path)).json()["data"] == made


async def test_a_change_that_came_between_is_noticed_and_none_is_none(acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow, input={"b": 1, "a": 2})
    path = f"/schedules/{made['id']}"
    for method, body in (
        ("PATCH", {"enabled": False}), ("PUT", {"cron_expression": "* * * * *"}), ("DELETE", None),
    ):  # fmt: skip
        stale = await acme.client.request(method, path, json=body, headers={"If-Match": '"7"'})
        assert stale.status_code == 412
    same = await acme.client.patch(path, json={"input": {"a": 2, "b": 1}}, headers={"If-Match": '"1"'})
    assert same.json()["data"] == made
    truth = await acme.client.patch(path, json={"input": {"a": 2, "b": True}})
    assert (truth.json()["data"]["input"], truth.json()["data"]["revision"]) == ({"a": 2, "b": True}, 2)


async def test_a_repeat_under_the_same_key_happens_once(acme: TenantHandle, workflow: str) -> None:
    body = {"workflow_id": workflow, "cron_expression": "* * * * *"}
    first, second = [
        await acme.client.post("/schedules", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]
    assert first.json() == second.json()
    assert len((await acme.client.get("/schedules")).json()["data"]) == 1


async def test_what_is_changed_goes_on_from_now(api: Api, acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow)
    path, id_ = f"/schedules/{made['id']}", uuid.UUID(made["id"])
    past = datetime(2026, 1, 1, tzinfo=UTC)
    await api.owner.execute("UPDATE schedules SET next_run_at = $2, due_at = $2 WHERE id = $1", id_, past)
    kept = await acme.client.patch(path, json={"overlap_policy": "allow", "description": "x", "timezone": "UTC"})
    assert kept.json()["data"]["next_run_at"] == "2026-01-01T00:00:00Z"
    assert await api.owner.fetchval("SELECT due_at FROM schedules WHERE id = $1", id_) == past
    off = await acme.client.patch(path, json={"enabled": False})
    assert off.json()["data"]["next_run_at"] is None
    assert await api.owner.fetchval("SELECT due_at FROM schedules WHERE id = $1", id_) is None
    for change in ({"enabled": True}, {"cron_expression": "1 * * * *"}, {"dst": {"fold": "both"}}, {"jitter": "1s"}):
        answer = await acme.client.patch(path, json=change)
        assert answer.status_code == 200, answer.text
        row = await api.owner.fetchrow("SELECT *, clock_timestamp() AS now FROM schedules WHERE id = $1", id_)
        assert row is not None
        assert row["now"] - MINUTE < row["next_run_at"] <= row["due_at"]
        await api.owner.execute("UPDATE schedules SET next_run_at = $2, due_at = $2 WHERE id = $1", id_, past)


async def test_a_schedule_that_is_over_can_be_described_but_not_switched_on(
    api: Api, acme: TenantHandle, workflow: str
) -> None:
    made = await schedule(acme, workflow, ends_at="2999-01-01T00:00:00Z")
    path = f"/schedules/{made['id']}"
    await api.owner.execute("UPDATE schedules SET ends_at = '2020-01-01Z', next_run_at = NULL, due_at = NULL")
    assert (await acme.client.patch(path, json={"description": "Over."})).status_code == 200
    assert (await acme.client.patch(path, json={"enabled": False})).status_code == 200
    again = await acme.client.patch(path, json={"enabled": True})
    assert (again.status_code, again.json()["code"]) == (422, "never_occurs")


async def test_what_follows_a_node_is_the_node_s(api: Api, acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow, name="n")
    path = f"/schedules/{made['id']}"
    await api.owner.execute("UPDATE schedules SET node_id = 'every' WHERE id = $1", uuid.UUID(made["id"]))
    for change in ({"cron_expression": "0 0 * * *"}, {"timezone": "Asia/Tokyo"}, {"name": "x"}, {"input": 1}):
        answer = await acme.client.patch(path, json=change)
        assert (answer.status_code, answer.json()["code"]) == (409, "managed_by_node"), change
        assert "the node `every`" in answer.json()["detail"]
    answer = await acme.client.delete(path)
    assert (answer.status_code, answer.json()["code"]) == (409, "managed_by_node")
    free = {"enabled": False, "description": "Off for now.", "priority": 3, "cron_expression": "*/5 * * * *"}
    changed = (await acme.client.patch(path, json=free)).json()["data"]
    assert {key: changed[key] for key in free} == free


# --- looking ahead ----------------------------------------------------------------------------------------------------


async def test_preview_tells_the_next_occurrences(acme: TenantHandle) -> None:
    body = {
        "cron_expression": "30 2 * * *", "timezone": "Europe/Berlin", "from": "2026-10-23T12:00:00Z", "count": 4,
        "dst": {"fold": "both"},
    }  # fmt: skip
    answer = await acme.client.post("/schedules/preview", json=body)
    assert answer.status_code == 200, answer.text
    One[Preview].model_validate(answer.json())
    assert answer.json()["data"]["occurrences"] == [
        "2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z",
    ]  # fmt: skip
    default = await acme.client.post("/schedules/preview", json={"cron_expression": "* * * * *"})
    assert len(default.json()["data"]["occurrences"]) == 10
    over = {"cron_expression": "* * * * *", "ends_at": "2020-01-01T00:00:00Z"}
    assert (await acme.client.post("/schedules/preview", json=over)).json()["data"]["occurrences"] == []
    wrong = await acme.client.post("/schedules/preview", json={"cron_expression": "x", "timezone": "y", "dst": 1})
    assert wrong.status_code == 422
    assert [e["pointer"] for e in wrong.json()["errors"]] == ["/dst", "/cron_expression", "/timezone"]
    for count in (0, 1001):
        answer = await acme.client.post("/schedules/preview", json={"cron_expression": "* * * * *", "count": count})
        assert answer.status_code == 422


async def test_what_preview_tells_is_what_fires(api: Api, acme: TenantHandle, workflow: str) -> None:
    timing = {"cron_expression": "*/7 3-4 * * *", "timezone": "America/New_York"}
    begin = datetime.now(UTC) - timedelta(days=3)
    body = {**timing, "from": begin.isoformat(), "count": 100}
    ahead = (await acme.client.post("/schedules/preview", json=body)).json()["data"]["occurrences"]
    told = [at for at in map(datetime.fromisoformat, ahead) if at <= datetime.now(UTC)]
    made = await schedule(
        acme, workflow, **timing, misfire_policy="all", misfire_limit=1000, catchup_window="96h", overlap_policy="allow"
    )
    await api.owner.execute(
        "UPDATE schedules SET next_run_at = $2, due_at = $2 WHERE id = $1", uuid.UUID(made["id"]), told[0]
    )
    await Scheduler(api.database, Telemetry()).work_off()
    rows = await api.owner.fetch("SELECT scheduled_for, status FROM schedule_occurrences ORDER BY scheduled_for")
    assert [row["scheduled_for"] for row in rows] == told
    assert {row["status"] for row in rows} == {"started"}
    after = (await acme.client.get(f"/schedules/{made['id']}")).json()["data"]
    assert datetime.fromisoformat(after["next_run_at"]) == datetime.fromisoformat(ahead[len(told)])
    shown = await acme.client.get(f"/schedules/{made['id']}/occurrences", params={"limit": 3})
    Many[Occurrence].model_validate(shown.json())
    assert [datetime.fromisoformat(each["scheduled_for"]) for each in shown.json()["data"]] == told[-1:-4:-1]
    older = await acme.client.get(
        f"/schedules/{made['id']}/occurrences", params={"cursor": shown.json()["next_cursor"], "limit": 200}
    )
    assert [datetime.fromisoformat(each["scheduled_for"]) for each in older.json()["data"]] == told[-4::-1]


# --- by hand ----------------------------------------------------------------------------------------------------------


async def test_trigger_starts_one_run_beside_the_plan(api: Api, acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow, input={"n": 1}, priority=7, enabled=False)
    answer = await acme.client.post(f"/schedules/{made['id']}/trigger", headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["data"] == {"execution_id": str(api.verbs.last), "status": "pending"}
    (request,) = api.verbs.requests
    assert (request.trigger_type, request.priority, request.started_by) == ("schedule", 7, acme.user_id)
    assert request.start_key is not None
    data = request.trigger_data
    assert (data["schedule_id"], data["body"]) == (made["id"], {"n": 1})
    assert data["scheduled_for"] == data["fired_at"]
    assert data["fired_at"].endswith("Z")
    assert (await acme.client.get(f"/schedules/{made['id']}")).json()["data"] == made
    api.verbs.fails = Conflict("Inactive.", code="workflow_inactive")
    assert (await acme.client.post(f"/schedules/{made['id']}/trigger")).status_code == 409
    api.limits.fails = TooManyRequests("Full.", code="queue_full")
    assert (await acme.client.post(f"/schedules/{made['id']}/trigger")).status_code == 429


async def test_backfill_starts_what_was_not_started_once(api: Api, acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow, cron_expression="* * * * *", overlap_policy="skip")
    id_, start = uuid.UUID(made["id"]), datetime(2026, 1, 1, tzinfo=UTC)
    for at, status, reason in (
        (1, "started", None),
        (2, "queued", None),
        (3, "skipped", "overlap"),
        (4, "failed", "x"),
    ):
        await api.owner.execute(
            "INSERT INTO schedule_occurrences (schedule_id, scheduled_for, tenant_id, status, reason) "
            "VALUES ($1, $2, $3, $4, $5)", id_, start + at * MINUTE, acme.id, status, reason,
        )  # fmt: skip
    body = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:05:30Z"}
    answer = await acme.client.post(f"/schedules/{made['id']}/backfill", json=body)
    assert answer.status_code == 202, answer.text
    One[FilledStretch].model_validate(answer.json())
    data = answer.json()["data"]
    assert (data["started"], data["already"], len(data["occurrences"])) == (4, 2, 6)
    assert [each["scheduled_for"][14:16] for each in data["occurrences"]] == ["00", "01", "02", "03", "04", "05"]
    rows = await api.owner.fetch(
        "SELECT o.*, e.trigger_type, e.started_by, e.trigger_data::jsonb ->> 'scheduled_for' AS told, "
        "q.schedule_id AS live FROM schedule_occurrences o JOIN executions e ON e.id = o.execution_id "
        "JOIN execution_queue q ON q.execution_id = e.id WHERE o.backfill ORDER BY 2"
    )
    assert [(row["status"], row["reason"], row["trigger_type"], row["live"]) for row in rows] == [
        ("started", None, "backfill", None)
    ] * 4
    assert {row["started_by"] for row in rows} == {acme.user_id}
    assert [row["told"][14:16] for row in rows] == ["00", "03", "04", "05"]
    again = (await acme.client.post(f"/schedules/{made['id']}/backfill", json=body)).json()["data"]
    assert (again["started"], again["already"], again["occurrences"]) == (0, 6, data["occurrences"])
    assert await api.owner.fetchval("SELECT count(*) FROM executions") == 4
    # The scheduler finds them when it comes late, and starts the one that was queued.
    await api.owner.execute(
        "UPDATE schedules SET next_run_at = $2, due_at = $2, misfire_policy = 'all', catchup_window = '9999 hours', "
        "ends_at = $3 WHERE id = $1", id_, start, start + 5 * MINUTE,
    )  # fmt: skip
    await Scheduler(api.database, Telemetry()).work_off()
    kinds = await api.owner.fetch("SELECT trigger_type, count(*) FROM executions GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in kinds] == [("backfill", 4), ("schedule", 1)]
    assert await api.owner.fetchval("SELECT next_run_at FROM schedules WHERE id = $1", id_) is None


async def test_backfill_takes_its_part_of_a_missed_stretch(api: Api, acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow, cron_expression="* * * * *")
    id_, start = uuid.UUID(made["id"]), datetime(2026, 1, 1, tzinfo=UTC)
    await api.owner.execute(
        "INSERT INTO schedule_occurrences (schedule_id, scheduled_for, tenant_id, status, reason, through, count) "
        "VALUES ($1, $2, $3, 'missed', 'too_late', $4, 60)", id_, start, acme.id, start + 59 * MINUTE,
    )  # fmt: skip
    body = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:09:00Z"}
    data = (await acme.client.post(f"/schedules/{made['id']}/backfill", json=body)).json()["data"]
    assert data["started"] == 10
    row = await api.owner.fetchrow("SELECT * FROM schedule_occurrences WHERE status = 'missed'")
    assert row is not None
    assert (row["scheduled_for"], row["through"], row["count"]) == (start + 10 * MINUTE, start + 59 * MINUTE, 50)
    assert row["reason"] == "too_late"
    assert not await api.owner.fetchval(
        "SELECT count(*) FROM schedule_occurrences WHERE backfill AND through IS NOT NULL"
    )


async def test_backfill_refuses_what_it_can_t_fill(api: Api, acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow, cron_expression="* * * * *")
    path = f"/schedules/{made['id']}/backfill"

    async def refused(start: str, end: str, **more: Any) -> tuple[int, str, list[str], str]:
        answer = await acme.client.post(path, json={"start": start, "end": end, **more})
        body = answer.json()
        return answer.status_code, body["code"], [each["pointer"] for each in body["errors"]], body["detail"]

    status, code, pointers, _ = await refused("2999-02-01T00:00:00Z", "2999-01-01T00:00:00Z")
    assert (status, code, pointers) == (422, "invalid_stretch", ["/end", "/start"])
    status, code, pointers, detail = await refused("2026-01-01T00:00:00Z", "2026-01-01T23:59:00Z")
    assert (status, code, pointers) == (422, "too_many_occurrences", ["/end"])
    assert "1,440 occurrences" in detail
    _, _, _, detail = await refused("2026-01-01T00:00:00Z", "2026-01-31T23:59:00Z", limit=3)
    assert "more than 10,000" in detail
    status, _, pointers, _ = await refused("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", limit=1001)
    assert (status, pointers) == (422, ["/limit"])
    assert (await refused("2026-01-01T00:00:00", "2026-01-01T00:01:00Z"))[2] == ["/start"]
    await acme.client.patch(f"/workflows/{workflow}", json={"status": "inactive"})
    status, code, _, _ = await refused("2026-01-01T00:00:00Z", "2026-01-01T00:03:00Z")
    assert (status, code) == (409, "workflow_inactive")
    assert await api.owner.fetchval("SELECT count(*) FROM schedule_occurrences") == 0


async def test_a_large_backfill_takes_several_transactions(api: Api, acme: TenantHandle, workflow: str) -> None:
    made = await schedule(acme, workflow, cron_expression="* * * * *")
    body = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T16:39:00Z"}
    answer = await acme.client.post(f"/schedules/{made['id']}/backfill", json=body)
    assert (answer.status_code, answer.json()["data"]["started"]) == (202, 1000), answer.text
    assert await api.owner.fetchval("SELECT count(DISTINCT xmin::text) FROM schedule_occurrences") == 5


async def test_each_route_needs_its_permission(acme: TenantHandle) -> None:
    document = (await acme.client.get("http://gorax/api/v1/openapi.json")).json()
    found = {
        f"{method} {path.removeprefix('/api/v1/schedules')}": route["x-gorax-permission"]
        for path, routes in document["paths"].items()
        if path.startswith("/api/v1/schedules")
        for method, route in routes.items()
    }
    assert found == {
        "get ": "schedule:read", "post ": "schedule:create", "post /preview": "schedule:read",
        "get /{schedule_id}": "schedule:read", "put /{schedule_id}": "schedule:update",
        "patch /{schedule_id}": "schedule:update", "delete /{schedule_id}": "schedule:delete",
        "get /{schedule_id}/occurrences": "schedule:read", "post /{schedule_id}/trigger": "schedule:trigger",
        "post /{schedule_id}/backfill": "schedule:trigger",
    }  # fmt: skip


async def test_a_run_by_hand_may_have_its_own_input(api: Api, acme: TenantHandle, workflow: str) -> None:
    path = f"/schedules/{(await schedule(acme, workflow, input={'own': 1}))['id']}/trigger"
    for body in ({"input": {"given": 2}}, {"input": None}, None):
        assert (await acme.client.post(path, json=body)).status_code == 202
    assert [start.trigger_data["body"] for start in api.verbs.requests] == [{"given": 2}, None, {"own": 1}]
    assert (await acme.client.post(path, json={"inputs": 1})).status_code == 422
    headers = {"Idempotency-Key": "k"}
    for number in (1, 2):
        await acme.client.post(path, json={"input": number}, headers=headers)
    keys = [start.start_key for start in api.verbs.requests[-2:]]
    assert keys[0] != keys[1]  # the same key with another input is refused
