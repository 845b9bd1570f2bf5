"""The modes of `gorax bench`: what each runs and measures, and what it is held against."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Final
from uuid import UUID, uuid4

import anyio

from gorax_engine.bench import load, workload
from gorax_engine.bench.child import Job
from gorax_engine.bench.processes import BenchFailed, child, run_together
from gorax_engine.core.json_edge import encode
from gorax_engine.core.model import Json
from gorax_engine.store import bench
from gorax_engine.vault.local_key import LocalKey, new_key_text
from gorax_engine.vault.sealed_text import SealedTexts

PARKED: Final = 100_000
IN_FLIGHT: Final = 1_000
IDLE_SECONDS: Final = 15.0
BACKLOG: Final = 1_000_000
IDLE_SCHEDULES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for.

    `copy_dsn` is a superuser's, for the limit by COPY; without it unnest is the limit.
    """

    mode: str
    executions: int
    steps: int
    processes: int
    copy_dsn: str | None = None


Result = dict[str, Any]
Mode = Callable[[str, Options], Awaitable[Result]]


async def throughput(dsn: str, options: Options) -> Result:
    """`pure`, `durable`: the limit and the engine in turn on the same server, each with the same processes."""
    definition = (workload.pure if options.mode == "pure" else workload.durable)(options.steps)
    limits = await _limit(dsn, options)
    engine = await _engine(dsn, options, definition)
    return {**engine, "limits": limits, "limit_executions_per_s": max(limits.values())}


async def http(dsn: str, options: Options) -> Result:
    """`http`: chains of calls to a server on loopback."""
    async with load.answering_server() as url:
        return await _engine(dsn, options, workload.http(options.steps, url))


async def latency(dsn: str, options: Options) -> Result:
    """`latency`: one 1-step run at a time on an idle system, from the start call to the committed end."""
    return await _engine(dsn, replace(options, processes=1, steps=1), workload.durable(1), concurrency=1)


async def fanout(dsn: str, options: Options) -> Result:
    """`fanout`: one run of `steps` parallel tasks, from the start call to the committed end."""
    return await _engine(dsn, replace(options, processes=1), workload.fanout(options.steps), concurrency=1)


async def webhook(dsn: str, options: Options) -> Result:
    """`webhook`: signed deliveries, each with its id, through three filters, to one process that only accepts."""
    path, secret, key = f"bench-{uuid4().hex}", uuid4().hex, new_key_text()
    seeded = await bench.seed(dsn, encode(workload.webhook()))
    sealed = await SealedTexts(LocalKey(base64.b64decode(key))).seal(seeded.tenant_id, secret)
    await bench.add_webhook(dsn, seeded, path, sealed)
    async with load.key_file(key) as key_file, load.daemon(dsn, roles="api", key_file=key_file) as served:
        url = f"{served.url}/webhooks/{path}"
        await load.deliver(url, 200, 32, secret)
        before = await bench.commits(dsn)
        seconds, latencies = await load.deliver(url, options.executions, 64, secret)
        commits = await bench.commits(dsn) - before
    return {
        "seconds": seconds,
        "executions_per_s": options.executions / seconds,
        "commits_per_execution": commits / options.executions,
        "latency_ms": percentiles(latencies),
        "processes": 1,
        "steps": 0,
    }


async def claim(dsn: str, options: Options) -> Result:
    """`claim`: rows claimed per second with 1,000 ready rows and with 1,000,000."""
    seeded = await bench.seed(dsn, encode(workload.pure(1)))
    rates: dict[int, float] = {}
    for backlog in (1_000, BACKLOG):
        await bench.fill_queue(dsn, seeded, backlog)
        (result,) = await run_together([_job("claim", dsn, seeded, count=max(1, options.executions // 800))])
        rates[backlog] = result["claimed"] / result["seconds"]
    return {
        "claims_per_s": {str(backlog): rate for backlog, rate in rates.items()},
        "claim_ratio": rates[BACKLOG] / rates[1_000],
        "processes": 1,
    }


async def idle(dsn: str, _options: Options) -> Result:
    """`idle`: what a worker costs that has nothing to do."""
    async with load.daemon(dsn, roles="worker") as served:
        await anyio.sleep(3)
        before, cpu = await bench.commits(dsn), served.cpu_seconds()
        await anyio.sleep(IDLE_SECONDS)
        # Asking for the counter is a commit itself.
        statements = (await bench.commits(dsn) - before - 1) / IDLE_SECONDS
        return {
            "cpu_percent_of_a_core": (served.cpu_seconds() - cpu) / IDLE_SECONDS * 100,
            "statements_per_s": statements,
            "rss_mb": served.rss_mb(),
            "processes": 1,
        }


async def memory(dsn: str, options: Options) -> Result:
    """`memory`: resident memory of a worker that is idle, holds 1,000 runs, and has parked 100,000."""
    result: Result = {"processes": 1}
    async with load.daemon(dsn, roles="worker") as served:
        await anyio.sleep(3)
        result["idle_mb"] = served.rss_mb()
    held = await bench.seed(dsn, encode(workload.hold(600)))
    async with child(_job("hold", dsn, held, count=IN_FLIGHT, slots=IN_FLIGHT + 10)) as holder:
        await holder.ready()
        await holder.go()
        await holder.ready()
        result["in_flight"] = (await bench.backlog(dsn))["running"]
        result["in_flight_mb"] = load.rss_mb(holder.process.pid)
    await _forget_runs(dsn)
    waiting = await bench.seed(dsn, encode(workload.parked("2h")))
    async with child(_job("hold", dsn, waiting, count=options.executions)) as parker:
        await parker.ready()
        result["before_parking_mb"] = load.rss_mb(parker.process.pid)
        await parker.go()
        await parker.ready()
        while (await bench.backlog(dsn))["parked"] < options.executions:
            await anyio.sleep(0.5)
        result["parked"] = options.executions
        result["parked_mb"] = load.rss_mb(parker.process.pid)
    return result


async def recovery(dsn: str, options: Options) -> Result:
    """`recovery`: kill -9 of a worker with 200 runs in flight; when has another one taken all of them over?"""
    lease = 15.0
    seeded = await bench.seed(dsn, encode(workload.hold(600)))
    job = _job("hold", dsn, seeded, count=options.executions, slots=options.executions + 10, lease=lease)
    async with child(job) as victim, child(replace(job, count=0)) as heir:
        await victim.ready()
        await victim.go()
        await victim.ready()
        await heir.ready()
        await heir.go()
        await heir.ready()
        (owner,) = await bench.owners(dsn)
        victim.process.kill()
        began = anyio.current_time()
        while True:
            owners = await bench.owners(dsn)
            resumed = sum(runs for worker, runs in owners.items() if worker != owner)
            if resumed == options.executions:
                break
            await anyio.sleep(0.02)
        seconds = anyio.current_time() - began
    return {"lease_s": lease, "resumed": resumed, "all_resumed_after_s": seconds, "processes": 2}


async def loop(dsn: str, options: Options) -> Result:
    """`loop`: runs of one loop of `steps` pure iterations, against as many steps in short chains of the same node."""
    chains = replace(options, executions=options.executions * options.steps // 10, steps=10, processes=1)
    flat = await _engine(dsn, chains, workload.pure(10))
    one = replace(options, processes=1)
    looped = await _engine(dsn, one, workload.loop(options.steps), concurrency=1, warm=1)
    rate = looped["steps_per_s"]
    return {**looped, "pure_steps_per_s": flat["steps_per_s"], "ratio": rate / flat["steps_per_s"]}


async def loop_http(dsn: str, options: Options) -> Result:
    """`loop_http`: a loop around HTTP calls, 1,000 iterations at a time, against a bare client of the library."""
    async with load.answering_server() as url:
        one = replace(options, processes=1)
        looped = await _engine(dsn, one, workload.loop_http(options.steps, IN_FLIGHT, url), concurrency=1, warm=1)
        job = Job("bare", dsn, str(UUID(int=0)), str(UUID(int=0)), count=options.steps, concurrency=IN_FLIGHT, mode=url)
        (bare,) = await run_together([job])
    return {**looped, "bare_calls_per_s": bare["calls_per_s"], "ratio": looped["steps_per_s"] / bare["calls_per_s"]}


async def sub_workflow(dsn: str, options: Options) -> Result:
    """`sub_workflow`: what a child that is waited for costs: one parent at a time, and the same without a child."""
    one = replace(options, processes=1, steps=1)
    plain = await _engine(dsn, one, workload.child(), concurrency=1)
    child_of = await bench.seed(dsn, encode(workload.child()))
    definition = encode(workload.parent(str(child_of.workflow_id)))
    seeded = await bench.seed(dsn, definition, tenant=child_of.tenant_id)
    nested = await _engine(dsn, one, {}, concurrency=1, seeded=seeded)
    extra = nested["commits_per_execution"] - plain["commits_per_execution"]
    return {**nested, "extra_commits": extra, "plain_latency_ms": plain["latency_ms"]}


async def wake(dsn: str, options: Options) -> Result:
    """`wake`: parked runs that are all due at once, beside 100,000 that are not; when has the last one ended?"""
    waiting = await bench.seed(dsn, encode(workload.parked("2h")))
    async with child(_job("hold", dsn, waiting, count=PARKED)) as parker:
        await parker.ready()
        await parker.go()
        await parker.ready()
        moment = datetime.now(UTC) + timedelta(seconds=20)
        seeded = await bench.seed(dsn, encode(workload.due_at(moment.isoformat())))
        async with child(_job("hold", dsn, seeded, count=options.executions)) as due:
            await due.ready()
            await due.go()
            await due.ready()
            while (await bench.backlog(dsn))["parked"] < PARKED + options.executions and datetime.now(UTC) < moment:
                await anyio.sleep(0.2)
            parked = (await bench.backlog(dsn))["parked"]
            before = load.rss_mb(due.process.pid)
            lags = await bench.lags(dsn, seeded.workflow_id, moment, options.executions)
    return {
        "parked": parked,
        "woken": len(lags),
        "last_after_s": lags[-1],
        "lag_s": percentiles(lags),
        "rss_mb": before,
        "processes": 2,
    }


async def schedule(dsn: str, options: Options) -> Result:
    """`schedule`: schedules that are all due in one second, by two schedulers; and one that is idle with 100,000."""
    await bench.forget_schedules(dsn)
    seeded = await bench.seed(dsn, encode(workload.pure(1)))
    async with load.daemon(dsn, roles="scheduler"), load.daemon(dsn, roles="scheduler"):
        # The schedules are minutely.
        moment = (datetime.now(UTC) + timedelta(seconds=68)).replace(second=0, microsecond=0)
        await bench.add_schedules(dsn, seeded, moment, options.executions)
        runs, occurrences, seconds = 0, 0, 0.0
        with anyio.fail_after(120):
            while occurrences < options.executions:
                await anyio.sleep(0.5)
                runs, occurrences, seconds = await bench.scheduled(dsn, seeded.workflow_id, moment)
    await bench.forget_schedules(dsn)
    await bench.add_schedules(dsn, seeded, moment + timedelta(days=300), IDLE_SCHEDULES)
    async with load.daemon(dsn, roles="scheduler") as served:
        await anyio.sleep(3)
        cpu = served.cpu_seconds()
        await anyio.sleep(IDLE_SECONDS)
        idle_cpu = (served.cpu_seconds() - cpu) / IDLE_SECONDS * 100
    await bench.forget_schedules(dsn)
    return {
        "executions": runs,
        "doubled": runs - occurrences,
        "seconds": seconds,
        "executions_per_s": runs / seconds,
        "idle_schedules": IDLE_SCHEDULES,
        "idle_cpu_percent_of_a_core": idle_cpu,
        "processes": 2,
    }


async def _forget_runs(dsn: str) -> None:
    await bench.fill_queue(dsn, bench.Seeded(UUID(int=0), UUID(int=0)), 0)


async def _limit(dsn: str, options: Options) -> dict[str, float]:
    """The rates of COPY and of unnest, each over two connections of two processes, in executions per second."""
    rates: dict[str, float] = {}
    seeded = await bench.seed(dsn, encode(workload.pure(1)))
    for copy in (True, False) if options.copy_dsn is not None else (False,):
        count = max(bench.BATCH, options.executions // 2 // bench.BATCH * bench.BATCH)
        target = options.copy_dsn if copy and options.copy_dsn is not None else dsn
        job = _job("limit", target, seeded, count=count, steps=options.steps, mode=options.mode, copy=copy)
        results = await run_together([job, job])
        rates["copy" if copy else "unnest"] = 2 * count / _span(results)
    return rates


async def _engine(
    dsn: str,
    options: Options,
    definition: Mapping[str, Json],
    concurrency: int = 192,
    warm: int = 20,
    seeded: bench.Seeded | None = None,
) -> Result:
    seeded = seeded or await bench.seed(dsn, encode(definition))
    each = max(1, options.executions // options.processes)
    slots = 2 * max(concurrency, 100)
    job = _job("drive", dsn, seeded, count=each, concurrency=concurrency, slots=slots, warm=warm)
    before = await bench.commits(dsn)
    results = await run_together([job] * options.processes)
    commits = await bench.commits(dsn) - before
    failed, reason = await bench.not_completed(dsn, seeded.workflow_id)
    if failed:
        raise BenchFailed(f"{failed} runs did not complete ({reason}), so what was measured means nothing")
    total, seconds = each * options.processes, _span(results)
    return {
        "executions": total,
        "steps": options.steps,
        "processes": options.processes,
        "seconds": seconds,
        "executions_per_s": total / seconds,
        "steps_per_s": total * options.steps / seconds,
        "commits_per_execution": commits / total,
        "cpu_us_per_execution": sum(result["cpu"] for result in results) / total * 1e6,
        "latency_ms": percentiles([each for result in results for each in result["latencies"]]),
        "rss_mb": max(result["rss_mb"] for result in results),
        "backlog": (await bench.backlog(dsn))["ready"],
    }


def _span(results: list[dict[str, Any]]) -> float:
    return float(max(result["ended"] for result in results) - min(result["began"] for result in results))


def _job(kind: str, dsn: str, seeded: bench.Seeded, **more: Any) -> Job:
    return Job(kind, dsn, str(seeded.tenant_id), str(seeded.workflow_id), **more)


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the median and the 95th and 99th percentile."""
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "p50": median(ordered),
        "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
    }


MODES: Final[Mapping[str, tuple[Mode, int, int]]] = {
    "pure": (throughput, 6_000, 10),
    "durable": (throughput, 4_000, 10),
    "http": (http, 600, 10),
    "latency": (latency, 1_000, 1),
    "fanout": (fanout, 9, 1_000),
    "webhook": (webhook, 20_000, 0),
    "claim": (claim, 8_000, 0),
    "idle": (idle, 0, 0),
    "memory": (memory, PARKED, 0),
    "recovery": (recovery, 200, 1),
    "loop": (loop, 5, 10_000),
    "loop_http": (loop_http, 3, 10_000),
    "sub_workflow": (sub_workflow, 500, 1),
    "wake": (wake, 1_000, 1),
    "schedule": (schedule, 10_000, 0),
}
"""Each mode with its default number of executions and steps."""
