"""The queue row is the mutex: everybody locks queue rows first, all of them, in the order of their ids."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.engine.entries import Owner
from gorax_engine.errors import Conflict
from gorax_engine.nodes.api import Completed, NodeContext, Outcome
from gorax_engine.store import queue, workers
from gorax_engine.store.session import Session, open_session
from tests.engine.harness import Member, World, chain, delay, fan, probe, tally, until

Act = Callable[[Session, uuid.UUID, list[queue.Claim]], Coroutine[Any, Any, object]]


async def _flush(session: Session, worker: uuid.UUID, claims: list[queue.Claim]) -> object:
    fence = [Owner(claim.execution_id, claim.tenant_id, claim.token, lambda: None).fence for claim in claims]
    return await queue.flush(session, worker, queue.Flush(fence=fence))


async def _sweep(session: Session, worker: uuid.UUID, claims: list[queue.Claim]) -> object:
    return await queue.sweep(session, 100)


async def _release(session: Session, worker: uuid.UUID, claims: list[queue.Claim]) -> object:
    return await workers.release(session, worker)


async def _hand_back(session: Session, worker: uuid.UUID, claims: list[queue.Claim]) -> object:
    return await workers.hand_back(session, worker, [(claim.execution_id, claim.token) for claim in claims])


@pytest.mark.parametrize("act", [_flush, _sweep, _release, _hand_back])
async def test_rows_are_locked_in_the_order_of_their_ids(world: World, act: Act) -> None:
    """The first row is taken by somebody else: whoever waits for it must hold none of the later ones."""
    acceptor = await world.member("api", roles=())
    flow = await world.flow(chain(tally("a")))
    for _ in range(5):
        await acceptor.start(flow)
    async with open_session(world.dsn, "gorax_worker") as session:
        worker = uuid.uuid4()
        await workers.register(session, worker, "w", "0", ["worker"], 10, 600_000)
        claims = sorted(await queue.claim(session, worker, 10), key=lambda claim: claim.execution_id, reverse=True)
        assert len(claims) == 5
        if act is _sweep:
            await world.expire("w")
        async with anyio.create_task_group() as tasks, world.sql.transaction():
            await world.sql.execute(
                "SELECT 1 FROM execution_queue WHERE execution_id = $1 FOR UPDATE", claims[-1].execution_id
            )
            tasks.start_soon(act, session, worker, claims)
            await world.blocked()
            for claim in claims[:-1]:
                await world.sql.execute(
                    "SELECT 1 FROM execution_queue WHERE execution_id = $1 FOR UPDATE NOWAIT", claim.execution_id
                )


async def test_a_storm_on_the_same_rows_knows_no_deadlock(world: World) -> None:
    """Flushes, cancels, sweeps, rescues and drains of the same runs, at once."""
    dice = random.Random(7)

    async def act(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await anyio.sleep(dice.random() * 0.02)
        return Completed({})

    world.probe.acts = dict.fromkeys(("p", "q", "r"), act)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await world.sql.fetchval(deadlocks)
    flow = await world.flow(fan(probe("p"), probe("q"), delay("pause", "20ms")))
    limited = await world.flow(
        chain(probe("r"), tally("a")), tenant=await world.tenant(quotas={"max_concurrent_executions": 3})
    )
    members = [await world.member(f"w{n}", heartbeat=0.1) for n in range(2)]
    spare: list[Member] = []
    runs: list[tuple[uuid.UUID, uuid.UUID]] = []

    async def start() -> None:
        for turn in range(100):
            which = limited if turn % 5 == 0 else flow
            started = await members[turn % 2].start(which)
            runs.append((which.tenant, started.execution_id))

    async def cancel() -> None:
        for _ in range(40):
            await until(lambda: _any(runs))
            tenant, execution_id = dice.choice(runs)
            with contextlib.suppress(Conflict):
                await members[0].engine.operations.cancel(tenant, execution_id, "storm")
            await anyio.sleep(0.005)

    async def crash() -> None:
        for turn in range(3):
            victim = await world.member(f"victim{turn}", slots=20)
            spare.append(victim)
            await anyio.sleep(0.1)
            await victim.crash()
            await world.expire(victim.name)

    async def sweep() -> None:
        async with open_session(world.dsn, "gorax_worker") as session:
            for _ in range(100):
                await queue.sweep(session, 100)

    async with anyio.create_task_group() as tasks:
        for storm in (start, start, cancel, crash, sweep, sweep):
            tasks.start_soon(storm)
    for _, execution_id in runs:
        await world.ended(execution_id)
    for member in members:
        await member.drain()
    await world.sql.execute("SELECT pg_stat_clear_snapshot()")
    assert await world.sql.fetchval(deadlocks) == before
    assert await world.sql.fetchval("SELECT count(*) FROM execution_queue") == 0
    assert await world.sql.fetchval("SELECT count(*) FROM waits") == 0
    assert len(runs) == 200


async def _any(things: list[Any]) -> bool:
    return bool(things)
