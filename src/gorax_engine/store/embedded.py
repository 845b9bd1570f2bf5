"""A Postgres server of our own, for `gorax dev`, `gorax bench` and the tests: made, started, watched and stopped here.

The binaries come from a Python package. One folder holds all: `cluster/` (the data), `run/` (the private socket),
`server.log`, the passwords, and the lock that keeps a second supervisor away.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import anyio
import anyio.to_thread
import asyncpg

from gorax_engine.errors import ConfigurationError
from gorax_engine.store import cluster, queries
from gorax_engine.store.unprivileged import find_account
from gorax_engine.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from gorax_engine.store.unprivileged import Account

HOST: Final = "127.0.0.1"
OWNER: Final = "gorax"
START_TIMEOUT: Final = 120.0
STOP_TIMEOUT: Final = 20.0
WATCH_INTERVAL: Final = 0.25

_SOCKET_PATH_LIMIT: Final = 107
_POLL: Final = 0.02
_LOG_LIMIT: Final = 16 * 1024 * 1024
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": HOST,
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "256MB",
    # Few checkpoints, so that full-page images don't dominate the WAL of a busy engine.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "synchronous_commit": "on",
    "random_page_cost": "1.1",
    # The queue's dead rows must go at once; see also the per-table settings of the schema.
    "autovacuum_naptime": "10s",
    # Compiling costs more than the engine's short queries take.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
_SQL: Final = queries.load("embedded")
_log = get_logger(__name__)


class EmbeddedPostgres:
    """A running server. `async with EmbeddedPostgres.start(directory) as server:` starts and stops it."""

    def __init__(
        self,
        directory: Path,
        *,
        bin_dir: Path | None = None,
        port: int | None = None,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the server; `start` runs it. `port` None means any free one. `settings` go to postgresql.conf."""
        self.directory = directory.resolve()
        self.cluster = self.directory / "cluster"
        self.log_file = self.directory / "server.log"
        self._superuser_password_file = self.directory / "superuser-password"
        self.bin_dir = bin_dir or cluster.packaged_bin_dir()
        self.port = port or _free_port()
        self._port_is_given = port is not None
        self._fsync = fsync
        self._settings = {**_SETTINGS, "fsync": "on" if fsync else "off", **(settings or {})}
        self._changing = anyio.Lock()
        self._account: Account
        self._socket_dir: Path
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @asynccontextmanager
    async def start(cls, directory: Path, **options: Any) -> AsyncIterator[EmbeddedPostgres]:
        """Run a server over `directory`, which is made if it is absent; options as in the constructor.

        A server that a dead supervisor left behind is stopped first. At the end the server is shut down, sessions cut.
        Raises ConfigurationError if the folder is in use or of another major version, or the server can't start.
        """
        server = cls(directory, **options)
        server.directory.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        with cluster.DirectoryLock(server.directory):
            orphan = await anyio.to_thread.run_sync(server._prepare)
            if orphan is not None:
                _log.warning("embedded_postgres_orphan_stopped", pid=orphan)
                await _end(partial(_signal, orphan), lambda: not cluster.is_postmaster(orphan, server.cluster))
            try:
                await server._launch()
                yield server
            finally:
                with anyio.CancelScope(shield=True):
                    await server._stop()
                server._remove_temporary_socket_dir()

    @property
    def admin_dsn(self) -> str:
        """The superuser's DSN, to the database `postgres`."""
        return self.dsn("postgres", user=cluster.SUPERUSER, password=self._superuser_password_file.read_text())

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._running().pid

    def dsn(self, database: str, *, user: str, password: str, over_socket: bool = False) -> str:
        """Return a DSN over TCP, or over the private Unix socket, which is quicker."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        name = quote(database, safe="")
        if over_socket:
            return f"postgresql://{login}@/{name}?{urlencode({'host': self._socket_dir, 'port': self.port})}"
        return f"postgresql://{login}@{HOST}:{self.port}/{name}"

    async def create_database(self, name: str, *, template: str = "template1", over_socket: bool = False) -> str:
        """Create the database `name` and its owner `gorax` (no superuser) unless they exist; return the owner's DSN."""
        password = self._owner_password()
        connection = await asyncpg.connect(self.admin_dsn, timeout=10, command_timeout=60)
        try:
            await connection.execute(await connection.fetchval(_SQL.owner_statement, OWNER, password))
            create = await connection.fetchval(_SQL.database_statement, name, OWNER, template)
            if create is not None:
                await connection.execute(create)
        finally:
            await connection.close()
        return self.dsn(name, user=OWNER, password=password, over_socket=over_socket)

    async def restart(self) -> None:
        """Start the server again on the same port, after a fast shutdown if it runs. Raises ConfigurationError."""
        async with self._changing:
            await self._stop()
            await self._launch()

    async def kill(self) -> None:
        """Kill the postmaster (SIGKILL): its sessions break at once, and it stays down until `restart`."""
        async with self._changing:
            process = self._running()
            process.kill()
            await _gone(lambda: process.poll() is not None, STOP_TIMEOUT)

    async def supervise(self) -> None:
        """Start the server again whenever it dies, until cancelled."""
        while True:
            await anyio.sleep(WATCH_INTERVAL)
            async with self._changing:
                if self._running().poll() is None:
                    continue
                _log.error("embedded_postgres_died", exit_code=self._running().returncode)
                try:
                    await self._launch()
                except ConfigurationError as error:
                    _log.error("embedded_postgres_not_restarted", reason=error.message)

    def _prepare(self) -> int | None:
        """Make the folder ready; return the process id of a server that must be stopped first."""
        exists = (self.cluster / "PG_VERSION").is_file()
        postgres = self.bin_dir / "postgres"
        self._account = find_account(postgres, self.directory, self.cluster.stat() if exists else None)
        self._socket_dir = self._make_socket_dir()
        if not exists:
            cluster.initialise(
                self.cluster, self.bin_dir, self._account, self._superuser_password_file, fsync=self._fsync
            )
            return None
        cluster.refuse_foreign_version(self.cluster, self.bin_dir, cluster.major_version(self.bin_dir, self._account))
        return cluster.find_orphan(self.cluster)

    def _make_socket_dir(self) -> Path:
        folder = self.directory / "run"
        if len(os.fsencode(folder / ".s.PGSQL.65535")) > _SOCKET_PATH_LIMIT:
            folder = Path(tempfile.mkdtemp(prefix="gorax-"))
        folder.mkdir(mode=0o700, exist_ok=True)
        self._account.own(folder)
        return folder

    def _remove_temporary_socket_dir(self) -> None:
        if hasattr(self, "_socket_dir") and self._socket_dir.parent != self.directory:
            shutil.rmtree(self._socket_dir, ignore_errors=True)

    def _owner_password(self) -> str:
        path = self.directory / "owner-password"
        if not path.exists():
            cluster.write_private(path, secrets.token_urlsafe(24))
        return path.read_text()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    async def _launch(self) -> None:
        """Start the postmaster and return when it takes connections."""
        said = ""
        with anyio.move_on_after(START_TIMEOUT):
            while True:
                offset = self._spawn()
                if await self._ready():
                    return
                said = self.log_file.read_bytes()[offset:].decode(errors="replace")
                if "Address already in use" in said:
                    if self._port_is_given:
                        raise ConfigurationError(f"Port {self.port} on {HOST} is taken.", code="port_taken")
                    self.port = _free_port()
                elif "pre-existing shared memory block" not in said:
                    break
                # Else the backends of a killed postmaster are about to notice and go.
                await anyio.sleep(0.1)
        await self._stop()
        raise ConfigurationError(
            f"The embedded Postgres did not start: {cluster.last_line(said) or 'it took too long'} "
            f"(see {self.log_file}).",
            code="embedded_postgres_failed",
        )

    def _spawn(self) -> int:
        """Start the postmaster; return where in the log its words begin.

        On the event loop's thread, and quick: the death signal of `setpriv` follows the thread that starts the process.
        """
        command: list[str] = [*self._account.prefix, str(self.bin_dir / "postgres"), "-D", str(self.cluster)]
        command += ["-p", str(self.port), "-k", str(self._socket_dir)]
        for key, value in self._settings.items():
            command += ["-c", f"{key}={value}"]
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_LIMIT:
            self.log_file.rename(self.log_file.with_suffix(".log.1"))
        descriptor = os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            offset = os.lseek(descriptor, 0, os.SEEK_END)
            # A session of its own: Ctrl-C is for the daemon, which drains while the server still serves.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                env=cluster.environment(),
                start_new_session=True,
                user=self._account.user,
                group=self._account.group,
                extra_groups=self._account.extra_groups,
            )
        finally:
            os.close(descriptor)
        return offset

    async def _ready(self) -> bool:
        """Wait until the postmaster says that it is ready; False if it ended instead."""
        process = self._running()
        while process.poll() is None:
            if cluster.ready_pid(self.cluster) == process.pid:
                return True
            await anyio.sleep(_POLL)
        return False

    async def _stop(self) -> None:
        process = self._process
        if process is not None:
            await _end(process.send_signal, lambda: process.poll() is not None)


async def _end(send: Callable[[int], None], is_gone: Callable[[], bool]) -> None:
    """End a postmaster: by fast shutdown, by immediate shutdown, by force."""
    for sign, patience in ((signal.SIGINT, STOP_TIMEOUT), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if is_gone():
            return
        send(sign)
        await _gone(is_gone, patience)


async def _gone(is_gone: Callable[[], bool], seconds: float) -> None:
    with anyio.move_on_after(seconds):
        while not is_gone():  # noqa: ASYNC110 - only polling sees the end of a process that isn't ours
            await anyio.sleep(_POLL)


def _signal(pid: int, sign: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sign)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
