"""Revealing credentials: who gets what, what the log says, and what happens when it can't be."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from gorax_engine.errors import Conflict, GoraxError, NotFound, Unavailable
from gorax_engine.store.session import RecordRejected
from gorax_engine.telemetry import VaultOperation
from gorax_engine.vault.masking import MASK
from gorax_engine.vault.secrets import CACHE_SECONDS, ENGINE, Secrets
from tests.vault.conftest import CountingKey, Vault

RUN = uuid.uuid4()


async def test_a_step_gets_its_credentials_and_what_masks_them(vault: Vault) -> None:
    one = await vault.store("stripe", {"key": "sk_live_1234567890"}, "api_key")
    await vault.store("my-login", {"username": "bob", "password": "hunter2-hunter2"}, "basic_auth")
    await vault.store("stripe", {"key": "theirs"}, "api_key", actor=vault.rival)
    revealed = await vault.secrets.reveal(
        vault.acme.tenant_id, ["stripe", "my-login", "stripe"], execution_id=RUN, node_id="charge"
    )
    assert revealed.values == {
        "stripe": {"name": "stripe", "type": "api_key", "key": "sk_live_1234567890"},
        "my-login": {"name": "my-login", "type": "basic_auth", "username": "bob", "password": "hunter2-hunter2"},
    }
    assert revealed.mask({"a": ["x sk_live_1234567890", "bob"]}) == {"a": [f"x {MASK}", "bob"]}
    assert revealed.mask_text("no: hunter2-hunter2") == f"no: {MASK}"
    assert "sk_live" not in repr(revealed)
    created, used = await vault.log(one)
    assert created["access_type"] == "create"
    assert (used["access_type"], used["success"], used["accessed_by"]) == ("read", True, ENGINE)
    assert (used["execution_id"], used["node_id"], used["credential_name"]) == (RUN, "charge", "stripe")
    assert vault.events.count(VaultOperation("read", "ok")) == 2


async def test_nothing_is_asked_for_nothing(vault: Vault) -> None:
    revealed = await vault.secrets.reveal(vault.acme.tenant_id, [])
    assert revealed.values == {}
    value = {"a": "b"}
    assert revealed.mask(value) is value


async def test_a_principal_may_be_named(vault: Vault) -> None:
    credential_id = await vault.store("stripe", {"key": "k"}, "api_key")
    await vault.secrets.reveal(vault.acme.tenant_id, ["stripe"], accessed_by=vault.acme.user_id)
    assert (await vault.log(credential_id))[-1]["accessed_by"] == vault.acme.user_id


async def test_last_use_is_noted_once_a_minute(vault: Vault) -> None:
    credential_id = await vault.store("stripe", {"key": "k"}, "api_key")
    query = "SELECT last_used_at FROM credentials WHERE id = $1"
    noted = []
    for age in (None, None, "59 seconds", "61 seconds"):
        if age is not None:
            change = (
                "UPDATE credentials SET last_used_at = now() - $2::text::interval WHERE id = $1 RETURNING last_used_at"
            )
            noted.append(await vault.owner.fetchval(change, credential_id, age))
        await vault.secrets.reveal(vault.acme.tenant_id, ["stripe"])
        noted.append(await vault.owner.fetchval(query, credential_id))
    first, second, younger, after_younger, older, after_older = noted
    assert first == second is not None
    assert after_younger == younger
    assert after_older > older


async def test_a_row_that_somebody_is_changing_is_not_waited_for(vault: Vault) -> None:
    credential_id = await vault.store("stripe", {"key": "k"}, "api_key")
    async with vault.owner.transaction():
        await vault.owner.execute("SELECT FROM credentials WHERE id = $1 FOR UPDATE", credential_id)
        with anyio.fail_after(3):
            await vault.secrets.reveal(vault.acme.tenant_id, ["stripe"])


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ("status = 'inactive'", Conflict, "credential_inactive"),
        ("status = 'revoked'", Conflict, "credential_inactive"),
        ("expires_at = now()", Conflict, "credential_expired"),
        ("version = version + 1", Conflict, "credential_unreadable"),
        ("auth_tag = decode(repeat('00', 16), 'hex')", Conflict, "credential_unreadable"),
        ("encrypted_dek = ''", Conflict, "credential_unreadable"),
        ("kms_key_id = 'local:other'", Unavailable, "vault_unavailable"),
    ],
)
async def test_what_may_not_be_used_is_refused_and_that_is_logged(
    vault: Vault, change: str, kind: type[GoraxError], code: str
) -> None:
    credential_id = await vault.store("stripe", {"key": "sk_live_1234567890"}, "api_key")
    # It was used before: nothing that is remembered helps.
    await vault.secrets.reveal(vault.acme.tenant_id, ["stripe"])
    await vault.owner.execute(f"UPDATE credentials SET {change} WHERE id = $1", credential_id)
    with pytest.raises(kind) as caught:
        await vault.secrets.reveal(vault.acme.tenant_id, ["stripe"], execution_id=RUN, node_id="n")
    assert caught.value.code == code
    assert "sk_live" not in caught.value.message
    last = (await vault.log(credential_id))[-1]
    assert (last["access_type"], last["success"], last["execution_id"], last["node_id"]) == ("read", False, RUN, "n")
    assert last["error_message"]
    assert vault.events[-1] == VaultOperation("read", code)


async def test_a_row_that_was_copied_to_another_tenant_does_not_open(vault: Vault) -> None:
    await vault.store("stripe", {"key": "sk_live_1234567890"}, "api_key")
    await vault.owner.execute("UPDATE credentials SET tenant_id = $1", vault.rival.tenant_id)
    with pytest.raises(Conflict) as caught:
        await vault.secrets.reveal(vault.rival.tenant_id, ["stripe"])
    assert caught.value.code == "credential_unreadable"


@pytest.mark.parametrize("name", ["absent", "STRIPE", "", "a\x00b", "\ud800", "x" * 300])
async def test_what_is_not_there_is_not_found(vault: Vault, name: str) -> None:
    await vault.store("stripe", {"key": "k"}, "api_key")
    with pytest.raises(NotFound) as caught:
        await vault.secrets.reveal(vault.acme.tenant_id, ["stripe", name])
    assert caught.value.code == "credential_not_found"
    with pytest.raises(NotFound):
        await vault.secrets.reveal(vault.rival.tenant_id, ["stripe"])


async def test_data_keys_are_unwrapped_once_a_minute(vault: Vault) -> None:
    await vault.store("stripe", {"key": "k"}, "api_key")
    for now, unwrapped in ((0.0, 1), (CACHE_SECONDS - 1, 1), (CACHE_SECONDS + 1, 2)):
        vault.now = now
        await vault.secrets.reveal(vault.acme.tenant_id, ["stripe"])
        assert len(vault.provider.unwrapped) == unwrapped


async def test_an_expiry_to_come_is_no_hindrance(vault: Vault) -> None:
    await vault.store("stripe", {"key": "k"}, "api_key", expires_at=datetime(2999, 1, 1, tzinfo=UTC))
    assert (await vault.secrets.reveal(vault.acme.tenant_id, ["stripe"])).values["stripe"]["key"] == "k"


class Line:
    """A session that holds back until it is let, counts, and fails as it is told."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.let = anyio.Event()
        self.fails: dict[str, Exception] = {}

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]:
        self.sent.append(arguments)
        await self.let.wait()
        for name in arguments[1]:
            if name in self.fails:
                raise self.fails[name]
        return []


async def _ask(secrets: Secrets, name: str, codes: dict[str, str]) -> None:
    try:
        await secrets.reveal(uuid.uuid4(), [name])
    except GoraxError as error:
        codes[name] = error.code
    except RecordRejected:
        codes[name] = "rejected"


async def test_those_who_come_together_share_a_statement() -> None:
    line, codes = Line(), dict[str, str]()
    secrets = Secrets(line, CountingKey())
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(_ask, secrets, f"n{number}", codes)
        await anyio.wait_all_tasks_blocked()
        line.let.set()
    assert [len(arguments[1]) for arguments in line.sent] == [50]
    assert set(codes.values()) == {"credential_not_found"}
    assert len(codes) == 50


async def test_one_that_the_database_refuses_spoils_nothing_for_the_others() -> None:
    line, codes = Line(), dict[str, str]()
    line.fails["bad"] = RecordRejected("no", "22000")
    secrets = Secrets(line, CountingKey())
    async with anyio.create_task_group() as tasks:
        for name in ("first", "good", "bad", "other"):
            tasks.start_soon(_ask, secrets, name, codes)
        await anyio.wait_all_tasks_blocked()
        line.let.set()
    not_found = "credential_not_found"
    assert codes == {"first": not_found, "good": not_found, "bad": "rejected", "other": not_found}


async def test_one_that_is_cancelled_while_it_asks_for_all_leaves_the_others_their_turn() -> None:
    line, codes = Line(), dict[str, str]()
    secrets = Secrets(line, CountingKey())
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(_ask, secrets, "first", codes)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(_ask, secrets, "second", codes)
            await anyio.wait_all_tasks_blocked()
            doomed.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
        line.let.set()
    assert codes == {"second": "credential_not_found"}
    assert [arguments[1] for arguments in line.sent] == [["first"], ["second"]]


async def test_that_the_database_is_away_is_told_to_each() -> None:
    line, codes = Line(), dict[str, str]()
    line.fails["a"] = Unavailable("away")
    line.let.set()
    secrets = Secrets(line, CountingKey())
    async with anyio.create_task_group() as tasks:
        for name in ("a", "b"):
            tasks.start_soon(_ask, secrets, name, codes)
    assert codes == {"a": "unavailable", "b": "unavailable"}
