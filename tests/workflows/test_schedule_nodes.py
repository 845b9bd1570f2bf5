"""Schedules follow the trigger nodes of what is published: planned by pure functions, and carried out by publishing."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from gorax_engine.core.schedules import ScheduleSpec
from gorax_engine.errors import InvalidDefinition
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.settings import DatabaseSettings
from gorax_engine.store.database import Database, open_database
from gorax_engine.workflows import drafts, publishing
from gorax_engine.workflows.documents import canonical_definition, check_definition
from gorax_engine.workflows.schedule_nodes import (
    ChangeSchedule,
    CreateSchedule,
    DropSchedule,
    ExistingSchedule,
    ScheduleNode,
    plan_schedules,
)
from tests.engine.conftest import engine_dsns, world  # noqa: F401
from tests.engine.harness import World

pytestmark = pytest.mark.anyio

REGISTRY = NodeRegistry(builtin_nodes())
A, B = uuid.UUID(int=1), uuid.UUID(int=2)


def definition(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": [{"id": "m", "type": "manual_trigger"}, *nodes], "edges": []}


def timer(id_: str = "every", cron: str = "0 9 * * *", name: str | None = None, **config: Any) -> dict[str, Any]:
    named = {} if name is None else {"name": name}
    return {"id": id_, "type": "schedule_trigger", **named, "config": {"cron": cron, **config}}


# --- what a definition may say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "pointers"),
    [
        ({"cron": "0 9 * * *"}, []),
        ({"cron_expression": "@daily"}, []),
        ({"cronExpression": "@daily", "overlapPolicy": "queue"}, []),
        ({"cron": "0 9 * * *", "starts_at": None, "jitter": 30, "input": {"x": "{{ not.a.template"}}, []),
        ({}, ["/nodes/1/config"]),
        ({"cron": "61 * * * *"}, ["/nodes/1/config/cron"]),
        ({"cron": "0 0 31 2 *", "timezone": "Mars"}, ["/nodes/1/config/cron", "/nodes/1/config/timezone"]),
        ({"cron_expression": "x"}, ["/nodes/1/config/cron_expression"]),
        ({"cron": "* * * * *", "starts_at": "2030-01-01T00:00:00Z", "ends_at": "2029-01-01T00:00:00Z"},
         ["/nodes/1/config/ends_at"]),
        ({"cron": "* * * * *", "jitter": "25h"}, ["/nodes/1/config/jitter"]),
        ({"cron": "* * * * *", "jitter": "soon", "starts_at": "soon", "dst": {"gap": "jump"}, "misfire_limit": 0,
          "overlap_policy": "x", "misfire_policy": "x", "catchup_window": -1},
         [f"/nodes/1/config/{key}" for key in (
             "catchup_window", "dst/gap", "jitter", "misfire_limit", "misfire_policy", "overlap_policy", "starts_at")]),
    ],
)  # fmt: skip
def test_configs(config: dict[str, Any], pointers: list[str]) -> None:
    checked = check_definition(definition({"id": "s", "type": "schedule", "config": config}), REGISTRY)
    assert sorted(each.pointer for each in checked.errors) == pointers
    assert {each.code for each in checked.errors} <= {"invalid_config"}
    if not pointers:
        assert "cron" in checked.canonical["nodes"][1]["config"]
        assert not checked.warnings


def test_a_pointer_leads_to_where_the_user_wrote_it() -> None:
    node = {"id": "s", "type": "schedule", "data": {"config": {"cronExpression": "x"}}}
    (problem,) = check_definition(definition(node), REGISTRY).errors
    assert problem.pointer == "/nodes/1/data/config/cronExpression"


# --- what is to be done -----------------------------------------------------------------------------------------------


def node(id_: str, name: str, **given: Any) -> ScheduleNode:
    return ScheduleNode(id_, name, {"cron_expression": "0 9 * * *", **given})


def known(id_: uuid.UUID, node_id: str | None, name: str, **more: Any) -> ExistingSchedule:
    return ExistingSchedule(id_, node_id, name, ScheduleSpec("0 9 * * *", **more))


SPEC = ScheduleSpec("0 9 * * *")


@pytest.mark.parametrize(
    ("nodes", "existing", "actions"),
    [
        ([node("s", "N")], [], [CreateSchedule("s", "N", SPEC)]),
        ([node("s", "N")], [known(A, "s", "N")], []),
        ([], [known(A, "s", "N"), known(B, None, "hand")], [DropSchedule(A)]),
        ([node("s", "N")], [known(A, None, "N")], [CreateSchedule("s", "N 2", SPEC)]),
        ([node("s", "N")], [known(A, None, "N"), known(B, "s", "N 2")], []),
        ([node("s", "N"), node("t", "N")], [], [CreateSchedule("s", "N", SPEC), CreateSchedule("t", "N 2", SPEC)]),
        ([node("t", "N")], [known(A, "s", "N")], [DropSchedule(A), CreateSchedule("t", "N", SPEC)]),
        ([node("s", "M")], [known(A, "s", "N")], [ChangeSchedule(A, "M", SPEC, retimed=False)]),
        ([node("s", "N", input=True)], [known(A, "s", "N", input=1)],
         [ChangeSchedule(A, "N", ScheduleSpec("0 9 * * *", input=True), retimed=False)]),
        ([node("s", "N", timezone="Asia/Tokyo")], [known(A, "s", "N")],
         [ChangeSchedule(A, "N", ScheduleSpec("0 9 * * *", timezone="Asia/Tokyo"), retimed=True)]),
        ([node("s", "N")], [known(A, "s", "N", jitter=timedelta(seconds=1))],
         [ChangeSchedule(A, "N", SPEC, retimed=True)]),
        ([node("s", "x" * 255)], [known(A, None, "x" * 255)], [CreateSchedule("s", "x" * 253 + " 2", SPEC)]),
    ],
)  # fmt: skip
def test_plans(nodes: list[ScheduleNode], existing: list[ExistingSchedule], actions: list[Any]) -> None:
    assert plan_schedules(nodes, existing) == actions


# --- what publishing does ---------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """A tenant with one workflow that is saved and published."""

    database: Database
    sql: asyncpg.Connection[Any]
    tenant: uuid.UUID
    user: uuid.UUID
    workflow: uuid.UUID

    async def publish(self, *nodes: dict[str, Any]) -> list[asyncpg.Record]:
        """Save and publish; return the schedules by node and name."""
        async with self.database.tenant(self.tenant) as connection:
            current = await drafts.find_for_change(connection, self.tenant, self.workflow)
            changes = {"definition": canonical_definition(definition(*nodes), None, REGISTRY)}
            current = await drafts.change(connection, self.tenant, current, changes)
            await publishing.publish(connection, self.tenant, self.user, current, REGISTRY)
        return await self.schedules()

    async def schedules(self) -> list[asyncpg.Record]:
        return list(
            await self.sql.fetch("SELECT * FROM schedules WHERE tenant_id = $1 ORDER BY node_id, name", self.tenant)
        )


@pytest.fixture
async def desk(world: World) -> AsyncIterator[Desk]:  # noqa: F811
    tenant = await world.tenant()
    user = await world.sql.fetchval("SELECT id FROM users WHERE tenant_id = $1 LIMIT 1", tenant)
    async with open_database(DatabaseSettings(dsn=SecretStr(world.dsn))) as database:
        async with database.tenant(tenant) as connection:
            made = await drafts.create(connection, tenant, user, "w", None, definition())
        yield Desk(database, world.sql, tenant, user, made["id"])
    await world.sql.execute("TRUNCATE schedules CASCADE")


async def test_a_node_gets_a_schedule(desk: Desk) -> None:
    config: dict[str, Any] = {
        "timezone": "Europe/Berlin", "input": {"a": 1}, "overlap_policy": "queue", "misfire_policy": "all",
        "misfire_limit": 3, "catchup_window": "2h", "jitter": "5m", "dst": {"gap": "skip", "fold": "both"},
        "starts_at": "2030-01-01T00:00:00Z", "ends_at": "2031-01-01T00:00:00Z",
    }  # fmt: skip
    (row,) = await desk.publish(timer(name="Every morning", **config))
    assert (row["node_id"], row["name"], row["cron_expression"]) == ("every", "Every morning", "0 9 * * *")
    assert (row["timezone"], row["input"], row["overlap_policy"]) == ("Europe/Berlin", '{"a": 1}', "queue")
    assert (row["misfire_policy"], row["misfire_limit"]) == ("all", 3)
    assert (row["catchup_window"], row["jitter"]) == (timedelta(hours=2), timedelta(minutes=5))
    assert (row["dst_gap"], row["dst_fold"], row["enabled"]) == ("skip", "both", True)
    assert row["next_run_at"] == datetime(2030, 1, 1, 8, tzinfo=UTC)
    assert timedelta() <= row["due_at"] - row["next_run_at"] < timedelta(minutes=5)
    assert row["created_by"] == desk.user


async def test_a_schedule_is_kept_from_version_to_version(desk: Desk) -> None:
    (first,) = await desk.publish(timer())
    past = datetime(2026, 1, 1, tzinfo=UTC)
    await desk.sql.execute("UPDATE schedules SET next_run_at = $1, due_at = $1", past)
    await desk.sql.execute(
        "INSERT INTO schedule_occurrences (schedule_id, tenant_id, scheduled_for, status) "
        "VALUES ($1, $2, $3, 'started')",
        first["id"], desk.tenant, past,
    )  # fmt: skip
    (kept,) = await desk.publish(timer(input=7, overlap_policy="allow"))
    assert (kept["id"], kept["input"], kept["next_run_at"], kept["due_at"]) == (first["id"], "7", past, past)
    (retimed,) = await desk.publish(timer(cron="0 10 * * *"))
    assert (retimed["id"], retimed["input"], retimed["overlap_policy"]) == (first["id"], "{}", "skip")
    assert retimed["next_run_at"] > datetime.now(UTC)
    assert await desk.sql.fetchval("SELECT count(*) FROM schedule_occurrences") == 1


async def test_one_that_was_disabled_stays_so(desk: Desk) -> None:
    await desk.publish(timer())
    await desk.sql.execute("UPDATE schedules SET enabled = false, next_run_at = NULL, due_at = NULL, description = 'x'")
    (row,) = await desk.publish(timer(cron="0 10 * * *"))
    assert (row["enabled"], row["next_run_at"], row["due_at"], row["description"]) == (False, None, None, "x")
    assert row["cron_expression"] == "0 10 * * *"


async def test_nodes_that_are_gone_take_their_schedules_along(desk: Desk) -> None:
    await desk.publish(timer("a"), timer("b"))
    await desk.sql.execute(
        "INSERT INTO schedules (tenant_id, workflow_id, name, cron_expression, created_by) "
        "VALUES ($1, $2, 'c', '* * * * *', $3)", desk.tenant, desk.workflow, desk.user,
    )  # fmt: skip
    rows = await desk.publish(timer("b"), timer("c"))
    assert [(row["node_id"], row["name"]) for row in rows] == [("b", "b"), ("c", "c 2"), (None, "c")]
    rows = await desk.publish()
    assert [row["name"] for row in rows] == ["c"]


async def test_publishing_again_brings_what_an_older_release_left_out(desk: Desk) -> None:
    (first,) = await desk.publish(timer())
    await desk.sql.execute("DELETE FROM schedules")
    (second,) = await desk.publish(timer())
    assert second["node_id"] == "every"
    assert second["id"] != first["id"]
    assert await desk.sql.fetchval("SELECT published_version FROM workflows WHERE id = $1", desk.workflow) == 1
    (third,) = await desk.publish(timer())
    assert dict(third) == dict(second)


async def test_a_schedule_that_is_over_can_be_published(desk: Desk) -> None:
    (row,) = await desk.publish(timer(ends_at="2020-01-01T00:00:00Z"))
    assert (row["enabled"], row["next_run_at"], row["due_at"]) == (True, None, None)


async def test_archiving_disables(desk: Desk) -> None:
    await desk.publish(timer())
    async with desk.database.tenant(desk.tenant) as connection:
        current = await drafts.find_for_change(connection, desk.tenant, desk.workflow)
        await drafts.archive(connection, desk.tenant, current)
    (row,) = await desk.schedules()
    assert (row["enabled"], row["next_run_at"], row["due_at"]) == (False, None, None)


async def test_a_draft_from_before_is_refused_when_it_is_published(desk: Desk) -> None:
    old = definition({"id": "every", "type": "schedule_trigger", "config": {"cron": "whenever"}})
    await desk.sql.execute(
        "UPDATE workflows SET definition = $2::text::jsonb WHERE id = $1", desk.workflow, json.dumps(old)
    )
    async with desk.database.tenant(desk.tenant) as connection:
        current = await drafts.find_for_change(connection, desk.tenant, desk.workflow)
        with pytest.raises(InvalidDefinition) as refused:
            await publishing.publish(connection, desk.tenant, desk.user, current, REGISTRY)
    assert [each.pointer for each in refused.value.problems] == ["/nodes/1/config/cron"]
