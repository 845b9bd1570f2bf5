"""One process of the bench: the engine as the daemon composes it, driven in a closed loop, or a writer of the limit.

Takes a job as JSON in its argument, says `ready`, waits for a line on standard input, works, and prints its result as
JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp
import anyio
import anyio.to_thread

from gorax_engine import __version__
from gorax_engine.bench.workload import BODY, Hold, Noop, limit_run
from gorax_engine.daemon import RunningEngine, open_engine, settle_memory
from gorax_engine.engine.starting import StartKey, StartRequest
from gorax_engine.ops.metrics import Metrics
from gorax_engine.settings import load_settings
from gorax_engine.store import bench
from gorax_engine.store import queue as queue_store
from gorax_engine.store import workers as workers_store
from gorax_engine.store.session import open_session
from gorax_engine.telemetry import Telemetry, configure_logging

if TYPE_CHECKING:
    from gorax_engine.settings import Settings


@dataclass(frozen=True, slots=True)
class Job:
    """What a child does: `kind` drive, limit, claim, hold or bare; the rest as that kind needs it."""

    kind: str
    dsn: str
    tenant_id: str
    workflow_id: str
    count: int = 0
    concurrency: int = 200
    slots: int = 200
    steps: int = 10
    mode: str = "pure"
    copy: bool = False
    lease: float = 15.0
    warm: int = 20

    @property
    def seeded(self) -> bench.Seeded:
        """The tenant and the workflow."""
        return bench.Seeded(UUID(self.tenant_id), UUID(self.workflow_id))


def main() -> None:
    """Carry out the job in argv."""
    job = Job(**json.loads(sys.argv[1]))
    configure_logging("warning", "json", stream=sys.stderr)
    work = {"drive": _drive, "limit": _limit, "claim": _claim, "hold": _drive, "bare": _bare}[job.kind]
    result = anyio.run(work, job, backend_options={"use_uvloop": True})
    print(json.dumps(result), flush=True)


async def _go() -> None:
    print("ready", flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline)


def _settings(job: Job) -> Settings:
    return load_settings(
        database={"dsn": job.dsn},
        worker={"slots": job.slots, "lease": job.lease, "heartbeat": job.lease / 3, "poll": 1.0},
        outbound={"allow": ("127.0.0.0/8",)},
    )


async def _drive(job: Job) -> dict[str, Any]:
    """Start `count` runs, `concurrency` at a time, each when one before it has ended; wait for the last."""
    telemetry = Telemetry()
    metrics = Metrics(__version__, "bench")
    telemetry.subscribe(metrics.observe)
    name = f"bench:{uuid4().hex[:8]}"
    roles = frozenset({"worker"})
    async with open_engine(
        _settings(job), roles=roles, name=name, telemetry=telemetry, nodes=[Noop(), Hold()]
    ) as engine:
        # The first runs compile the plan, prepare the statements and warm the caches.
        await _starts(engine, job, job.warm if job.kind == "drive" else 0, 10)
        settle_memory()
        await _go()
        began, cpu = time.time(), time.process_time()
        if job.kind == "hold":
            await _hold(engine, job)
            return {}
        latencies = await _starts(engine, job, job.count, job.concurrency)
        return {
            "began": began,
            "ended": time.time(),
            "cpu": time.process_time() - cpu,
            "latencies": latencies,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


async def _starts(engine: RunningEngine, job: Job, count: int, concurrency: int) -> list[float]:
    latencies: list[float] = []
    left = iter(range(count))

    async def loop() -> None:
        for _ in left:
            began = time.perf_counter()
            started = await engine.operations.start(_request(job))
            await engine.completions.wait(started.execution_id, 600)
            latencies.append((time.perf_counter() - began) * 1000)

    async with anyio.create_task_group() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(loop)
    return latencies


async def _hold(engine: RunningEngine, job: Job) -> None:
    """Start `count` runs without waiting for their end, say so, and stay until told to go."""
    left = iter(range(job.count))

    async def loop() -> None:
        for _ in left:
            await engine.operations.start(_request(job))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(loop)
    await _go()


def _request(job: Job) -> StartRequest:
    key = StartKey("idempotency", str(uuid4()), b"x" * 32, timedelta(days=1))
    return StartRequest(UUID(job.tenant_id), UUID(job.workflow_id), "api", {"body": BODY}, start_key=key)


async def _limit(job: Job) -> dict[str, Any]:
    role = None if job.copy else "gorax_worker"
    make = partial(limit_run, job.mode, job.steps)
    await bench.write_limit(job.dsn, role, job.seeded, make, bench.BATCH, copy=job.copy)
    settle_memory()
    await _go()
    began = time.time()
    await bench.write_limit(job.dsn, role, job.seeded, make, job.count, copy=job.copy)
    return {"began": began, "ended": time.time()}


async def _claim(job: Job) -> dict[str, Any]:
    """Claim in batches of 100 as a registered worker; only the claims are timed."""
    worker_id = uuid4()
    seconds = 0.0
    async with open_session(job.dsn, "gorax_worker") as session:
        await workers_store.register(session, worker_id, "bench", __version__, ["worker"], 1000, 600_000)
        await queue_store.claim(session, worker_id, 100)
        await bench.unclaim(job.dsn, worker_id)
        await _go()
        claimed = 0
        for _ in range(job.count):
            for _ in range(8):
                began = time.perf_counter()
                claimed += len(await queue_store.claim(session, worker_id, 100))
                seconds += time.perf_counter() - began
            await bench.unclaim(job.dsn, worker_id)
        await workers_store.release(session, worker_id)
    return {"claimed": claimed, "seconds": seconds}


async def _bare(job: Job) -> dict[str, Any]:
    """Make `count` calls to the server at `mode`, `concurrency` at a time, with the engine's HTTP library alone."""
    await _go()
    left = iter(range(job.count))

    async def calls(session: aiohttp.ClientSession) -> None:
        for number in left:
            async with session.post(job.mode, json={"n": number}) as answer:
                await answer.json()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for _ in range(job.concurrency):
                tasks.start_soon(calls, session)
        seconds = time.perf_counter() - began
    return {"calls_per_s": job.count / seconds}


if __name__ == "__main__":
    main()
