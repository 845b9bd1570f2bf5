"""Look-ups: fresh for a while, loaded once at a time, errors told to all who wait and not kept."""

from __future__ import annotations

import anyio
import pytest

from gorax_engine.store.lookup_cache import LookupCache

pytestmark = pytest.mark.anyio


class Source:
    def __init__(self) -> None:
        self.loads: list[str] = []
        self.gate = anyio.Event()
        self.fails: Exception | None = None

    async def load(self, key: str) -> str:
        self.loads.append(key)
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return key.upper()


async def test_many_ask_and_one_loads() -> None:
    source, got = Source(), []
    cache = LookupCache(source.load, ttl=1)

    async def ask() -> None:
        got.append(await cache.get("a"))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        source.gate.set()
    assert (got, source.loads) == (["A"] * 20, ["a"])


async def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    source, failed = Source(), []
    source.fails = OSError("gone")
    cache = LookupCache(source.load, ttl=1)

    async def ask() -> None:
        try:
            await cache.get("a")
        except OSError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        source.gate.set()
    assert (len(failed), source.loads) == (5, ["a"])
    source.fails = None
    assert await cache.get("a") == "A"


async def test_who_is_cancelled_takes_nobody_along() -> None:
    source, got = Source(), []
    cache = LookupCache(source.load, ttl=1)

    async def ask() -> None:
        got.append(await cache.get("a"))

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as first:
                first.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        source.gate.set()
    assert (got, source.loads) == (["A"], ["a", "a"])


async def test_entries_age_and_are_bounded() -> None:
    source, now = Source(), 0.0
    source.gate.set()
    cache = LookupCache(source.load, ttl=1, max_entries=2, clock=lambda: now)
    for key in "abc":
        await cache.get(key)
    await cache.get("c")
    await cache.get("a")
    assert source.loads == ["a", "b", "c", "a"]
    now = 1.0
    await cache.get("a")
    cache.forget("a")
    await cache.get("a")
    assert source.loads[4:] == ["a", "a"]


async def test_what_is_not_to_be_kept_is_asked_for_anew() -> None:
    source = Source()
    source.gate.set()
    cache = LookupCache(source.load, ttl=1, keep=lambda value: value != "A")
    assert [await cache.get(key) for key in "aabb"] == ["A", "A", "B", "B"]
    assert source.loads == ["a", "a", "b"]


async def test_who_comes_while_it_loads_is_not_given_an_older_answer() -> None:
    source, got = Source(), []
    cache = LookupCache(source.load, ttl=1, keep=lambda value: False)

    async def ask() -> None:
        got.append(await cache.get("a"))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        source.gate.set()
    # The first one's load began before the others came; one more serves them all.
    assert (got, source.loads) == (["A"] * 5, ["a", "a"])
