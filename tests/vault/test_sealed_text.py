"""Sealed texts: bound to their tenant and purpose, and asked of the key once."""

from __future__ import annotations

import base64
import uuid

import msgspec
import pytest

from gorax_engine.errors import Unavailable
from gorax_engine.vault import sealed_text
from gorax_engine.vault.envelope import seal
from gorax_engine.vault.keys import DataKey, EncryptionContext, NoKey, Undecryptable
from gorax_engine.vault.local_key import LocalKey
from gorax_engine.vault.sealed_text import PREFIX, SealedTexts, is_sealed

pytestmark = pytest.mark.anyio

TENANT, OTHER = uuid.uuid4(), uuid.uuid4()
KEY = LocalKey(bytes(32))


class CountingKey:
    """A key that counts how often it unwraps."""

    def __init__(self) -> None:
        self.unwrapped = 0

    @property
    def key_id(self) -> str:
        return KEY.key_id

    async def generate_data_key(self, context: EncryptionContext) -> DataKey:
        return await KEY.generate_data_key(context)

    async def decrypt(self, encrypted: bytes, key_id: str, context: EncryptionContext) -> bytes:
        self.unwrapped += 1
        return await KEY.decrypt(encrypted, key_id, context)


@pytest.mark.parametrize("text", ["s3cret", "ä🔑", "x" * 500, ""])
async def test_what_is_sealed_is_one_line_and_opens_again(text: str) -> None:
    texts = SealedTexts(KEY)
    sealed = await texts.seal(TENANT, text)
    assert is_sealed(sealed)
    assert sealed.isprintable()
    assert not text or text not in sealed
    assert await SealedTexts(KEY).open(TENANT, sealed) == text
    assert await texts.seal(TENANT, text) != sealed


async def test_another_tenant_can_t_open_it_even_when_it_is_remembered() -> None:
    texts = SealedTexts(KEY)
    sealed = await texts.seal(TENANT, "s3cret")
    assert await texts.open(TENANT, sealed) == "s3cret"
    with pytest.raises(Undecryptable):
        await texts.open(OTHER, sealed)


async def test_no_credential_opens_as_a_text() -> None:
    value = await seal(KEY, EncryptionContext(TENANT, uuid.uuid4(), 1), {"text": "s3cret"})
    wire = sealed_text._Wire(value.encrypted_dek, value.ciphertext, value.nonce, value.auth_tag, value.kms_key_id)
    text = PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(wire)).decode()
    with pytest.raises(Undecryptable):
        await SealedTexts(KEY).open(TENANT, text)


async def test_damage_is_noticed_wherever_it_is() -> None:
    sealed = await SealedTexts(KEY).seal(TENANT, "s3cret")
    raw = bytearray(base64.urlsafe_b64decode(sealed.removeprefix(PREFIX)))
    for place in range(len(raw)):
        damaged = raw.copy()
        damaged[place] ^= 1
        text = PREFIX + base64.urlsafe_b64encode(damaged).decode()
        with pytest.raises((Undecryptable, Unavailable)) as caught:  # the name of the key may be what is damaged
            await SealedTexts(KEY).open(TENANT, text)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", PREFIX, PREFIX + "%%%", PREFIX + "AAAA", "plain", PREFIX + "ä"])
async def test_what_is_no_sealed_text_is_undecryptable(text: str) -> None:
    with pytest.raises(Undecryptable):
        await SealedTexts(KEY).open(TENANT, text)


async def test_the_key_is_asked_once_for_each_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_text, "REMEMBERED", 2)
    key = CountingKey()
    texts = SealedTexts(key)
    sealed = [await texts.seal(TENANT, each) for each in ("a", "b", "c")]
    for _ in range(3):
        assert await texts.open(TENANT, sealed[0]) == "a"
    assert key.unwrapped == 1
    assert [await texts.open(TENANT, each) for each in sealed] == ["a", "b", "c"]
    assert key.unwrapped == 3
    assert await texts.open(TENANT, sealed[0]) == "a"  # the oldest was forgotten
    assert key.unwrapped == 4


async def test_without_a_key_nothing_is_sealed_or_opened() -> None:
    sealed = await SealedTexts(KEY).seal(TENANT, "s3cret")
    for refused in (SealedTexts(NoKey()).seal(TENANT, "s3cret"), SealedTexts(NoKey()).open(TENANT, sealed)):
        with pytest.raises(Unavailable) as caught:
            await refused
        assert caught.value.code == "vault_unavailable"
