"""The node type `sql_query`: one statement on a Postgres that a credential describes, in a transaction of its own.

The statement is never a template: values come as bound parameters. A connection is made for the step and closed after
it: login, transaction and all take 5 to 7 ms on one machine, no tenant's session outlives its step, and none is shared.
The host is judged like that of every other request, and the addresses that were judged are dialled; TLS still checks
the host's name. What comes back is counted on the wire, before it is read. A failed step rolls its transaction back.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
import asyncpg

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.json_edge import encode
from gorax_engine.nodes.api import (
    OUTSIDE_RETRY,
    SECOND,
    Classification,
    Completed,
    Failed,
    Json,
    Micros,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
)
from gorax_engine.nodes.credentials import given_credential
from gorax_engine.nodes.dialling import judged_addresses
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.outbound import Resolve, system_resolver
from gorax_engine.nodes.outbound_errors import ConnectionFailed, OutboundError, OutboundTimeout, ResponseTooLarge
from gorax_engine.nodes.tasks.sql_connection import MAX_BYTES, SqlConnection, SqlServer, close, connect
from gorax_engine.nodes.tasks.sql_values import Unconvertible, to_json, to_parameter

MAX_ROWS: Final = 10_000
DEFAULT_ROWS: Final = 1_000
MAX_TIMEOUT: Final = 600 * SECOND

_TYPES: Final = ("database_postgres", "database_postgresql", "postgres", "postgresql")
_TRANSIENT_CLASSES: Final = ("08", "53")  # connection, resources
_TRANSIENT: Final = frozenset({"40001", "40P01", "57P01", "57P02", "57P03"})
_CANCELLED: Final = "57014"
_BAD_ARGUMENT: Final = "invalid input for query argument"
"""How the driver begins when it can't write a parameter; Postgres itself says it otherwise."""
_PORTION: Final = 500

SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "credential": {
            "type": "string",
            "x-gorax": "credential",
            "minLength": 1,
            "description": "A database_postgres credential: host, port, database, username, password, sslmode, "
            "sslrootcert.",
        },
        "query": {
            "type": "string",
            "x-gorax": "literal",
            "minLength": 1,
            "maxLength": 100_000,
            "description": "One statement with $1, $2 … for the parameters. Never a template.",
        },
        "parameters": {"type": "array", "maxItems": 1_000, "description": "The values of $1, $2 …; null is NULL."},
        "timeout": {
            "type": ["string", "number"],
            "format": "gorax-duration",
            "minimum": 0,
            "default": 30,
            "description": "From connecting to the commit, at most 10 minutes.",
        },
        "max_rows": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_ROWS,
            "default": DEFAULT_ROWS,
            "description": "More rows fail the step, which then has no effect: use LIMIT for a part.",
        },
        "read_only": {"type": "boolean", "default": False, "description": "Run in a transaction that can't write."},
    },
    "required": ["credential", "query"],
    "additionalProperties": False,
}


class SqlQuery:
    """Runs statements on databases that workflows bring, a connection each."""

    spec: Final = NodeSpec(
        name="sql_query",
        kind=NodeKind.TASK,
        aliases=("action:sql_query", "postgres:query", "postgres:statement"),
        title="SQL query",
        description="Runs one statement on a Postgres; the output is {rows, row_count, columns}.",
        schema=SCHEMA,
        retry=OUTSIDE_RETRY,
    )

    def __init__(self, policy: OutboundPolicy, *, resolve: Resolve | None = None) -> None:
        self._policy = policy
        self._resolve = resolve or system_resolver()

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        try:
            statement = _Statement.read(config)
            server = SqlServer.read(given_credential(config.get("credential"), _TYPES))
            seconds = statement.timeout / SECOND
            with anyio.move_on_after(seconds):
                return Completed(await self._execute(statement, server))
            raise OutboundTimeout(f"The statement on {server.where} took longer than {seconds:g} s.")
        except _Failure as failure:
            return Failed(failure.error)
        except OutboundError as error:
            return Failed(error.step_error())

    async def _execute(self, statement: "_Statement", server: SqlServer) -> Json:
        addresses = await judged_addresses(self._policy, self._resolve, server.host, server.port)
        try:
            connection = await connect(server, addresses)
            try:
                return await _perform(connection, statement)
            finally:
                await close(connection)
        except asyncpg.PostgresError as error:
            raise _translate(error, server, statement) from error
        except (OSError, asyncpg.InternalClientError) as error:
            raise _unreachable(error, server) from error


class _Failure(Exception):
    """The step fails with `error`."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        classification: Classification = Classification.PERMANENT,
        details: Mapping[str, Json] | None = None,
    ) -> None:
        super().__init__(message)
        self.error = StepError(code, message, classification, details or {})


@dataclass(frozen=True, slots=True)
class _Statement:
    query: str
    parameters: Sequence[Json]
    timeout: Micros
    max_rows: int
    read_only: bool

    @classmethod
    def read(cls, config: Mapping[str, Json]) -> "_Statement":
        """Read a rendered config; raises _Failure for values of a wrong type."""
        parameters, max_rows = config.get("parameters"), config.get("max_rows", DEFAULT_ROWS)
        if not isinstance(parameters, list | None):
            raise _Failure("type_error", "`parameters` must be a list.")
        if not isinstance(max_rows, int) or isinstance(max_rows, bool) or not 1 <= max_rows <= MAX_ROWS:
            raise _Failure("type_error", f"`max_rows` must be a whole number from 1 to {MAX_ROWS}.")
        try:
            timeout = min(parse_duration(config.get("timeout", 30)), MAX_TIMEOUT)
        except ValueError as error:
            raise _Failure("type_error", f"`timeout` is no duration: {error}") from None
        read_only = config.get("read_only", False)
        if not isinstance(read_only, bool):
            raise _Failure("type_error", "`read_only` must be true or false.")
        return cls(config["query"], parameters or [], timeout, max_rows, read_only)


async def _perform(connection: SqlConnection, statement: _Statement) -> Json:
    """Run the statement in its transaction and return the output; raises _Failure, ResponseTooLarge, PostgresError."""
    mode = "READ ONLY" if statement.read_only else "READ WRITE"
    try:
        # The server stops by itself too, should it never hear that nobody waits any more.
        await connection.execute(f"BEGIN {mode}; SET LOCAL statement_timeout = {max(statement.timeout // 1_000, 1)}")
        output = await _answer(connection, statement)
        await connection.execute("COMMIT")
    except (asyncpg.InterfaceError, asyncpg.DataError) as error:
        if isinstance(error, asyncpg.DataError) and not str(error).startswith(_BAD_ARGUMENT):
            raise
        raise _Failure("type_error", f"The statement can't be run: {_sentence(error)}") from error
    except (asyncpg.PostgresConnectionError, OSError):
        if connection.meter.exceeded:
            raise _too_large() from None
        raise
    return output


async def _answer(connection: SqlConnection, statement: _Statement) -> Json:
    # Without a name, so that nothing is left behind in a pooler's session.
    prepared = await connection.prepare(statement.query, name="")
    kinds = [kind.name for kind in prepared.get_parameters()]
    if len(kinds) != len(statement.parameters):
        raise _Failure(
            "type_error", f"The statement has {len(kinds)} parameters, but {len(statement.parameters)} were given."
        )
    pairs = zip(statement.parameters, kinds, strict=True)
    arguments = [_argument(at, value, kind) for at, (value, kind) in enumerate(pairs, 1)]
    attributes = prepared.get_attributes()
    if not attributes:
        await prepared.fetch(*arguments)
        return {"rows": [], "row_count": _count(prepared.get_statusmsg()), "columns": []}
    columns = [(attribute.name, attribute.type.name) for attribute in attributes]
    _refuse_twins([name for name, _ in columns])
    rows = await _read(await prepared.cursor(*arguments), columns, statement.max_rows)
    return {"rows": rows, "row_count": len(rows), "columns": [{"name": name, "type": kind} for name, kind in columns]}


async def _read(cursor: Any, columns: Sequence[tuple[str, str]], max_rows: int) -> list[Json]:
    """Return the rows that a cursor gives, in portions: some values are far larger than what came over the wire."""
    rows: list[Json] = []
    size = 0
    while True:
        try:
            records = await cursor.fetch(min(_PORTION, max_rows + 1 - len(rows)))
        except (ValueError, OverflowError) as error:
            raise _Failure("type_error", f"The answer can't be read: {_sentence(error)}") from error
        portion = [
            {name: _value(record[at], name, kind) for at, (name, kind) in enumerate(columns)} for record in records
        ]
        rows += portion
        size += len(encode(portion))
        if size > MAX_BYTES:
            raise _too_large()
        if len(rows) > max_rows:
            raise _Failure(
                "row_limit", f"The statement gives more than {max_rows} rows; use LIMIT, or raise `max_rows`."
            )
        if len(records) < _PORTION:
            return rows


def _too_large() -> ResponseTooLarge:
    return ResponseTooLarge(f"The answer is larger than {MAX_BYTES} bytes; ask for less.")


def _argument(at: int, value: Json, kind: str) -> Any:
    try:
        return to_parameter(value, kind)
    except Unconvertible as error:
        raise _Failure("type_error", f"Parameter ${at} {error}.") from None


def _value(value: Any, column: str, kind: str) -> Json:
    try:
        return to_json(value, kind)
    except Unconvertible as error:
        raise _Failure("type_error", f"A value of the column `{column}` {error}.") from None


def _refuse_twins(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise _Failure("type_error", f"Two columns are named `{name}`: give one an alias.")


def _count(status: str | None) -> int:
    """Read how many rows were touched out of `UPDATE 3` or `INSERT 0 3`; 0 for a statement that touches none."""
    last = (status or "").rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


def _translate(error: asyncpg.PostgresError, server: SqlServer, statement: _Statement) -> OutboundError | _Failure:
    state = error.sqlstate or ""
    if isinstance(error, asyncpg.ConnectionDoesNotExistError | asyncpg.ConnectionFailureError):
        return ConnectionFailed(f"{server.where} closed the connection.", reason="closed")
    if state == _CANCELLED and "timeout" in str(error):
        return OutboundTimeout(f"The statement on {server.where} took longer than {statement.timeout / SECOND:g} s.")
    passes = state in _TRANSIENT or state.startswith(_TRANSIENT_CLASSES)
    details: dict[str, Json] = {"sqlstate": state}
    if constraint := getattr(error, "constraint_name", None):
        details["constraint"] = constraint
    return _Failure(
        "sql_error",
        f"Postgres refused the statement ({state}): {_sentence(error)}",
        classification=Classification.TRANSIENT if passes else Classification.PERMANENT,
        details=details,
    )


def _unreachable(error: Exception, server: SqlServer) -> ConnectionFailed:
    match error:
        case ssl.SSLCertVerificationError():
            message = f"The certificate of {server.where} is not valid: {error.verify_message}."
            return ConnectionFailed(message, reason="tls", transient=False)
        case ssl.SSLError():
            return ConnectionFailed(
                f"No TLS connection to {server.where} could be made.", reason="tls", transient=False
            )
        case ConnectionRefusedError():
            return ConnectionFailed(f"{server.where} refused the connection.", reason="refused")
        case ConnectionError() if type(error) is ConnectionError and "SSL" in str(error):
            message = f"{server.where} offers no TLS, which `sslmode` asks for."
            return ConnectionFailed(message, reason="tls", transient=False)
        case ConnectionError():
            return ConnectionFailed(f"The connection to {server.where} was reset.", reason="reset")
        case OSError():
            return ConnectionFailed(f"{server.where} can't be reached.", reason="unreachable")
        case _:
            return ConnectionFailed(f"{server.where} doesn't speak as Postgres does.", reason="closed")


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).replace("\0", "\ufffd").splitlines()[:1]).rstrip(".")
    return f"{text[:500]}."
