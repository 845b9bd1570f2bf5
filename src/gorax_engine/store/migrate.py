"""Brings a database to this build's schema, once, whoever asks and however many ask at the same time.

Numbered files (`migrations/NNN_name.sql`) are applied in order and never again; a file that changed after it was
applied, and a database that is newer than this build, are refused. After them the functions in `store/sql/functions`
are installed anew wherever their text changed.

The head of a migration says `-- phase: pre` (apply before the new code runs; the old code still works) or
`-- phase: post` (apply once no old code runs). A head line `-- no-transaction` is for CREATE INDEX CONCURRENTLY and the
like: each statement ends with a semicolon at the end of a line and runs by itself, so each must be repeatable
(IF NOT EXISTS, DROP ... IF EXISTS first).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
import asyncpg

from gorax_engine.errors import ConfigurationError, DatabaseUnreachable, Unavailable
from gorax_engine.store.database import CONNECT_TIMEOUT, CONNECTION_ERRORS
from gorax_engine.store.queries import load

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

MINIMUM_POSTGRES: Final = 15
LOCK_WAIT: Final = 120.0
"""Seconds to wait for another process that migrates the same database."""
LOCK_POLL: Final = 0.1
LOCK_TIMEOUT_MS: Final = 3000
"""How long a statement may queue for a table lock, and hold up everybody behind it, before it lets go and retries."""
LOCK_RETRIES: Final = 10

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_FILE: Final = re.compile(r"^(\d{3})_([a-z0-9_]+)\.sql$")
_PHASE: Final = re.compile(r"^--\s*phase:\s*(pre|post)\s*$", re.MULTILINE)
_NO_TRANSACTION: Final = re.compile(r"^--\s*no-transaction\s*$", re.MULTILINE)
_FUNCTION: Final = re.compile(r"^CREATE (?:OR REPLACE )?FUNCTION (?:public\.)?(\w+)\s*\(", re.MULTILINE | re.IGNORECASE)

_sql = load("migrate")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. `checksum` is over the text with LF line ends."""

    version: int
    name: str
    phase: Literal["pre", "post"]
    transactional: bool
    text: str
    checksum: str


@dataclass(frozen=True, slots=True)
class FunctionFile:
    """One file of `store/sql/functions`, and the names of the functions that it defines."""

    name: str
    functions: tuple[str, ...]
    text: str
    checksum: str


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """What `migrate` did, or would do: a numbered file, or (version None) a file of functions."""

    version: int | None
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """How a database stands to this build. `version` is the last one applied, 0 for an empty database."""

    version: int
    pending: tuple[Migration, ...]
    newer: tuple[int, ...]
    edited: tuple[str, ...]
    stale_functions: tuple[str, ...]

    @property
    def problem(self) -> str | None:
        """Why this build must not run on the database, in one sentence; None if it may.

        Pending post migrations are no problem: they wait for this build to be everywhere.
        """
        if self.edited:
            return f"Migration {self.edited[0]} was changed after it was applied; restore the file as it was released."
        if self.newer:
            return f"The database is at schema {self.newer[-1]}, newer than this version of gorax; update gorax."
        waiting = [f"{each.version:03d}_{each.name}" for each in self.pending if each.phase == "pre"]
        if waiting or self.stale_functions:
            first = (waiting or [f"function {self.stale_functions[0]}"])[0]
            return f"The database lacks {first}; run `gorax migrate`."
        return None


def migrations_directory() -> Path:
    """Return where the numbered files are: inside an installed package, or at the root of a checkout."""
    installed = _PACKAGE / "migrations"
    return installed if installed.is_dir() else _PACKAGE.parent.parent / "migrations"


def functions_directory() -> Path:
    """Return where the repeatable function files are."""
    return _PACKAGE / "store" / "sql" / "functions"


def read_migrations(directory: Path) -> tuple[Migration, ...]:
    """Read the numbered files in order. Raises ValueError for a gap, a repeated number or a head without a phase."""
    found: list[Migration] = []
    for path in sorted(directory.glob("[0-9][0-9][0-9]_*.sql")):
        match = _FILE.match(path.name)
        if match is None:
            raise ValueError(f"{path.name} is not named NNN_snake_case.sql")
        text = _read(path)
        head = text[: len(text) - len(re.sub(r"\A(?:--.*\n|\s*\n)*", "", text))]
        phase = _PHASE.search(head)
        if phase is None:
            raise ValueError(f"the head of {path.name} doesn't say `-- phase: pre` or `-- phase: post`")
        if int(match[1]) != len(found) + 1:
            raise ValueError(f"{path.name} should have number {len(found) + 1:03d}")
        transactional = _NO_TRANSACTION.search(head) is None
        found.append(
            Migration(
                version=int(match[1]),
                name=match[2],
                phase="pre" if phase[1] == "pre" else "post",
                transactional=transactional,
                text=text,
                checksum=_checksum(text),
            )
        )
    return tuple(found)


def read_functions(directory: Path) -> tuple[FunctionFile, ...]:
    """Read the function files, by name. Raises ValueError for a file that defines no function."""
    found: list[FunctionFile] = []
    for path in sorted(directory.glob("*.sql")):
        text = _read(path)
        names = tuple(dict.fromkeys(_FUNCTION.findall(text)))
        if not names:
            raise ValueError(f"{path.name} defines no function")
        found.append(FunctionFile(path.stem, names, text, _checksum(text)))
    return tuple(found)


async def migrate(
    dsn: str,
    *,
    to: int | None = None,
    dry_run: bool = False,
    migrations: Path | None = None,
    functions: Path | None = None,
) -> list[AppliedMigration]:
    """Apply what is pending up to version `to` (default: all) and return it; `dry_run` only returns it.

    Needs a direct connection (session locks don't survive a transaction pooler) as the role that owns the schema.
    Functions are installed only when no numbered file is left out. The directories default to this build's own.
    Raises ConfigurationError (old server, edited file, newer schema, refused by the database), DatabaseUnreachable,
    and Unavailable when another process holds the lock for two minutes.
    """
    known = read_migrations(migrations or migrations_directory())
    repeatable = read_functions(functions or functions_directory())
    async with _connected(dsn) as connection:
        if dry_run:
            return _plan(await _status(connection, known, repeatable), repeatable, to)
        async with _locked(connection):
            await _create_ledgers(connection)
            status = await _status(connection, known, repeatable)
            plan = _plan(status, repeatable, to)
            by_version = {each.version: each for each in status.pending}
            by_name = {each.name: each for each in repeatable}
            done: list[AppliedMigration] = []
            for step in plan:
                started = monotonic()
                if step.version is not None:
                    await _apply(connection, by_version[step.version])
                else:
                    await _install(connection, by_name[step.name])
                done.append(AppliedMigration(step.version, step.name, monotonic() - started))
            if done and await connection.fetchval(_sql.role_exists):
                await connection.execute(_sql.grant_ledgers)
            return done


async def check(connection: Connection) -> SchemaStatus:
    """Compare the database with this build; changes nothing and needs no more than `gorax_app`'s rights.

    Raises ConfigurationError for a server that is too old.
    """
    require_supported(connection)
    return await _status(connection, read_migrations(migrations_directory()), read_functions(functions_directory()))


def require_supported(connection: Connection) -> None:
    """Raise ConfigurationError if the server is older than Postgres 15."""
    version = connection.get_server_version()
    if version.major < MINIMUM_POSTGRES:
        raise ConfigurationError(
            f"gorax needs Postgres {MINIMUM_POSTGRES} or later; this server is {version.major}.{version.minor}."
        )


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8").replace("\r\n", "\n")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def _status(
    connection: Connection, known: Sequence[Migration], repeatable: Sequence[FunctionFile]
) -> SchemaStatus:
    rows: list[asyncpg.Record] = []
    installed: dict[str, str] = {}
    if await connection.fetchval(_sql.ledgers_exist):
        rows = await connection.fetch(_sql.applied)
        installed = {row["name"]: row["checksum"] for row in await connection.fetch(_sql.installed)}
    applied = {int(row["version"]): str(row["checksum"]) for row in rows}
    return SchemaStatus(
        version=max(applied, default=0),
        pending=tuple(each for each in known if each.version not in applied),
        newer=tuple(version for version in sorted(applied) if version > len(known)),
        edited=tuple(
            f"{each.version:03d}_{each.name}"
            for each in known
            if each.version in applied and applied[each.version] != each.checksum
        ),
        stale_functions=tuple(each.name for each in repeatable if installed.get(each.name) != each.checksum),
    )


def _plan(status: SchemaStatus, repeatable: Sequence[FunctionFile], to: int | None) -> list[AppliedMigration]:
    if (status.edited or status.newer) and status.problem:
        raise ConfigurationError(status.problem)
    chosen = [each for each in status.pending if to is None or each.version <= to]
    plan = [AppliedMigration(each.version, each.name, 0.0) for each in chosen]
    if len(chosen) == len(status.pending):
        plan += [AppliedMigration(None, each.name, 0.0) for each in repeatable if each.name in status.stale_functions]
    return plan


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    try:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT,
            server_settings={
                "application_name": "gorax migrate",
                "search_path": "public",
                "client_min_messages": "warning",
                "statement_timeout": "0",
                "timezone": "UTC",
            },
        )
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(f"The database refused the connection: {error}.") from error
    except CONNECTION_ERRORS as error:
        raise DatabaseUnreachable(f"The database can't be reached: {error}.") from error
    try:
        require_supported(connection)
        yield connection
    except CONNECTION_ERRORS as error:
        raise DatabaseUnreachable(f"The database was lost on the way: {error}; run the migration again.") from error
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)


@asynccontextmanager
async def _locked(connection: Connection) -> AsyncIterator[None]:
    with anyio.move_on_after(LOCK_WAIT) as waiting:
        while not await connection.fetchval(_sql.try_lock):  # noqa: ASYNC110 - the holder is another process
            await anyio.sleep(LOCK_POLL)
    if waiting.cancelled_caught:
        raise Unavailable("Another process is migrating this database; try again when it has ended.")
    try:
        yield
    finally:
        if not connection.is_closed():
            with anyio.CancelScope(shield=True):
                await connection.fetchval(_sql.unlock)


async def _create_ledgers(connection: Connection) -> None:
    if await connection.fetchval(_sql.ledgers_exist):
        return
    try:
        await connection.execute(_sql.create_ledger)
        await connection.execute(_sql.create_function_ledger)
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"The migrating role may not create tables in schema public ({error}); let it own the database."
        ) from error


async def _apply(connection: Connection, migration: Migration) -> None:
    """Apply one numbered file and record it: together, or statement by statement where the file asks for that."""
    label = f"Migration {migration.version:03d}_{migration.name}"
    record = (migration.version, migration.name, migration.checksum)
    if migration.transactional:
        await _in_transaction(connection, label, [migration.text], (_sql.record, record))
        return
    await connection.execute("SET lock_timeout = 0")
    for statement in _statements(migration.text):
        try:
            await connection.execute(statement)
        except CONNECTION_ERRORS:
            raise
        except asyncpg.PostgresError as error:
            raise ConfigurationError(f"{label} failed: {_reason(error)}.") from error
    await connection.execute(_sql.record, *record)


async def _install(connection: Connection, file: FunctionFile) -> None:
    """Install a function file; older signatures of its functions go first, or they would stay as overloads."""
    old = [row[0] for name in file.functions for row in await connection.fetch(_sql.overloads, name)]
    script = [*(f"DROP FUNCTION {signature}" for signature in old), file.text]
    await _in_transaction(
        connection, f"Function file {file.name}", script, (_sql.record_function, (file.name, file.checksum))
    )


async def _in_transaction(
    connection: Connection, label: str, script: Sequence[str], record: tuple[str, tuple[object, ...]]
) -> None:
    query, arguments = record
    for attempt in range(1, LOCK_RETRIES + 1):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                for part in script:
                    await connection.execute(part)
                await connection.execute(query, *arguments)
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if attempt == LOCK_RETRIES:
                raise Unavailable(f"{label} can't get its locks; try again when the database is quieter.") from error
            await anyio.sleep(LOCK_POLL * attempt)
        except CONNECTION_ERRORS:
            raise
        except asyncpg.PostgresError as error:
            raise ConfigurationError(f"{label} failed: {_reason(error)}.") from error


def _statements(text: str) -> list[str]:
    """Split a no-transaction file at the semicolons that end a line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    return [part.strip() for part in re.split(r";[ \t]*(?:\n|\Z)", "\n".join(lines)) if part.strip()]


def _reason(error: asyncpg.PostgresError) -> str:
    hint = getattr(error, "hint", None)
    return f"{error} ({hint.rstrip('.')})" if hint else str(error)
