"""Leadership by terms: one leads, another takes over, and a duty's fault is told and waits."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import anyio
import pytest

from gorax_engine.errors import Unavailable
from gorax_engine.ops import leader
from gorax_engine.ops.leader import LEADERSHIP, Duty, lead
from gorax_engine.store import maintenance
from gorax_engine.store.session import Session, open_session
from tests.engine.conftest import engine_dsns, world  # noqa: F401
from tests.engine.harness import World, until


@pytest.fixture
async def session(world: World) -> AsyncIterator[Session]:  # noqa: F811
    async with open_session(world.dsn, "gorax_worker") as session:
        yield session


class Counted:
    """A duty that counts; it may fail."""

    def __init__(self, every: float = 0.01) -> None:
        self.runs = 0
        self.fails: Exception | None = None
        self.duty = Duty(uuid.uuid4().hex, every, self.run)

    async def run(self) -> None:
        self.runs += 1
        if self.fails is not None:
            raise self.fails

    async def reach(self, runs: int) -> None:
        async def there() -> bool:
            return self.runs >= runs

        await until(there)


async def test_a_term_is_held_renewed_and_taken_over(session: Session, world: World) -> None:  # noqa: F811
    first, second = uuid.uuid4(), uuid.uuid4()
    assert await maintenance.hold_term(session, "d", first, 15.0) == 1
    assert await maintenance.hold_term(session, "d", second, 15.0) is None
    assert await maintenance.hold_term(session, "d", first, 15.0) == 1
    assert await maintenance.hold_term(session, "other", second, 15.0) == 1
    await world.sql.execute("UPDATE leaderships SET expires_at = clock_timestamp() WHERE duty = 'd'")
    assert await maintenance.hold_term(session, "d", second, 15.0) == 2
    assert await maintenance.hold_term(session, "d", first, 15.0) is None
    await maintenance.resign(session, "d", first)  # no longer his to give up
    assert await maintenance.hold_term(session, "d", first, 15.0) is None
    await maintenance.resign(session, "d", second)
    assert await maintenance.hold_term(session, "d", first, 15.0) == 1


async def test_one_leads_and_when_it_stops_another_does(
    session: Session,
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leader, "RENEW", 0.02)
    one, two = Counted(), Counted()
    async with open_session(world.dsn, "gorax_worker") as other, anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def leads() -> None:
            with first:
                await lead(session, [one.duty])

        tasks.start_soon(leads)
        await one.reach(2)
        tasks.start_soon(lead, other, [two.duty])
        await one.reach(one.runs + 10)
        assert two.runs == 0
        first.cancel()  # it resigns, so that nobody waits for its term to end
        await two.reach(1)
        told = one.runs
        await two.reach(3)
        assert one.runs == told
        tasks.cancel_scope.cancel()


async def test_a_leader_that_cant_renew_stops_before_its_term_ends(
    session: Session,
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leader, "RENEW", 0.02)
    monkeypatch.setattr(leader, "TERM", 1.0)
    monkeypatch.setattr(leader, "MARGIN", 0.8)
    one = Counted()
    real = maintenance.hold_term
    asked = []

    async def away(*arguments: object) -> int | None:
        asked.append(1)
        if len(asked) > 1:
            raise Unavailable("away")
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(maintenance, "hold_term", away)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead, session, [one.duty])
        await one.reach(1)
        with anyio.fail_after(5):
            before = -1
            while before != one.runs or len(asked) < 15:
                before = one.runs
                await anyio.sleep(0.1)
        # By the database the term still runs: it stopped by itself.
        assert await world.sql.fetchval("SELECT count(*) FROM leaderships") == 1
        tasks.cancel_scope.cancel()
    assert one.runs < 30


@pytest.mark.parametrize("fault", [Unavailable("away"), RuntimeError("a bug")])
async def test_a_fault_of_a_duty_waits_for_the_next_round(session: Session, fault: Exception) -> None:
    one, two = Counted(), Counted()
    one.fails = fault
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead, session, [one.duty, two.duty])
        await one.reach(3)
        await two.reach(3)
        tasks.cancel_scope.cancel()


async def test_each_duty_has_its_own_pace(session: Session) -> None:
    often, seldom = Counted(0.01), Counted(3600.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead, session, [often.duty, seldom.duty])
        await often.reach(10)
        tasks.cancel_scope.cancel()
    assert seldom.runs == 1
    assert LEADERSHIP == "maintenance"
