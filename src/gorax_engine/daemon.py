"""The composition root: the one file that knows everyone. It checks, builds, runs the roles, and drains at the end.

Roles: `api` serves HTTP, `worker` runs executions, `scheduler` starts what is due, `maintenance` keeps house. One
process may have all of them; several processes share the work through Postgres alone.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from gorax_engine import __version__
from gorax_engine.api.server import serve_http
from gorax_engine.engine.completions import Completions
from gorax_engine.engine.operations import Operations
from gorax_engine.engine.plans import Plans
from gorax_engine.engine.registration import WorkerOptions
from gorax_engine.engine.worker import Worker
from gorax_engine.errors import ConfigurationError, GoraxError
from gorax_engine.nodes.api import PluginResources
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.integrations import integrations
from gorax_engine.nodes.outbound import OutboundClient
from gorax_engine.nodes.plugins import open_plugins
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.nodes.sandbox.pool import Sandbox, SandboxOptions
from gorax_engine.nodes.smtp import SmtpClient
from gorax_engine.nodes.tasks.code import Code
from gorax_engine.nodes.tasks.publish_event import PublishEvent
from gorax_engine.ops.duties import maintenance_duties
from gorax_engine.ops.leader import lead
from gorax_engine.ops.management import HealthChecks, ManagementApp, check_database, read_queue
from gorax_engine.ops.metrics import Metrics
from gorax_engine.ops.sd_notify import notify
from gorax_engine.people.mail import TaskMail
from gorax_engine.store.database import Database, open_database
from gorax_engine.store.doctor import examine
from gorax_engine.store.listener import listen
from gorax_engine.store.session import open_session
from gorax_engine.telemetry import Telemetry, configure_logging, get_logger
from gorax_engine.triggers.admission import Admission
from gorax_engine.triggers.events import Events
from gorax_engine.triggers.scheduler import Scheduler
from gorax_engine.vault.keys import KeyProvider
from gorax_engine.vault.local_key import open_key_provider
from gorax_engine.vault.sealed_text import SealedTexts
from gorax_engine.vault.secrets import Secrets

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from gorax_engine.nodes.api import TaskNode
    from gorax_engine.settings import DatabaseSettings, Settings

SUPERVISED: Final = "GORAX_SUPERVISOR"
"""In the environment of a process that shares the public port with its siblings."""
GC_THRESHOLD: Final = 20_000

_log = get_logger(__name__)


async def serve(
    settings: Settings,
    *,
    roles: frozenset[str],
    ready: Callable[[], None] | None = None,
    reload: Callable[[], Settings] | None = None,
) -> None:
    """Run the daemon until SIGTERM or SIGINT, then drain; a second signal stops it at once.

    `ready` is called when every role has begun. On SIGHUP `reload` gives new settings, of which the log level is taken
    over. Raises ConfigurationError and DatabaseUnreachable before it is ready.
    """
    name = f"{socket.gethostname()}:{os.getpid()}"
    configure_logging(settings.log.level, settings.log.format, worker=name)
    await verify_database(settings.database)
    daemon = _Daemon(settings, roles, name)
    try:
        async with anyio.create_task_group() as beside:
            await beside.start(_follow_signals, daemon, reload)
            beside.start_soon(_watchdog)
            await daemon.run(ready or (lambda: None))
            beside.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        refusal = _sole_refusal(group)
        if refusal is None:
            raise
        raise refusal from group


async def verify_database(settings: DatabaseSettings) -> None:
    """Refuse a server, a role or a schema that the daemon must not run on.

    Raises ConfigurationError (exit 78) and DatabaseUnreachable (exit 69).
    """
    for purpose, (dsn, role) in (("worker", settings.for_worker()), ("app", settings.for_app())):
        facts = await examine(dsn, role)
        if facts.standby:
            raise ConfigurationError(f"The database of {purpose}_dsn is a standby; gorax needs the primary.")
        if facts.schema_problem is not None:
            raise ConfigurationError(facts.schema_problem, code="schema_mismatch")
        if facts.role in facts.unbound:
            raise ConfigurationError(
                f"The database role {facts.role} of {purpose}_dsn is a superuser or has BYPASSRLS and would see every "
                "tenant's rows; give it neither.",
                code="role_bypasses_rls",
            )


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """The engine of one process while it runs."""

    database: Database
    registry: NodeRegistry
    operations: Operations
    completions: Completions
    events: Events
    vault: KeyProvider
    worker: Worker | None

    def in_flight(self) -> int:
        """How many executions are in this process's memory."""
        return self.worker.in_flight if self.worker is not None else 0


@asynccontextmanager
async def open_engine(
    settings: Settings,
    *,
    roles: frozenset[str],
    name: str,
    telemetry: Telemetry,
    nodes: Sequence[TaskNode] = (),
) -> AsyncIterator[RunningEngine]:
    """Run the engine's roles (all but `api`) and offer its verbs; drain at the end. `nodes` are further types."""
    async with AsyncExitStack() as stack:
        vault = open_key_provider(settings.vault.key_file)
        database = await stack.enter_async_context(open_database(settings.database))
        policy = OutboundPolicy.read(allow=settings.outbound.allow, deny=settings.outbound.deny)
        outbound = await stack.enter_async_context(OutboundClient(policy, emit=telemetry.emit))
        plugins = await stack.enter_async_context(open_plugins(settings.nodes.plugins, PluginResources(outbound)))
        added = [node for plugin in plugins for node in plugin.nodes]
        events = Events(database)
        sandbox = await stack.enter_async_context(Sandbox(_sandbox_options(settings)))
        registry = NodeRegistry(
            [*builtin_nodes([*integrations(outbound, policy), PublishEvent(events), Code(sandbox), *nodes]), *added]
        )
        completions = Completions(database)
        dsn, role = settings.database.for_worker()
        starts, reads, duties = [await stack.enter_async_context(open_session(dsn, role)) for _ in range(3)]
        worker = None
        if "worker" in roles:
            options = _worker_options(settings, roles, name)
            secrets = Secrets(await stack.enter_async_context(open_session(dsn, role)), vault, telemetry.emit)
            worker = Worker(options, (dsn, role), registry, telemetry, completions.ended, secrets)
        operations = Operations(starts, database, Plans(reads, registry), telemetry, worker)
        async with anyio.create_task_group() as background:
            background.start_soon(operations.run)
            background.start_soon(events.run, operations)
            background.start_soon(completions.run)
            if "scheduler" in roles:
                background.start_soon(Scheduler(database, telemetry).run)
            if "maintenance" in roles:
                background.start_soon(lead, duties, maintenance_duties(duties, operations))
                mails, opening = [await stack.enter_async_context(open_session(dsn, role)) for _ in range(2)]
                secrets = Secrets(opening, vault, telemetry.emit)
                background.start_soon(TaskMail(mails, secrets, SmtpClient(policy), telemetry.emit).run)
            async with anyio.create_task_group() as working:
                if worker is not None:
                    background.start_soon(_listen, settings.database, worker, telemetry)
                    await working.start(_work, worker)
                yield RunningEngine(database, registry, operations, completions, events, vault, worker)
                if worker is not None:
                    worker.drain()
            background.cancel_scope.cancel()


async def _work(worker: Worker, *, task_status: TaskStatus[None]) -> None:
    began = False

    def registered() -> None:
        nonlocal began
        if not began:
            began = True
            task_status.started()

    await worker.run(ready=registered)


async def _listen(settings: DatabaseSettings, worker: Worker, telemetry: Telemetry) -> None:
    dsn, role = settings.for_listen()
    await listen(dsn, role, {"gorax_ready": worker.ring, "gorax_wake": worker.look_at_marks}, telemetry)


def _sandbox_options(settings: Settings) -> SandboxOptions:
    code = settings.code
    return SandboxOptions(processes=code.processes, heap=code.memory_limit, idle=code.idle_timeout)


def _worker_options(settings: Settings, roles: frozenset[str], name: str) -> WorkerOptions:
    worker = settings.worker
    return WorkerOptions(
        name,
        __version__,
        sorted(roles),
        worker.slots,
        worker.lease,
        worker.heartbeat,
        worker.poll,
        worker.drain_timeout,
    )


class _Daemon:
    """One process that serves its roles until it is told to drain."""

    def __init__(self, settings: Settings, roles: frozenset[str], name: str) -> None:
        self.settings = settings
        self.roles = roles
        self.name = name
        self.started = False
        self.draining = anyio.Event()

    def drain(self) -> None:
        """Begin to end: stop accepting and claiming."""
        _log.info("draining")
        notify("STOPPING=1")
        self.draining.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until drained."""
        settings, telemetry = self.settings, Telemetry()
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(
                open_engine(settings, roles=self.roles, name=self.name, telemetry=telemetry)
            )
            await stack.enter_async_context(self._management(engine, telemetry))
            if "api" in self.roles:
                await stack.enter_async_context(self._api(engine, telemetry))
            settle_memory()
            self.started = True
            notify("READY=1")
            ready()
            _log.info("ready", roles=sorted(self.roles), version=__version__)
            await self.draining.wait()
        _log.info("stopped")

    @asynccontextmanager
    async def _management(self, engine: RunningEngine, telemetry: Telemetry) -> AsyncIterator[None]:
        """Count what happens, and answer Prometheus and the probes."""
        metrics = Metrics(__version__, self.name)
        metrics.in_flight(engine.in_flight)
        metrics.pools(engine.database.sizes)
        telemetry.subscribe(metrics.observe)
        app = ManagementApp(
            metrics,
            HealthChecks(
                check_database=partial(check_database, engine.database),
                read_queue=partial(read_queue, engine.database),
                started=lambda: self.started,
                draining=self.draining.is_set,
            ),
        )
        management = self.settings.management
        async with serve_http(app, management.host, management.port):
            yield

    @asynccontextmanager
    async def _api(self, engine: RunningEngine, telemetry: Telemetry) -> AsyncIterator[None]:
        # Imported here, so that a process without this role doesn't carry the HTTP layer in its memory.
        from gorax_engine.api.app import build_api
        from gorax_engine.api.dependencies import ApiDependencies

        admission = self.settings.admission
        app = build_api(
            ApiDependencies(
                database=engine.database,
                verbs=engine.operations,
                ends=engine.completions,
                events=engine.events,
                vault=engine.vault,
                sealed=SealedTexts(engine.vault),
                admit=Admission(
                    engine.database, telemetry, admission.max_queued_executions, admission.max_queue_age_seconds
                ).check,
                registry=engine.registry,
                telemetry=telemetry,
                max_body_bytes=self.settings.server.max_body_bytes,
                trusted_proxies=self.settings.server.proxies,
                draining=self.draining.is_set,
            )
        )
        server = self.settings.server
        async with serve_http(app, server.host, server.port, share_port=SUPERVISED in os.environ) as address:
            _log.info("listening", url=address.url)
            yield


def settle_memory() -> None:
    """What lives as long as the process is not looked at by the collector again; what comes and goes, less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


async def _follow_signals(
    daemon: _Daemon, reload: Callable[[], Settings] | None, *, task_status: TaskStatus[None]
) -> None:
    """SIGTERM and SIGINT drain, the second of them ends the process at once; SIGHUP reads the log level again."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                _reload(daemon, reload)
            elif daemon.draining.is_set():
                _log.warning("stopped_at_once")
                os._exit(128 + number)
            else:
                daemon.drain()


def _reload(daemon: _Daemon, reload: Callable[[], Settings] | None) -> None:
    if reload is None:
        return
    try:
        log = reload().log
    except ConfigurationError as error:
        _log.error("reload_refused", reason=error.message)
        return
    configure_logging(log.level, log.format, worker=daemon.name)
    _log.info("reloaded", level=log.level)


async def _watchdog() -> None:
    """Tell systemd that the loop turns, at half the interval that it asked for."""
    microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    while microseconds:
        notify("WATCHDOG=1")
        await anyio.sleep(microseconds / 2_000_000)


def _sole_refusal(group: BaseExceptionGroup[BaseException]) -> GoraxError | None:
    """The refusal that ended everything, if it stands alone in the group."""
    leaves: list[BaseException] = [group]
    while leaves and isinstance(leaves[0], BaseExceptionGroup):
        leaves = [*leaves[0].exceptions, *leaves[1:]]
    return leaves[0] if len(leaves) == 1 and isinstance(leaves[0], GoraxError) else None
