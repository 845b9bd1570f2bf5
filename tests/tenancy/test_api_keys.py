"""API keys: their form, and how long an answer about them is believed."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from gorax_engine.errors import Forbidden, Unauthenticated
from gorax_engine.store import api_keys
from gorax_engine.tenancy.api_keys import CACHE_SECONDS, Authenticator, hash_key, new_key
from gorax_engine.tenancy.principals import Principal

pytestmark = pytest.mark.anyio


def test_keys_have_256_random_bits() -> None:
    first, second = new_key(), new_key()
    assert re.fullmatch(r"gorax_[A-Za-z0-9_-]{43}", first.secret)
    assert first.secret != second.secret
    assert first.hash == hash_key(first.secret)
    assert first.secret.startswith(first.prefix)
    assert len(first.prefix) <= 16


class NoDatabase:
    def tenant(self, _: uuid.UUID) -> Any:
        return self

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


async def test_answers_are_believed_for_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    now = 0.0
    row: Any = {
        "tenant_id": uuid.uuid4(), "user_id": uuid.uuid4(), "api_key_id": uuid.uuid4(), "permissions": ["tenant:read"],
        "tenant_status": "active",
    }  # fmt: skip

    async def authenticate(_: object, key_hash: bytes) -> Any:
        asked.append(key_hash)
        return row

    async def touch(*_: object) -> None: ...

    monkeypatch.setattr(api_keys, "authenticate", authenticate)
    monkeypatch.setattr(api_keys, "touch", touch)
    key = new_key()
    door = Authenticator(NoDatabase(), clock=lambda: now)  # type: ignore[arg-type]
    assert CACHE_SECONDS <= 5
    for _ in range(3):
        assert (await door.authenticate(key.secret)).may("tenant:read")
    assert asked == [key.hash]
    row = None
    now = CACHE_SECONDS - 0.01
    await door.authenticate(key.secret)
    now = CACHE_SECONDS
    with pytest.raises(Unauthenticated):
        await door.authenticate(key.secret)
    for malformed in ("", "gorax_", "gorax_short", key.secret + "!", "x" * 10_000):
        with pytest.raises(Unauthenticated):
            await door.authenticate(malformed)
    assert len(asked) == 2


def test_default_is_denial() -> None:
    some = Principal(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), frozenset({"workflow:read"}))
    some.require("workflow:read")
    with pytest.raises(Forbidden, match="workflow:execute"):
        some.require("workflow:execute")
    suspended = Principal(some.tenant_id, some.user_id, some.api_key_id, some.permissions, tenant_active=False)
    with pytest.raises(Forbidden) as refused:
        suspended.require("workflow:read")
    assert refused.value.code == "tenant_suspended"
