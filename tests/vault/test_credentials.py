"""Keeping credentials: what is stored, what may be shown, and what the log says."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from gorax_engine.errors import Conflict, InvalidInput, NotFound, Unavailable
from gorax_engine.telemetry import VaultOperation
from gorax_engine.vault.credentials import Credentials
from gorax_engine.vault.keys import NoKey
from tests.vault.conftest import Vault

SHOWN = {
    "id", "name", "type", "description", "status", "version", "revision", "expires_at", "created_by", "created_at",
    "updated_at", "last_used_at",
}  # fmt: skip


async def test_the_row_holds_no_secret_and_what_is_shown_no_ciphertext(vault: Vault) -> None:
    credential_id = await vault.store("stripe", {"key": "sk_live_1234567890"}, "api_key", description="Payments")
    row = await vault.owner.fetchrow("SELECT * FROM credentials WHERE id = $1", credential_id)
    assert row is not None
    assert b"sk_live" not in row["ciphertext"]
    assert (len(row["nonce"]), len(row["auth_tag"]), row["kms_key_id"]) == (12, 16, vault.provider.key_id)
    async with vault.database.tenant(vault.acme.tenant_id) as connection:
        shown = await vault.credentials.find(connection, vault.acme.tenant_id, credential_id)
        (listed,) = await vault.credentials.list_page(connection, vault.acme.tenant_id, limit=10)
    assert shown == listed
    assert shown.keys() == SHOWN
    assert (shown["name"], shown["type"], shown["status"], shown["version"]) == ("stripe", "api_key", "active", 1)
    assert shown["created_by"] == vault.acme.user_id


async def test_every_write_is_logged_and_the_log_outlives_the_credential(vault: Vault) -> None:
    credential_id, actor = await vault.store("stripe", {"key": "one"}, "api_key"), vault.acme
    value = await vault.credentials.seal_next(actor, credential_id, {"key": "two"})
    async with vault.database.tenant(actor.tenant_id) as connection:
        row = await vault.credentials.find(connection, actor.tenant_id, credential_id, lock=True)
        changed = await vault.credentials.change(connection, actor, row, {"status": "inactive"}, value)
        assert (changed["version"], changed["revision"], changed["status"]) == (2, 2, "inactive")
        assert await vault.credentials.change(connection, actor, changed, {"status": "inactive"}) is changed
        await vault.credentials.delete(connection, actor, changed)
    async with vault.database.tenant(actor.tenant_id) as connection:
        log = await vault.credentials.access_log(connection, actor.tenant_id, credential_id, limit=10)
        with pytest.raises(NotFound):
            await vault.credentials.find(connection, actor.tenant_id, credential_id)
        with pytest.raises(NotFound):
            await vault.credentials.access_log(connection, actor.tenant_id, uuid.uuid4(), limit=10)
    assert [each["access_type"] for each in log] == ["delete", "update", "create"]
    for each in log:
        assert (each["credential_name"], each["accessed_by"], each["success"]) == ("stripe", actor.user_id, True)
        assert (each["ip_address"], each["user_agent"]) == ("192.0.2.7", "curl/8")
    assert vault.events == [VaultOperation(operation, "ok") for operation in ("create", "update", "delete")]


async def test_a_name_is_taken_once_within_a_tenant(vault: Vault) -> None:
    await vault.store("stripe", {"key": "one"}, "api_key")
    await vault.store("stripe", {"key": "one"}, "api_key", actor=vault.rival)
    with pytest.raises(Conflict) as caught:
        await vault.store("stripe", {"key": "two"}, "api_key")
    assert caught.value.code == "name_taken"


@pytest.mark.parametrize("name", ["", "a.b", "a b", "ä", "a" * 256, "a\n"])
async def test_names_are_those_that_expressions_can_say(vault: Vault, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await vault.store(name, {"key": "one"}, "api_key")
    assert caught.value.problems[0].pointer == "/name"


async def test_a_value_sealed_for_a_version_that_has_passed_is_refused(vault: Vault) -> None:
    credential_id, actor = await vault.store("stripe", {"key": "one"}, "api_key"), vault.acme
    first, second = [await vault.credentials.seal_next(actor, credential_id, {"key": key}) for key in ("a", "b")]
    async with vault.database.tenant(actor.tenant_id) as connection:
        row = await vault.credentials.find(connection, actor.tenant_id, credential_id, lock=True)
        row = await vault.credentials.change(connection, actor, row, {}, first)
        with pytest.raises(Conflict, match="try again"):
            await vault.credentials.change(connection, actor, row, {}, second)
    assert (await vault.secrets.reveal(actor.tenant_id, ["stripe"])).values["stripe"]["key"] == "a"


async def test_a_new_value_must_fit_the_type_and_needs_the_key(vault: Vault) -> None:
    credential_id, actor = await vault.store("stripe", {"key": "one"}, "api_key"), vault.acme
    with pytest.raises(InvalidInput):
        await vault.credentials.seal_next(actor, credential_id, {"token": "two"})
    assert await vault.credentials.seal_next(actor, uuid.uuid4(), {"key": "two"}) is None
    assert await vault.credentials.seal_next(vault.rival, credential_id, {"key": "two"}) is None
    keyless = Credentials(vault.database, NoKey(), vault.events.append)
    with pytest.raises(Unavailable, match=r"vault\.key_file"):
        await keyless.seal_next(actor, credential_id, {"key": "two"})
    with pytest.raises(Unavailable, match=r"vault\.key_file"):
        await keyless.seal_new(actor.tenant_id, "other", "api_key", {"key": "two"})
    assert vault.events[-2:] == [VaultOperation(each, "vault_unavailable") for each in ("update", "create")]
    created, failed = await vault.log(credential_id)
    assert (created["success"], failed["success"], failed["access_type"]) == (True, False, "update")
    assert "vault.key_file" in failed["error_message"]


async def test_lists_are_filtered_and_paged(vault: Vault) -> None:
    tenant = vault.acme.tenant_id
    for number in range(3):
        await vault.store(f"key-{number}", {"key": "one"}, "api_key", expires_at=datetime(2030, 1, 1, tzinfo=UTC))
    await vault.store("token", {"token": "one"}, "bearer_token")
    await vault.store("theirs", {"token": "one"}, "bearer_token", actor=vault.rival)
    async with vault.database.tenant(tenant) as connection:
        page = vault.credentials.list_page
        assert [row["name"] for row in await page(connection, tenant, type="bearer_token", limit=9)] == ["token"]
        assert [row["name"] for row in await page(connection, tenant, name="key-1", limit=9)] == ["key-1"]
        assert await page(connection, tenant, status="revoked", limit=9) == []
        first = await page(connection, tenant, limit=2)
        after = first[-1]["created_at"], first[-1]["id"]
        second = await page(connection, tenant, after=after, limit=9)
    assert [row["name"] for row in [*first, *second]] == ["token", "key-2", "key-1", "key-0"]
