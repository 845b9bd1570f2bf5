"""The engine as the daemon composes it, in this process and on a real server, with a node that does what a test says.

`World` is one database and what runs on it. `Member` is one process's engine: it can be drained, or crashed, which
leaves its rows as a SIGKILL would. Time moves by SQL (`expire`, `make_due`), never by waiting.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import anyio
import asyncpg
import pytest
from anyio.abc import TaskGroup, TaskStatus

from gorax_engine import daemon
from gorax_engine.core.model import Json
from gorax_engine.daemon import RunningEngine, open_engine
from gorax_engine.engine.starting import Started, StartKey, StartRequest
from gorax_engine.engine.worker import Worker
from gorax_engine.nodes.api import Completed, NodeContext, NodeKind, NodeSpec, Outcome
from gorax_engine.settings import load_settings
from gorax_engine.telemetry import Telemetry

DEADLINE = 15.0
"""Seconds after which a test gives up waiting; nothing takes that long."""

Act: TypeAlias = Callable[[Mapping[str, Json], NodeContext], Awaitable[Outcome]]


async def until(check: Callable[[], Awaitable[Any]], what: str = "") -> Any:
    """Ask until the answer is true; return it. Raises TimeoutError after the deadline."""
    with anyio.move_on_after(DEADLINE):
        while True:
            answer = await check()
            if answer:
                return answer
            await anyio.sleep(0.01)
    raise TimeoutError(f"it never came to pass: {what or check}")


class Probe:
    """A task node that tells when it is called, and does what the test says for its node id."""

    spec = NodeSpec(name="probe", kind=NodeKind.TASK, schema={"type": "object"})

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self.cancelled: list[str] = []
        self.acts: dict[str, Act] = {}
        self._called = anyio.Event()

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        self.calls.append((context.execution_id, context.node_id, context.attempt))
        self._called.set()
        act = self.acts.get(context.node_id)
        try:
            return await act(config, context) if act is not None else Completed({"node": context.node_id, **config})
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(context.node_id)
            raise

    def count(self, node: str) -> int:
        return sum(1 for _, called, _ in self.calls if called == node)

    async def called(self, node: str, times: int = 1) -> None:
        """Wait until the node was called so often."""
        with anyio.fail_after(DEADLINE):
            while self.count(node) < times:
                self._called = anyio.Event()
                await self._called.wait()

    def hold(self, node: str) -> anyio.Event:
        """Let the node wait for the returned event."""
        gate = anyio.Event()

        async def act(config: Mapping[str, Json], context: NodeContext) -> Outcome:
            await gate.wait()
            return Completed({"node": context.node_id})

        self.acts[node] = act
        return gate


def deafen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no notification arrive: what is found is found by polling, and claims happen when the test says."""

    async def deaf(*_: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(daemon, "listen", deaf)


class Tally:
    """A pure node that counts its evaluations."""

    spec = NodeSpec(name="tally", kind=NodeKind.PURE, schema={"type": "object"})

    def __init__(self) -> None:
        self.calls: list[str] = []

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        self.calls.append(context.node_id)
        return Completed(dict(config))


@dataclass(frozen=True)
class Flow:
    """A published workflow."""

    tenant: uuid.UUID
    id: uuid.UUID


@dataclass
class Member:
    """One process's engine."""

    name: str
    engine: RunningEngine
    scope: anyio.CancelScope
    stopping: anyio.Event
    gone: anyio.Event
    telemetry: Telemetry

    @property
    def worker(self) -> Worker:
        assert self.engine.worker is not None
        return self.engine.worker

    async def start(
        self, flow: Flow, body: Json = None, *, key: str | None = None, hash_: bytes | None = None, **more: Any
    ) -> Started:
        start_key = None if key is None else StartKey("idempotency", key, hash_, timedelta(days=1))
        request = StartRequest(flow.tenant, flow.id, "api", {"body": body}, start_key=start_key, **more)
        with anyio.fail_after(DEADLINE):
            return await self.engine.operations.start(request)

    async def settled(self) -> None:
        """Wait until no claim is on its way: while one is, all free places are kept for it."""

        async def settled() -> bool:
            return self.worker.in_flight == 0 and self.worker.reserve(1) != (None, 0)

        await until(settled)
        worker_id = self.worker._life.lease.worker_id if self.worker._life is not None else None
        assert worker_id is not None
        self.worker.adopt(worker_id, 1, [])

    async def idle(self) -> None:
        """Wait until nothing is in this process's memory."""

        async def idle() -> bool:
            return self.engine.in_flight() == 0

        await until(idle)

    async def heard_of_pause(self, execution_id: uuid.UUID) -> None:
        """Wait until the worker knows that a run in its memory is paused."""

        async def look() -> bool:
            life = self.worker._life
            return life is not None and life.executions[execution_id]._paused

        await until(look, "word of the pause")

    async def crash(self) -> None:
        """Stop dead: nothing is flushed, nothing given back."""
        self.scope.cancel()
        with anyio.fail_after(DEADLINE):
            await self.gone.wait()

    async def drain(self) -> None:
        """Stop as SIGTERM would."""
        self.stopping.set()
        with anyio.fail_after(DEADLINE):
            await self.gone.wait()


@dataclass
class World:
    """A database, and the engines on it."""

    dsn: str
    sql: asyncpg.Connection[Any]
    tasks: TaskGroup
    probe: Probe = field(default_factory=Probe)
    tally: Tally = field(default_factory=Tally)
    members: list[Member] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    # --- what runs ----------------------------------------------------------------------------------------------------

    async def member(self, name: str = "w", *, roles: tuple[str, ...] = ("worker",), **options: Any) -> Member:
        """Run an engine. `options` are worker settings; by default it polls often and has a long lease."""
        options = {"slots": 200, "lease": 60.0, "heartbeat": 0.5, "poll": 0.1, "drain_timeout": 5.0, **options}
        settings = load_settings(database={"dsn": self.dsn}, worker=options, outbound={"allow": ("127.0.0.0/8",)})
        member: Member = await self.tasks.start(self._run, name, frozenset(roles), settings)
        self.members.append(member)
        return member

    async def _run(self, name: str, roles: frozenset[str], settings: Any, *, task_status: TaskStatus[Member]) -> None:
        stopping, gone, scope, telemetry = anyio.Event(), anyio.Event(), anyio.CancelScope(), Telemetry()
        try:
            with scope:
                async with open_engine(
                    settings,
                    roles=roles,
                    name=name,
                    telemetry=telemetry,
                    nodes=[self.probe, self.tally],  # type: ignore[list-item]
                ) as engine:
                    task_status.started(Member(name, engine, scope, stopping, gone, telemetry))
                    await stopping.wait()
        except Exception as error:  # noqa: BLE001 - the test that owns the world tells it
            self.failures.append(error)
        finally:
            gone.set()

    async def close(self) -> None:
        for member in self.members:
            member.scope.cancel()
        for member in self.members:
            with anyio.fail_after(DEADLINE):
                await member.gone.wait()

    async def apart(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Ask over another connection: for what runs beside the test."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    # --- what there is ------------------------------------------------------------------------------------------------

    async def tenant(self, *, quotas: Json = None, settings: Json = None, status: str = "active") -> uuid.UUID:
        name = uuid.uuid4().hex[:12]
        made = await self.sql.fetchrow("SELECT * FROM gorax_create_tenant($1, $1)", name)
        assert made is not None
        await self.sql.execute(
            "UPDATE tenants SET quotas = $2::text::jsonb, settings = $3::text::jsonb, status = $4 WHERE id = $1",
            made["tenant_id"], json.dumps(quotas or {}), json.dumps(settings or {}), status,
        )  # fmt: skip
        tenant: uuid.UUID = made["tenant_id"]
        return tenant

    async def flow(
        self, definition: Json, *, tenant: uuid.UUID | None = None, name: str | None = None, status: str = "active",
        published: bool = True,
    ) -> Flow:  # fmt: skip
        tenant = tenant or await self.tenant()
        workflow = uuid.uuid4()
        user = await self.sql.fetchval("SELECT id FROM users WHERE tenant_id = $1 LIMIT 1", tenant)
        text = json.dumps(definition)
        await self.sql.execute(
            "INSERT INTO workflows (id, tenant_id, name, definition, status, version, published_version, created_by) "
            "VALUES ($1, $2, $3, $4::text::jsonb, $5, 1, $6, $7)",
            workflow, tenant, name or workflow.hex, text, status, 1 if published else None, user,
        )  # fmt: skip
        await self.sql.execute(
            "INSERT INTO workflow_versions (workflow_id, tenant_id, version, definition, created_by) "
            "VALUES ($1, $2, 1, $3::text::jsonb, $4)",
            workflow, tenant, text, user,
        )  # fmt: skip
        return Flow(tenant, workflow)

    async def execution(self, execution_id: uuid.UUID) -> asyncpg.Record:
        row: asyncpg.Record | None = await self.sql.fetchrow("SELECT * FROM executions WHERE id = $1", execution_id)
        assert row is not None
        return row

    async def ended(self, execution_id: uuid.UUID) -> asyncpg.Record:
        """Wait for the end of a run; return its row."""

        async def look() -> asyncpg.Record | None:
            row = await self.execution(execution_id)
            return row if row["status"] in ("completed", "failed", "cancelled") else None

        row: asyncpg.Record = await until(look, f"the end of {execution_id}")
        return row

    async def steps(self, execution_id: uuid.UUID) -> dict[tuple[str, int], asyncpg.Record]:
        """The recorded attempts of a run, by node and attempt."""
        rows = await self.sql.fetch("SELECT * FROM step_executions WHERE execution_id = $1", execution_id)
        found = {(row["node_id"], row["retry_count"] + 1): row for row in rows}
        assert len(found) == len(rows)
        return found

    async def states(self, execution_id: uuid.UUID) -> dict[str, str]:
        """The state of the last attempt of each step of a run."""
        return {node: row["status"] for (node, _), row in sorted((await self.steps(execution_id)).items())}

    async def queued(self, execution_id: uuid.UUID) -> asyncpg.Record | None:
        row: asyncpg.Record | None = await self.sql.fetchrow(
            "SELECT * FROM execution_queue WHERE execution_id = $1", execution_id
        )
        return row

    async def row(self, execution_id: uuid.UUID) -> asyncpg.Record:
        """The queue row of a live run."""
        row = await self.queued(execution_id)
        assert row is not None
        return row

    async def parked(self, execution_id: uuid.UUID) -> asyncpg.Record:
        """Wait until the run is parked; return its queue row."""

        async def look() -> asyncpg.Record | None:
            row = await self.queued(execution_id)
            return row if row is not None and row["owner"] is None and row["ready_at"] is None else None

        row: asyncpg.Record = await until(look, "the parking")
        return row

    async def resting(self, execution_id: uuid.UUID) -> asyncpg.Record:
        """Wait until the run is paused and nobody holds it; return its queue row."""

        async def look() -> asyncpg.Record | None:
            row = await self.row(execution_id)
            return row if row["owner"] is None and row["paused"] else None

        row: asyncpg.Record = await until(look, "the rest of a paused run")
        return row

    async def waits(self, execution_id: uuid.UUID) -> list[asyncpg.Record]:
        return list(await self.sql.fetch("SELECT * FROM waits WHERE execution_id = $1 ORDER BY due_at", execution_id))

    async def worker_ids(self, name: str) -> list[uuid.UUID]:
        return [row["id"] for row in await self.sql.fetch("SELECT id FROM workers WHERE name = $1", name)]

    async def blocked(self) -> int:
        """Wait until a session of this database waits for a lock; return its process id."""

        async def look() -> Any:
            await self.sql.execute("SELECT pg_stat_clear_snapshot()")
            return await self.sql.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )

        pid: int = await until(look, "a session that waits for a lock")
        return pid

    # --- time ---------------------------------------------------------------------------------------------------------

    async def expire(self, name: str) -> None:
        """Let the leases of workers of this name be over, by the database."""
        await self.sql.execute(
            "UPDATE workers SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE name = $1", name
        )

    async def rescue(self, name: str) -> None:
        """Let another worker's sweep find workers of this name dead, before their heartbeat can come."""
        async with self.sql.transaction():
            await self.expire(name)
            await self.sql.execute("SELECT gorax_sweep(1000)")

    async def make_due(self, execution_id: uuid.UUID) -> None:
        """Let everything that the run waits for be due."""
        async with self.sql.transaction():
            await self.sql.execute("SELECT 1 FROM execution_queue WHERE execution_id = $1 FOR UPDATE", execution_id)
            await self.sql.execute(
                "UPDATE execution_queue SET due_at = clock_timestamp() - interval '1 second' "
                "WHERE execution_id = $1 AND due_at IS NOT NULL", execution_id
            )  # fmt: skip
            await self.sql.execute(
                "UPDATE waits SET due_at = clock_timestamp() - interval '1 second' WHERE execution_id = $1",
                execution_id,
            )


def chain(*nodes: dict[str, Json], **more: Json) -> dict[str, Json]:
    """A manual trigger `begin` and nodes one after another."""
    ids = ["begin", *(node["id"] for node in nodes)]
    edges = [{"id": f"e{i}", "source": a, "target": b} for i, (a, b) in enumerate(itertools.pairwise(ids))]
    return {"nodes": [{"id": "begin", "type": "manual_trigger", "config": {}}, *nodes], "edges": edges, **more}


def fan(*nodes: dict[str, Json], **more: Json) -> dict[str, Json]:
    """A manual trigger `begin` and nodes beside one another."""
    edges = [{"id": f"e{i}", "source": "begin", "target": node["id"]} for i, node in enumerate(nodes)]
    return {"nodes": [{"id": "begin", "type": "manual_trigger", "config": {}}, *nodes], "edges": edges, **more}


def probe(id_: str, **more: Json) -> dict[str, Json]:
    return {"id": id_, "type": "probe", "config": {}, **more}


def tally(id_: str, **config: Json) -> dict[str, Json]:
    return {"id": id_, "type": "tally", "config": config}


def delay(id_: str, duration: str, **more: Json) -> dict[str, Json]:
    return {"id": id_, "type": "delay", "config": {"duration": duration}, **more}
