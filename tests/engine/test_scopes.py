"""Scopes in each other: what a run of them leaves behind, undisturbed and when every flush may be a worker's last."""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.core.walk import loops
from gorax_engine.engine import parking
from gorax_engine.nodes.api import Classification, Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.store import events, queue
from gorax_engine.store.session import LeaseLost, Session, open_session
from gorax_engine.triggers.events import new_event
from tests.acceptance.nesting import (
    CHILD,
    EVENT,
    LEAVES,
    OK,
    SCOPES,
    Expected,
    Piece,
    child_definition,
    definition,
    piece,
    plain,
)
from tests.engine.harness import DEADLINE, World, until

pytestmark = pytest.mark.timeout(180)

HOUR = 3600 * 1_000_000
ENDED = ("completed", "failed", "cancelled")


def effect(id: str, fails: int, more: Mapping[str, Json]) -> dict[str, Json]:
    """An effect here is a probe."""
    return {"id": id, "type": "probe", "config": {"fails": fails}, **more}


def meant(value: Mapping[str, Json]) -> Json | None:
    return OK if "answered" in value else None


@dataclass(frozen=True)
class Call:
    generation: int
    execution: str
    node: str
    path: str
    key: str


@dataclass
class Outside:
    """What probes act on: it answers by how often it was asked under a key, as far as that is on record."""

    world: World
    generation: int = 0
    calls: list[Call] = field(default_factory=list)
    answered: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    async def act(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        where = (context.execution_id, context.node_id, context.path)
        self.calls.append(Call(self.generation, *where, context.idempotency_key))
        await anyio.sleep(0)
        self.answered[where] += 1
        if self.answered[where] <= config["fails"]:
            return Failed(StepError("busy", "It is busy.", Classification.TRANSIENT))
        return Completed({"answered": self.answered[where]})

    async def forget(self) -> Counter[tuple[str, str, str]]:
        """A worker has died: what it was told and had not recorded is as if it was never said. Return what is left."""
        rows = await self.world.sql.fetch(
            "SELECT execution_id, node_id, iteration_path FROM step_executions WHERE node_type = 'probe' "
            "AND status IN ('completed', 'failed') AND error_code IS DISTINCT FROM 'cancelled'"
        )
        self.answered = Counter((str(row[0]), row[1], row[2]) for row in rows)
        self.generation += 1
        return Counter(self.answered)


@dataclass
class Cut:
    """Lets so many flushes of a worker be committed, and no more; it never hears that the last one was."""

    allowed: int
    reached: anyio.Event = field(default_factory=anyio.Event)
    dead: anyio.Event = field(default_factory=anyio.Event)
    done: int = 0

    def again(self, allowed: int) -> None:
        self.reached, self.dead, self.done, self.allowed = anyio.Event(), anyio.Event(), 0, allowed

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = queue.flush

        async def flush(session: Session, worker: uuid.UUID, rows: queue.Flush) -> queue.Flushed:
            if self.done < self.allowed:
                self.done += 1
                flushed = await real(session, worker, rows)
                if self.done < self.allowed:
                    return flushed
            self.reached.set()
            await self.dead.wait()
            raise LeaseLost("it is dead")

        monkeypatch.setattr(queue, "flush", flush)


async def bring(world: World, session: Session) -> None:
    """Decide every task, and publish an event for every wait, that is open now."""
    tasks = await world.apart(
        "SELECT t.id, t.tenant_id FROM human_tasks t JOIN waits w ON w.step_id::text = t.step_id "
        "WHERE t.status = 'pending' AND NOT EXISTS (SELECT 1 FROM signals s WHERE s.step_id = w.step_id)"
    )
    for task in tasks:
        ended: list[Json] = [
            {
                "tenant_id": str(task["tenant_id"]),
                "task_id": str(task["id"]),
                "status": "approved",
                "by": None,
                "response": {},
            }
        ]
        await world.apart("SELECT * FROM gorax_end_tasks($1::text::jsonb)", json.dumps(ended))
    waits = await world.apart(
        "SELECT w.tenant_id, w.correlation_key FROM waits w WHERE w.kind = 'event' "
        "AND NOT EXISTS (SELECT 1 FROM signals s WHERE s.step_id = w.step_id)"
    )
    for wait in waits:
        event = new_event(wait["tenant_id"], EVENT, wait["correlation_key"], {}, HOUR, None)
        published = await events.insert(session, event)
        while not await events.match_events(session, [published.id]):
            pass


async def bring_all(world: World) -> None:
    """Do so until cancelled."""
    async with open_session(world.dsn, "gorax_worker") as session:
        while True:
            await bring(world, session)
            await anyio.sleep(0.03)


async def start_all(world: World, pieces: list[Piece], outside: Outside) -> dict[str, uuid.UUID]:
    """Start a run of each piece, with nobody there to run it; return the ids by name."""
    tenant = await world.tenant()
    await world.flow(child_definition(), tenant=tenant, name=CHILD)
    acceptor = await world.member("api", roles=())
    runs = {}
    for made in pieces:
        workflow = definition(made, effect)
        for node in workflow["nodes"]:
            if node["type"] == "probe":
                world.probe.acts[node["id"]] = outside.act
        flow = await world.flow(workflow, tenant=tenant)
        runs[made.name] = (await acceptor.start(flow)).execution_id
    return runs


async def all_ended(world: World) -> bool:
    assert not world.failures, world.failures
    return not await world.sql.fetchval("SELECT count(*) FROM execution_queue")


async def compare(world: World, made: Piece, execution_id: uuid.UUID, outside: Outside) -> list[str]:
    """Say what is not as it must be."""
    expected = Expected(made)
    row = await world.execution(execution_id)
    if row["status"] != "completed":
        return [f"{made.name}: {row['status']}, {row['error_code']}: {row['error_message']}"]
    faults = []
    output = plain(json.loads(row["output_data"]), meant)
    if output != expected.output:
        faults.append(f"{made.name}: output {output}, not {expected.output}")
    found = await world.sql.fetch(
        "SELECT node_id, iteration_path, round, retry_count + 1, status FROM step_executions WHERE execution_id = $1",
        execution_id,
    )
    rows, wanted = Counter(tuple(each) for each in found), Counter(expected.rows)
    if rows != wanted:
        faults.append(f"{made.name}: rows too many {list(rows - wanted)}, missing {list(wanted - rows)}")
    keys = {call.key for call in outside.calls if call.execution == str(execution_id)}
    if keys != {f"{execution_id}:{node}:{path}" for node, path in expected.calls}:
        faults.append(f"{made.name}: keys {sorted(keys)}")
    return faults


async def nothing_left(world: World) -> None:
    unstarted = "SELECT node_id, node_type FROM step_executions WHERE started_at IS NULL AND status <> 'skipped'"
    assert await world.sql.fetch(unstarted) == []
    for table in ("waits", "signals", "execution_queue", "loop_progress"):
        assert await world.sql.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    assert await world.sql.fetchval("SELECT count(*) FROM human_tasks WHERE status = 'pending'") == 0


PAIRS = [piece(outer, inner) for outer, inner in product(SCOPES, LEAVES)]
NESTED = [piece(outer, inner, leaf) for outer, inner in product(SCOPES, SCOPES) for leaf in ("task", "formula")]
WAITING = [
    piece(outer, inner, leaf)
    for outer, inner in product(("loop_concurrent", "retry", "finally", "catch", "parallel", "node_retry"), SCOPES)
    for leaf in ("human_task", "wait_for_event", "sub_workflow")
]

LOOPS = [
    piece(*kinds)
    for loop, other, leaf in product(("loop", "loop_concurrent"), SCOPES, LEAVES)
    for kinds in ((loop, other, leaf), (other, loop, leaf))
]


@pytest.mark.parametrize("pieces", [PAIRS, NESTED, WAITING], ids=["pairs", "nested", "waiting"])
async def test_what_a_run_leaves_behind(world: World, pieces: list[Piece]) -> None:
    outside = Outside(world)
    runs = await start_all(world, pieces, outside)
    await world.member(slots=1000)
    async with anyio.create_task_group() as beside:
        beside.start_soon(bring_all, world)
        with anyio.move_on_after(4 * DEADLINE):
            while not await all_ended(world):
                await anyio.sleep(0.05)
        beside.cancel_scope.cancel()
    faults = [fault for made in pieces for fault in await compare(world, made, runs[made.name], outside)]
    assert not faults, "\n".join(faults)
    for made in pieces:
        calls = Counter((call.node, call.path) for call in outside.calls if call.execution == str(runs[made.name]))
        assert calls == Expected(made).calls, made.name
    await nothing_left(world)


@pytest.mark.parametrize(
    ("pieces", "seed", "parks", "folds"),
    [
        (PAIRS, 1, False, 0),
        (PAIRS, 2, True, 0),
        (NESTED, 3, False, 0),
        (NESTED, 4, True, 0),
        (WAITING, 5, False, 0),
        (WAITING, 6, True, 0),
        (LOOPS, 7, False, 1),
        (LOOPS, 8, True, 2),
    ],
    ids=["pairs", "pairs-parked", "nested", "nested-parked", "waiting", "waiting-parked", "folded", "folded-parked"],
)
async def test_every_flush_may_be_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch, pieces: list[Piece], seed: int, parks: bool, folds: int
) -> None:
    """Worker after worker dies after so many flushes: the last was committed, and nobody heard of it."""
    if parks:
        monkeypatch.setattr(parking, "PARK_AFTER", 0)
    if folds:
        monkeypatch.setattr(loops, "FOLD", folds)
    rng = random.Random(seed)
    pieces = rng.sample(pieces, 60)
    cut = Cut(1)
    cut.install(monkeypatch)
    outside = Outside(world)
    runs = await start_all(world, pieces, outside)
    kept: dict[uuid.UUID, Any] = {}
    ended_before: list[Counter[tuple[str, str, str]]] = [Counter()]
    async with anyio.create_task_group() as beside:
        beside.start_soon(bring_all, world)
        while not await all_ended(world):
            member = await world.member(f"g{outside.generation}", slots=1000, poll=0.05)

            async def over() -> bool:
                return cut.reached.is_set() or await all_ended(world)

            await until(over, f"the end of generation {outside.generation}")
            member.scope.cancel()
            cut.dead.set()
            await member.crash()
            cut.again(rng.choice((1, 2, 3, 5, 8)))
            ended_before.append(await outside.forget())
            await world.rescue(member.name)
            await world.sql.execute("UPDATE execution_queue SET crashes = 0")
            for row in await world.sql.fetch(
                "SELECT id, status, output_data, error_code, completed_at FROM step_executions "
                "WHERE completed_at IS NOT NULL"
            ):
                assert kept.setdefault(row["id"], row) == row
            assert outside.generation < 400
        beside.cancel_scope.cancel()
    faults = [fault for made in pieces for fault in await compare(world, made, runs[made.name], outside)]
    assert not faults, "\n".join(faults)
    for made in pieces:
        total = Expected(made).calls
        for generation, ended in enumerate(ended_before):
            calls = Counter(
                (call.node, call.path)
                for call in outside.calls
                if call.execution == str(runs[made.name]) and call.generation == generation
            )
            for (node, path), times in calls.items():
                left = total[node, path] - ended[str(runs[made.name]), node, path]
                assert times <= left, f"{made.name}: {node} at {path} was called again in generation {generation}"
    await nothing_left(world)
