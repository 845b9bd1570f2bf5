"""`gorax migrate`, `doctor` and `tenant` on a real Postgres."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import anyio.to_thread
import asyncpg
import pytest

from gorax_engine.cli.main import main
from gorax_engine.cli.onboarding import ensure_tenant
from gorax_engine.store.migrate import migrations_directory, read_migrations
from gorax_engine.tenancy.api_keys import hash_key

pytestmark = pytest.mark.anyio

Gorax: TypeAlias = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def gorax(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gorax:
    """Runs a command against a DSN, in a thread, because it brings its own event loop."""

    async def run(dsn: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("GORAX_DATABASE__DSN", dsn)
        code = await anyio.to_thread.run_sync(partial(main, arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def verdicts(out: str) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in json.loads(out)}


async def test_migrate_checks_plans_and_applies(gorax: Gorax, database: Any) -> None:
    names = [f"{each.version:03d}_{each.name}" for each in read_migrations(migrations_directory())]
    code, out, _ = await gorax(database.dsn, "migrate", "--check")
    assert code == 1
    assert f"{names[-1]}: pending" in out
    code, out, _ = await gorax(database.dsn, "migrate", "--to", "2", "--dry-run", "--json")
    assert (code, [each["version"] for each in json.loads(out)]) == (0, [1, 2])
    code, out, _ = await gorax(database.dsn, "migrate")
    assert code == 0
    assert f"{names[-1]}: applied in" in out
    code, out, _ = await gorax(database.dsn, "migrate", "--check")
    assert (code, out) == (0, "The database is up to date.\n")


async def test_doctor_finds_nothing_wrong(gorax: Gorax, migrated_database: Any) -> None:
    code, out, _ = await gorax(migrated_database.dsn, "doctor", "--json")
    found = verdicts(out)
    # The servers of the tests trade durability for speed, and the doctor sees it.
    assert {name for name, verdict in found.items() if verdict != "ok"} == {"durability", "vault"}
    assert code == 1
    assert found["connection.worker"] == found["connection.app"] == found["partitions"] == "ok"


async def test_doctor_sees_a_missing_schema_and_a_superuser(
    gorax: Gorax, database: Any, migrated_database: Any
) -> None:
    code, out, _ = await gorax(database.dsn, "doctor", "--json")
    assert (code, verdicts(out)["schema"]) == (1, "failed")
    _, out, _ = await gorax(migrated_database.admin_dsn, "doctor", "--json")
    found = verdicts(out)
    assert found["connection.worker"] == found["connection.app"] == "warning"
    assert found["connection.migrate"] == "ok"


@pytest.mark.parametrize(
    ("dsn", "code", "says"),
    [
        ("postgresql://u@127.0.0.1:1/d", 69, "[database_unreachable]"),
        ("nonsense", 78, "The DSN is not valid"),
    ],
)
async def test_a_database_that_is_not_there(gorax: Gorax, dsn: str, code: int, says: str) -> None:
    for command in (["tenant", "list"], ["tenant", "create", "x"]):
        result, _, err = await gorax(dsn, *command)
        assert result == code
        assert says in err
    result, out, _ = await gorax(dsn, "doctor", "--json")
    assert (result, set(verdicts(out).values())) == (1, {"ok", "warning", "failed"})


async def test_a_database_without_schema_and_a_wrong_password(gorax: Gorax, database: Any) -> None:
    code, _, err = await gorax(database.dsn, "tenant", "list")
    assert code == 78
    assert "run `gorax migrate`" in err
    code, _, err = await gorax(database.dsn.replace("gorax:", "gorax:wrong"), "tenant", "list")
    assert code == 78
    assert "password" in err


async def test_creates_a_tenant_whose_key_works(gorax: Gorax, migrated_database: Any) -> None:
    code, out, _ = await gorax(migrated_database.dsn, "--json", "tenant", "create", "Äcme & Co", "--tier", "starter")
    assert code == 0
    tenant = json.loads(out)
    assert (tenant["name"], tenant["subdomain"], tenant["tier"]) == ("Äcme & Co", "acme-co", "starter")
    connection = await asyncpg.connect(migrated_database.dsn)
    holder = await connection.fetchrow(
        "SELECT tenant_id::text, permissions FROM gorax_authenticate_api_key($1)", hash_key(tenant["api_key"])
    )
    stored = await connection.fetchval("SELECT string_agg(k::text, '') FROM api_keys k")
    await connection.close()
    assert holder is not None
    assert holder["tenant_id"] == tenant["id"]
    assert "workflow:execute" in holder["permissions"]
    assert tenant["api_key"] not in stored

    code, out, _ = await gorax(migrated_database.dsn, "tenant", "list", "--json")
    assert [row["subdomain"] for row in json.loads(out)] == ["acme-co"]
    for name in ("acme-co", tenant["id"]):
        code, out, _ = await gorax(migrated_database.dsn, "tenant", "show", name)
        assert code == 0
        assert "Äcme & Co" in out
    code, _, err = await gorax(migrated_database.dsn, "tenant", "create", "Acme CO")
    assert (code, "[subdomain_taken]" in err) == (1, True)
    code, _, err = await gorax(migrated_database.dsn, "tenant", "show", "nobody")
    assert (code, "[tenant_not_found]" in err) == (1, True)


@pytest.mark.parametrize("arguments", [["日本"], ["x", "--subdomain", "-x"], ["x", "--subdomain", "a.b"]])
async def test_a_subdomain_that_is_none(gorax: Gorax, arguments: list[str], migrated_database: Any) -> None:
    code, _, err = await gorax(migrated_database.dsn, "tenant", "create", *arguments)
    assert (code, "[invalid_subdomain]" in err) == (1, True)


async def test_the_first_tenant_is_made_once_and_a_lost_key_replaced(migrated_database: Any) -> None:
    key, is_new = await ensure_tenant(migrated_database.dsn, "Local", "local", None)
    assert is_new
    assert await ensure_tenant(migrated_database.dsn, "Local", "local", key) == (key, False)
    other, is_new = await ensure_tenant(migrated_database.dsn, "Local", "local", "gorax_of_another_database")
    assert is_new
    assert other != key
    connection = await asyncpg.connect(migrated_database.dsn)
    assert await connection.fetchval("SELECT count(*) FROM tenants") == 1
    await connection.close()
