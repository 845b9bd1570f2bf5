"""The storm: load, faults while it runs, quiet, and the verdict."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import asyncpg

from gorax_engine.cli.onboarding import create_tenant
from gorax_engine.store.cluster import packaged_bin_dir
from gorax_engine.store.embedded import EmbeddedPostgres
from gorax_engine.store.migrate import migrate
from tests.chaos.checker import Breach, check, install_witness, record_workflows
from tests.chaos.faults import Faults, Hit
from tests.chaos.fleet import LEASE, POLL, Daemon, fleet
from tests.chaos.sink import Sink
from tests.chaos.workload import SCHEDULES, Clients, Start, plan

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGED: Final = "18"
OVERLAPPING: Final = 3
"""How many faults may be at work at once."""

_ENDED = """
SELECT count(*)::int FROM executions
 WHERE status IN ('completed', 'failed', 'cancelled') AND parent_execution_id IS NULL AND trigger_type <> 'schedule'
"""
_LIVE = "SELECT count(*)::int FROM execution_queue"
GIVEN_UP_AT_MOST: Final = 0.01
"""The share of runs that a storm may drive to `worker_lost` before it says more about the engine than about itself."""

_OCCURRENCES = "SELECT count(*)::int FROM schedule_occurrences"
_RESCUES = """
SELECT count(*) FILTER (WHERE new_crashes > old_crashes)::int AS rescued,
       count(*) FILTER (WHERE parked)::int AS parked,
       count(*) FILTER (WHERE old_owner IS NOT NULL AND new_owner IS NULL AND NOT parked
                          AND new_crashes = old_crashes)::int AS given_back,
       max(new_token)::int AS most_claims,
       (SELECT count(*)::int FROM executions WHERE error_code = 'worker_lost') AS given_up
  FROM chaos.queue_log WHERE op = 'UPDATE'
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What kind of storm. Times in seconds; `spread` is the time over which the starts are spread."""

    seed: int
    executions: int
    faults: int
    daemons: int = 3
    calmest: float = 5.0
    fiercest: float = 0.5
    quiet: float = 60.0
    longest: float = 400.0
    postgres: str = PACKAGED


@dataclass(slots=True)
class Verdict:
    """What came of a storm. It holds if nothing is broken, nothing crashed, and it was a storm at all."""

    options: Options
    breaches: list[Breach] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Did every promise hold in a real storm?"""
        return not (self.breaches or self.crashes or self.unexpected or self.void)

    def report(self) -> str:
        """Say all that is worth saying."""
        lines = [f"seed {self.options.seed}: {'every invariant held' if self.holds else 'NOT GOOD'}"]
        lines += [f"  {name}: {value}" for name, value in self.figures.items()]
        faults = Counter(hit.fault for hit in self.hits if hit.effective)
        for name, times in sorted(faults.items()):
            in_flight = sum(hit.in_flight for hit in self.hits if hit.fault == name)
            lines.append(f"  fault {name}: {times} effective, {in_flight} runs in flight")
        for title, faults_found in (("void", self.void), ("crash", self.crashes), ("unexpected", self.unexpected)):
            lines += [f"  {title}: {text}" for text in faults_found[:10]]
        lines += [f"  broken: {breach}" for breach in self.breaches]
        return "\n".join(lines)


async def storm(options: Options, say: Callable[[str], None], keep: Path | None = None) -> Verdict:
    """Run one storm over servers and processes of its own; logs stay in `keep` if it is given."""
    directory = Path(tempfile.mkdtemp(prefix="gorax-chaos-"))
    directory.chmod(0o711)
    verdict = Verdict(options)
    try:
        async with AsyncExitStack() as stack:
            sink = stack.enter_context(Sink())
            server = await stack.enter_async_context(
                EmbeddedPostgres.start(directory / "postgres", bin_dir=bin_dir(options.postgres), fsync=True)
            )
            await _Storm(options, verdict, say, directory, sink, server).run()
        return verdict
    finally:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for log in directory.glob("*.log"):
                shutil.copy(log, keep / log.name)
            with suppress(OSError):
                shutil.copy(directory / "postgres" / "server.log", keep / "postgres.log")
            (keep / "timeline.log").write_text("\n".join([*verdict.timeline, verdict.report(), ""]))
        shutil.rmtree(directory, ignore_errors=True)


def bin_dir(major: str) -> Path:
    """The programs of a Postgres version: the packaged one, or one of Debian's."""
    return packaged_bin_dir() if major == PACKAGED else Path(f"/usr/lib/postgresql/{major}/bin")


class _Storm:
    def __init__(
        self,
        options: Options,
        verdict: Verdict,
        say: Callable[[str], None],
        directory: Path,
        sink: Sink,
        server: EmbeddedPostgres,
    ) -> None:
        self._options = options
        self._verdict = verdict
        self._tell = say
        self._directory = directory
        self._sink = sink
        self._server = server
        self._began = time.monotonic()
        self._starts: list[Start] = []
        self._rng = random.Random(f"faults {options.seed}")

    @property
    def _effective(self) -> int:
        """How many faults hit runs in flight so far."""
        return sum(hit.effective for hit in self._verdict.hits)

    def _say(self, text: str) -> None:
        line = f"{time.monotonic() - self._began:7.2f} s  {text}"
        self._verdict.timeline.append(line)
        self._tell(line)

    async def run(self) -> None:
        options, verdict = self._options, self._verdict
        dsn = await self._server.create_database("chaos")
        admin = self._server.admin_dsn.removesuffix("/postgres") + "/chaos"
        await migrate(dsn)
        tenant = await create_tenant(dsn, "Chaos", "chaos", "free", "chaos")
        connection = await asyncpg.connect(admin)
        await install_witness(connection)
        async with fleet(options.daemons, dsn, lambda: ("127.0.0.1", self._server.port), self._directory) as daemons:
            for daemon in daemons:
                daemon.start()
            for daemon in daemons:
                await daemon.ready()
            urls = [daemon.url for daemon in daemons]
            async with Clients(urls, tenant.api_key, random.Random(options.seed)) as clients:
                await clients.publish(self._sink.url)
                await record_workflows(connection, clients.workflows.values())
                await connection.close()
                self._began = time.monotonic()
                self._say(f"seed {options.seed}: {options.executions} runs, {options.faults} faults")
                scheduled = await clients.schedule()
                await self._rage(daemons, clients, scheduled, admin)
                await self._quiet(admin)
            verdict.unexpected += clients.unexpected
            verdict.figures["answers"] = dict(clients.answers)
            for daemon in daemons:
                verdict.crashes += daemon.crashes
            connection = await asyncpg.connect(admin)
            verdict.figures.update((await connection.fetch(_RESCUES))[0])
            verdict.figures["occurrences"] = await connection.fetchval(_OCCURRENCES)
            verdict.breaches += await check(connection, self._starts, self._sink.calls)
            await connection.close()
        self._judge()

    async def _rage(self, daemons: list[Daemon], clients: Clients, scheduled: list[str], admin: str) -> None:
        """Load and faults together, until both have run their course."""
        verdict = self._verdict
        faults = Faults(daemons, self._server, admin, self._rng, self._say)
        raging = anyio.Event()
        async with anyio.create_task_group() as watch:
            for daemon in daemons:
                watch.start_soon(daemon.supervise)
            watch.start_soon(clients.decide)
            async with anyio.create_task_group() as rage:
                rage.start_soon(self._load, clients, raging)
                rage.start_soon(self._strike, faults, raging)
            self._say("quiet")
            verdict.figures["storm seconds"] = round(time.monotonic() - self._began, 1)
            verdict.figures["ended in the storm"] = await _count(admin)
            for daemon in daemons:
                await daemon.ready()
            await clients.unschedule(scheduled)
            await self._settle(admin)
            for daemon in daemons:
                daemon.ended = True
            watch.cancel_scope.cancel()

    async def _load(self, clients: Clients, raging: anyio.Event) -> None:
        """Start runs, spread over the time that the faults will take, until there were enough of both."""
        mean = self._options.fiercest + (self._options.calmest - self._options.fiercest) / 3
        pause = self._options.faults * mean / self._options.executions
        with anyio.move_on_after(self._options.longest) as patience:
            async with anyio.create_task_group() as users:
                for start in plan(self._options.seed):
                    if len(self._starts) >= self._options.executions and self._effective >= self._options.faults:
                        break
                    self._starts.append(start)
                    users.start_soon(clients.run, start)
                    await anyio.sleep(pause * 2 * clients.rng.random())
                raging.set()
        raging.set()
        if patience.cancelled_caught:
            self._verdict.void.append("not every start was acknowledged in time")

    async def _strike(self, faults: Faults, raging: anyio.Event) -> None:
        """One fault after another, sometimes over each other, until the load is over and there were enough."""
        options, kinds = self._options, faults.kinds
        names, weights = list(kinds), [weight for weight, _ in kinds.values()]
        limiter = anyio.Semaphore(OVERLAPPING)
        async with anyio.create_task_group() as tasks:
            while not raging.is_set():
                name = self._rng.choices(names, weights)[0]
                gap = options.fiercest + (options.calmest - options.fiercest) * self._rng.random() ** 2
                await limiter.acquire()
                tasks.start_soon(self._strike_once, kinds[name][1], limiter)
                with anyio.move_on_after(gap):
                    await raging.wait()

    async def _strike_once(self, fault: Any, limiter: anyio.Semaphore) -> None:
        try:
            self._verdict.hits.append(await fault())
        finally:
            limiter.release()

    async def _settle(self, admin: str) -> None:
        """Wait until every run has ended, or the quiet is over."""
        deadline = time.monotonic() + self._options.quiet
        while time.monotonic() < deadline:
            if await _count(admin) >= len(self._starts) and await _count(admin, _LIVE) == 0:
                self._verdict.figures["quiet seconds"] = round(self._options.quiet - (deadline - time.monotonic()), 1)
                return
            await anyio.sleep(0.2)

    async def _quiet(self, admin: str) -> None:
        """Let what is on its way arrive: a zombie's last words must have had their chance."""
        await anyio.sleep(LEASE + POLL)

    def _judge(self) -> None:
        """Say whether it was a storm: enough of it hit, and the engine went on meanwhile."""
        options, verdict = self._options, self._verdict
        effective = self._effective
        verdict.figures["effective faults"] = f"{effective} of {len(verdict.hits)}"
        verdict.figures["sink calls"] = len(self._sink.calls)
        if verdict.figures["given_up"] > max(1, GIVEN_UP_AT_MOST * options.executions):
            verdict.unexpected.append(f"{verdict.figures['given_up']} runs were given up as worker_lost")
        if effective < options.faults:
            verdict.void.append(f"only {effective} faults hit anything, {options.faults} were asked for")
        verdict.figures["runs"] = len(self._starts)
        if verdict.figures["occurrences"] < SCHEDULES * verdict.figures["storm seconds"] / 2:
            verdict.void.append(f"only {verdict.figures['occurrences']} occurrences were decided on")
        if verdict.figures["ended in the storm"] < options.executions / 2:
            verdict.void.append(f"only {verdict.figures['ended in the storm']} runs ended during the storm")


async def _count(admin: str, query: str = _ENDED) -> int:
    """How many runs have ended, or what else is asked for; 0 while Postgres is away."""
    try:
        connection = await asyncpg.connect(admin, timeout=5, command_timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return 0
    try:
        return int(await connection.fetchval(query))
    finally:
        connection.terminate()


def default_postgres() -> str:
    """The version that the tests run on."""
    return os.environ.get("GORAX_TEST_POSTGRES", PACKAGED)


__all__ = ["Options", "Start", "Verdict", "default_postgres", "storm"]
