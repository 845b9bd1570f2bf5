"""sql_query on a real Postgres: what it binds and gives back, its limits, its transaction, and how it lets go."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import anyio
import asyncpg
import pytest

from gorax_engine.core.instants import parse_instant
from gorax_engine.core.json_edge import encode
from gorax_engine.core.validation import ConfigValidator
from gorax_engine.nodes.api import Classification, Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.tasks import sql_connection, sql_query
from gorax_engine.nodes.tasks.sql_query import SCHEMA, SqlQuery
from gorax_engine.store.embedded import EmbeddedPostgres

pytestmark = pytest.mark.anyio

NOW = parse_instant("2026-11-24T12:00:00Z")
CONTEXT = NodeContext("e1", "t1", "w1", "ask", "", 1, NOW, "e1:ask:", b"seed", {})
LOOPBACK = OutboundPolicy.read(allow=["127.0.0.0/8"])
CERTIFICATE = Path(__file__).parents[1] / "shop_example.pem"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(60)%' AND pid <> $1"


class Database(Protocol):
    dsn: str


@pytest.fixture(scope="module")
async def shared(postgres_server: EmbeddedPostgres) -> dict[str, Any]:
    """A credential for a database in which tests leave nothing behind."""
    return credential_for(await postgres_server.create_database("shared_by_sql_query"))


@pytest.fixture
def credential(database: Database) -> dict[str, Any]:
    """What the vault would give for the test's database."""
    return credential_for(database.dsn)


def credential_for(dsn: str) -> dict[str, Any]:
    url = urlsplit(dsn)
    return {
        "name": "shop", "type": "database_postgres", "host": "127.0.0.1", "port": url.port,
        "database": url.path.removeprefix("/"), "username": url.username, "password": unquote(url.password or ""),
    }  # fmt: skip


@pytest.fixture
async def observer(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def run(credential: Any, query: str, *parameters: Any, node: SqlQuery | None = None, **config: Any) -> Outcome:
    saved = {"credential": "shop", "query": query, "parameters": list(parameters), **config}
    assert list(ConfigValidator(SCHEMA).faults(saved, ())) == []
    outcome = await (node or SqlQuery(LOOPBACK)).run({**saved, "credential": credential}, CONTEXT)
    encode(dict(outcome.error.details) if isinstance(outcome, Failed) else outcome.output)  # it can be stored
    return outcome


async def value(credential: Mapping[str, Any], query: str, *parameters: Any) -> Any:
    """Return the only value of the only row."""
    outcome = await run(credential, query, *parameters)
    assert isinstance(outcome, Completed), outcome
    ((only,),) = [row.values() for row in outcome.output["rows"]]
    return only


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, Completed), outcome
    return outcome.output


def failure(outcome: Outcome) -> StepError:
    assert isinstance(outcome, Failed), outcome
    return outcome.error


# --- what comes back


async def test_rows(shared: dict[str, Any]) -> None:
    query = "SELECT n, 'a' || n AS name FROM generate_series(1, $1) AS n ORDER BY n"
    assert output(await run(shared, query, 2)) == {
        "rows": [{"n": 1, "name": "a1"}, {"n": 2, "name": "a2"}],
        "row_count": 2,
        "columns": [{"name": "n", "type": "int4"}, {"name": "name", "type": "text"}],
    }
    empty = output(await run(shared, "SELECT 1 AS n WHERE false"))
    assert empty == {"rows": [], "row_count": 0, "columns": [{"name": "n", "type": "int4"}]}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("9223372036854775807", 9223372036854775807),
        ("12.50::numeric", "12.50"),
        ("1e40::numeric", "1" + "0" * 40),
        ("point '(1,2)'", [1.0, 2.0]),
        ("0.1::float8", 0.1),
        ("true", True),
        ("NULL::text", None),
        ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("'2026-01-02 03:04:05.5+02'::timestamptz", "2026-01-02T01:04:05.500000Z"),
        ("'2026-01-02 03:04:05'::timestamp", "2026-01-02T03:04:05"),
        ("'2026-01-02'::date", "2026-01-02"),
        ("'03:04'::time", "03:04:00"),
        ("interval '1 day 1.5 s'", 86401.5),
        ("interval '2 h'", 7200),
        ("'\\xdeadbeef'::bytea", "3q2+7w=="),
        ("""'{"a": [1, null]}'::jsonb""", {"a": [1, None]}),
        ("'[1.5]'::json", [1.5]),
        ("ARRAY[[1, 2], [3, NULL]]", [[1, 2], [3, None]]),
        ("""ARRAY['{"a": 1}'::jsonb]""", [{"a": 1}]),
        ("ROW(1, 'x')", [1, "x"]),
        ("'10.0.0.0/8'::cidr", "10.0.0.0/8"),
        ("'10.0.0.1'::inet", "10.0.0.1"),
        ("B'10101'", "10101"),
        ("'[1,5)'::int4range", {"lower": 1, "upper": 5, "lower_inclusive": True, "upper_inclusive": False}),
        ("'empty'::int4range", {"empty": True}),
        ("'{}'::text[]", []),
    ],
)
async def test_types(shared: dict[str, Any], expression: str, expected: Any) -> None:
    assert await value(shared, f"SELECT {expression}") == expected


@pytest.mark.parametrize(
    "expression",
    [
        "'NaN'::float8", "'-Infinity'::float4", "'NaN'::numeric", "ARRAY['NaN'::float8]",
        """'{"a": "\\u0000"}'::json""", "'4000-01-01 BC'::date", "1 AS a, 2 AS a", "'20000-01-01'::timestamptz",
    ],
)  # fmt: skip
async def test_what_json_can_not_say_is_refused(shared: dict[str, Any], expression: str) -> None:
    error = failure(await run(shared, f"SELECT {expression}"))
    assert (error.code, error.classification) == ("type_error", Classification.PERMANENT)


async def test_types_of_its_own(credential: dict[str, Any], observer: Any) -> None:
    await observer.execute("CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE pair AS (a int, b numeric)")
    assert await value(credential, "SELECT $1::mood", "good") == "good"
    assert await value(credential, "SELECT (1, 2.50)::pair") == {"a": 1, "b": "2.50"}
    assert failure(await run(credential, "SELECT $1::mood", "odd")).details == {"sqlstate": "22P02"}


# --- what is bound


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("int4", 5, "5"), ("int8", "5", "5"), ("int2", 5.0, "5"), ("numeric", "12.50", "12.50"),
        ("numeric", 1.5, "1.5"),
        ("float8", 1, "1"), ("bool", True, "true"), ("text", "x'; DROP TABLE t; --", "x'; DROP TABLE t; --"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("timestamptz", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05+00"), ("date", "2026-01-02", "2026-01-02"),
        ("timestamp", "2026-01-02T03:04:05", "2026-01-02 03:04:05"), ("time", "03:04", "03:04:00"),
        ("interval", "1h30m", "01:30:00"), ("bytea", "3q2+7w==", "\\xdeadbeef"), ("jsonb", {"a": [1]}, '{"a": [1]}'),
        ("jsonb", "x", '"x"'), ("int4[]", [1, None], "{1,NULL}"), ("text[]", ["a,b"], '{"a,b"}'), ("text", None, None),
        ("inet", "10.0.0.1", "10.0.0.1/32"),
    ],
)  # fmt: skip
async def test_parameters(shared: dict[str, Any], kind: str, given: Any, text: str | None) -> None:
    assert await value(shared, f"SELECT ($1::{kind})::text", given) == text


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int4", "x"), ("int4", 1.5), ("int4", True), ("int4", 2**40), ("text", 5), ("bool", "true"),
        ("timestamptz", "2026-01-02T03:04:05"), ("timestamp", "2026-01-02T03:04:05Z"), ("date", "tomorrow"),
        ("bytea", "no base64!"), ("uuid", "x"), ("int4[]", 5), ("numeric", "1e999999999"), ("inet", 5),
        ("interval", "soon"), ("float8", "x"), ("jsonb[]", {"a": 1}),
    ],
)  # fmt: skip
async def test_parameters_of_a_wrong_type(shared: dict[str, Any], kind: str, given: Any) -> None:
    assert failure(await run(shared, f"SELECT $1::{kind}", given)).code == "type_error"


async def test_the_number_of_parameters(shared: dict[str, Any]) -> None:
    assert "has 2 parameters, but 1" in failure(await run(shared, "SELECT $1::int + $2::int", 1)).message


# --- limits


async def test_more_rows_than_allowed_fail_and_have_no_effect(credential: dict[str, Any], observer: Any) -> None:
    await observer.execute("CREATE TABLE t (n int)")
    query = "INSERT INTO t SELECT generate_series(1, 3) RETURNING n"
    error = failure(await run(credential, query, max_rows=2))
    assert (error.code, error.classification) == ("row_limit", Classification.PERMANENT)
    assert await observer.fetchval("SELECT count(*) FROM t") == 0
    assert output(await run(credential, query, max_rows=3))["row_count"] == 3
    assert await observer.fetchval("SELECT count(*) FROM t") == 3
    assert failure(await run(credential, "SELECT generate_series(1, 1001)")).code == "row_limit"


async def test_more_bytes_than_allowed_are_cut_off_on_the_wire(
    credential: dict[str, Any], observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_connection, "MAX_BYTES", 100_000)
    await observer.execute("CREATE TABLE t (n int)")
    query = "INSERT INTO t SELECT 1 RETURNING repeat('x', 5000000)"
    error = failure(await run(credential, query))
    assert (error.code, error.classification) == ("response_too_large", Classification.PERMANENT)
    assert await observer.fetchval("SELECT count(*) FROM t") == 0
    assert len(await value(credential, "SELECT repeat('x', 90000)")) == 90_000


async def test_values_that_grow_when_they_are_read_are_bounded_too(
    shared: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_query, "MAX_BYTES", 1_000_000)
    query = "SELECT 1e100000::numeric FROM generate_series(1, $1)"
    assert failure(await run(shared, query, 20)).code == "response_too_large"
    assert output(await run(shared, query, 5))["row_count"] == 5


async def test_many_rows_come_in_portions(shared: dict[str, Any]) -> None:
    for count in (499, 500, 501, 1_000):
        rows = output(await run(shared, "SELECT generate_series(1, $1) AS n", count))["rows"]
        assert [row["n"] for row in rows] == list(range(1, count + 1))


async def test_the_server_stops_by_itself_at_the_timeout(shared: dict[str, Any]) -> None:
    error = failure(await run(shared, "SELECT pg_sleep(60)", timeout="200ms"))
    assert (error.code, error.classification) == ("timeout", Classification.TRANSIENT)
    query = "SELECT current_setting('statement_timeout')"
    assert await value(shared, query) == "30s"


async def test_cancelling_ends_the_statement_and_the_connection(credential: dict[str, Any], observer: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, credential, "SELECT pg_sleep(60)")
        own = observer.get_server_pid()
        with anyio.fail_after(10):
            while await observer.fetchval(WAITING, own) == 0:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    with anyio.fail_after(5):
        while await observer.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gorax-engine'"):
            await anyio.sleep(0.01)


async def test_no_connection_outlives_its_step(credential: dict[str, Any], observer: Any) -> None:
    output(await run(credential, "SELECT 1"))
    failure(await run(credential, "SELECT 1 / 0"))
    with anyio.fail_after(5):
        while await observer.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gorax-engine'"):
            await anyio.sleep(0.01)


# --- the transaction


async def test_statements_without_rows(credential: dict[str, Any], observer: Any) -> None:
    assert output(await run(credential, "CREATE TABLE t (n int UNIQUE)"))["row_count"] == 0
    created = output(await run(credential, "INSERT INTO t VALUES ($1), ($2)", 1, 2))
    assert created == {"rows": [], "row_count": 2, "columns": []}
    assert output(await run(credential, "UPDATE t SET n = n + 10"))["row_count"] == 2
    assert await observer.fetchval("SELECT sum(n) FROM t") == 23
    error = failure(await run(credential, "INSERT INTO t VALUES (11)"))
    assert (error.code, error.classification) == ("sql_error", Classification.PERMANENT)
    assert error.details == {"sqlstate": "23505", "constraint": "t_n_key"}


async def test_read_only(credential: dict[str, Any], observer: Any) -> None:
    await observer.execute("CREATE TABLE t (n int)")
    error = failure(await run(credential, "INSERT INTO t VALUES (1)", read_only=True))
    assert (error.code, error.details["sqlstate"]) == ("sql_error", "25006")
    assert await value(credential, "SELECT count(*) FROM t") == 0


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT 1; SELECT 2", "sql_error"),
        ("SELEKT", "sql_error"),
        ("SELECT * FROM nowhere", "sql_error"),
        ("COPY nowhere FROM STDIN", "sql_error"),
        ("VACUUM", "sql_error"),
        ("{{ trigger.body.sql }}", "sql_error"),
    ],
)
async def test_what_is_no_statement(shared: dict[str, Any], query: str, code: str) -> None:
    assert failure(await run(shared, query)).code == code


async def test_conflicts_are_transient(shared: dict[str, Any]) -> None:
    for state in ("40001", "40P01", "53200", "57P03"):
        query = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$"
        error = failure(await run(shared, query))
        assert (error.details["sqlstate"], error.classification) == (state, Classification.TRANSIENT)


async def test_a_connection_that_breaks_is_transient(credential: dict[str, Any]) -> None:
    error = failure(await run(credential, "SELECT pg_terminate_backend(pg_backend_pid())"))
    assert error.classification is Classification.TRANSIENT
    assert error.code in {"connection_failed", "sql_error"}


# --- the way there


async def test_hosts_are_judged(shared: dict[str, Any]) -> None:
    error = failure(await run(shared, "SELECT 1", node=SqlQuery(OutboundPolicy())))
    assert error.code == "outbound_denied"

    async def resolve(host: str, port: int) -> list[str]:
        return ["203.0.114.1", "169.254.169.254"]

    node = SqlQuery(LOOPBACK, resolve=resolve)
    assert failure(await run({**shared, "host": "db.example"}, "SELECT 1", node=node)).code == "outbound_denied"


async def test_nobody_there(shared: dict[str, Any]) -> None:
    error = failure(await run({**shared, "port": 1}, "SELECT 1"))
    assert (error.code, error.classification) == ("connection_failed", Classification.TRANSIENT)
    assert error.details == {"reason": "refused"}


async def test_credentials_that_will_not_do(shared: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for change in (
        {"type": "basic_auth"}, {"host": ""}, {"host": "/run"}, {"host": "a,b"}, {"port": "x"}, {"port": 0},
        {"sslmode": "allow"}, {"username": ""}, {"database": None}, {"password": 5},
        {"sslmode": "verify-full", "sslrootcert": "nonsense"},
    ):  # fmt: skip
        assert failure(await run({**shared, **change}, "SELECT 1")).code == "unusable_credential"
    monkeypatch.setenv("PGPASSWORD", shared["password"])
    for password in ("wrong", None):
        error = failure(await run({**shared, "password": password}, "SELECT 1"))
        assert (error.code, error.details) == ("sql_error", {"sqlstate": "28P01"})


@asynccontextmanager
async def tls_in_front_of(port: int) -> AsyncIterator[int]:
    """Speak TLS as Postgres does and hand on to one that can't."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(8)
            writer.write(b"S")
            await writer.start_tls(context)
            there, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pump(reader, back), pump(there, writer))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


async def test_tls(shared: dict[str, Any]) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    node = SqlQuery(LOOPBACK, resolve=resolve)
    root = CERTIFICATE.read_text().partition("-----END PRIVATE KEY-----")[2]
    async with tls_in_front_of(shared["port"]) as port:
        right = {**shared, "port": port, "host": "shop.example", "sslmode": "verify-full", "sslrootcert": root}
        output(await run(right, "SELECT 1", node=node))
        for change in (
            {"sslmode": "prefer"},
            {"sslmode": "require"},
            {"sslmode": "verify-ca", "host": "other.example"},
        ):
            output(await run({**right, **change}, "SELECT 1", node=node))
        wrong: list[dict[str, str | None]] = [
            {"host": "other.example"},
            {"sslrootcert": None},
            {"sslrootcert": None, "sslmode": "verify-ca"},
        ]
        for fault in wrong:
            error = failure(await run({**right, **fault}, "SELECT 1", node=node))
            assert (error.code, error.details) == ("connection_failed", {"reason": "tls"})
            assert "certificate" in error.message
    error = failure(await run({**shared, "sslmode": "require"}, "SELECT 1"))
    assert (error.code, error.details) == ("connection_failed", {"reason": "tls"})
    output(await run({**shared, "sslmode": "disable"}, "SELECT 1"))


async def test_rendered_values_of_a_wrong_type(shared: dict[str, Any]) -> None:
    for change in ({"parameters": "x"}, {"max_rows": "x"}, {"max_rows": 0}, {"timeout": "soon"}, {"read_only": "no"}):
        outcome = await SqlQuery(LOOPBACK).run({"credential": shared, "query": "SELECT 1", **change}, CONTEXT)
        assert failure(outcome).code == "type_error"
