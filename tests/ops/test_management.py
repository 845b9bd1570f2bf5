"""The management port: what each address says, and how rarely it asks the database."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from gorax_engine.errors import Unavailable
from gorax_engine.ops.management import CHECK_EVERY, QUEUE_EVERY, HealthChecks, ManagementApp, QueueState
from gorax_engine.ops.metrics import Metrics

pytestmark = pytest.mark.anyio


class World:
    """What the process is like."""

    def __init__(self) -> None:
        self.now, self.started, self.draining = 0.0, True, False
        self.fault: Exception | None = None
        self.checks = self.looks = 0

    async def check(self) -> None:
        self.checks += 1
        if self.fault:
            raise self.fault

    async def look(self) -> QueueState:
        self.looks += 1
        if self.fault:
            raise self.fault
        return QueueState({"ready": 1}, 2.0, 0, 3)

    def client(self) -> httpx2.AsyncClient:
        checks = HealthChecks(self.check, self.look, lambda: self.started, lambda: self.draining)
        app: Any = ManagementApp(Metrics("0", "w"), checks, clock=lambda: self.now)
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://m")


async def test_health() -> None:
    world = World()
    async with world.client() as client:
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert world.checks == 1
        world.fault = Unavailable("gone")
        assert (await client.get("/readyz")).status_code == 200
        world.now += CHECK_EVERY
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (503, "gone")
        asked = world.checks
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/startupz")).status_code == 200
        assert world.checks == asked
        world.draining = True
        assert (await client.get("/readyz")).json()["reason"] == "draining"
        world.started = False
        assert (await client.get("/startupz")).status_code == 503
        assert (await client.get("/readyz")).status_code == 503


async def test_metrics_look_at_the_queue_now_and_then() -> None:
    world = World()
    async with world.client() as client:
        for _ in range(3):
            assert 'gorax_queue_depth{state="ready"} 1.0' in (await client.get("/metrics")).text
        assert world.looks == 1
        world.fault = Unavailable("gone")
        world.now += QUEUE_EVERY
        answer = await client.get("/metrics")
        assert answer.status_code == 200
        assert "gorax_queue_depth" not in answer.text


async def test_anything_else() -> None:
    async with World().client() as client:
        assert (await client.get("/api/v1/workflows")).status_code == 404
        assert (await client.post("/metrics")).headers["allow"] == "GET, HEAD"
        assert (await client.head("/livez")).content == b""
