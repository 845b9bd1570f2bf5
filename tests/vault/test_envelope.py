"""Envelope encryption: what is stored, and that nothing opens in another's place."""

import json
import uuid
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gorax_engine.vault.envelope import seal, unseal
from gorax_engine.vault.keys import EncryptionContext, Undecryptable
from gorax_engine.vault.local_key import LocalKey

PROVIDER = LocalKey(bytes(range(32)))
CONTEXT = EncryptionContext(uuid.uuid4(), uuid.uuid4(), 3)
VALUE = {"token": "s3cr€t", "port": 10**60, "nested": {"a": [1.5, None, True]}}


async def test_the_columns_are_those_of_the_document() -> None:
    sealed = await seal(PROVIDER, CONTEXT, VALUE)
    assert (len(sealed.nonce), len(sealed.auth_tag)) == (12, 16)
    assert len(sealed.encrypted_dek) == 12 + 32 + 16
    assert (sealed.kms_key_id, sealed.version) == (PROVIDER.key_id, 3)
    key = await PROVIDER.decrypt(sealed.encrypted_dek, sealed.kms_key_id, CONTEXT)
    assert unseal(key, CONTEXT, sealed) == VALUE
    # By the library alone, as another implementation would.
    plain = AESGCM(key).decrypt(sealed.nonce, sealed.ciphertext + sealed.auth_tag, CONTEXT.associated_data())
    assert json.loads(plain) == {"value": VALUE}


async def test_nothing_opens_in_anothers_place() -> None:
    sealed = await seal(PROVIDER, CONTEXT, VALUE)
    key = await PROVIDER.decrypt(sealed.encrypted_dek, sealed.kms_key_id, CONTEXT)
    for other in (
        EncryptionContext(uuid.uuid4(), CONTEXT.credential_id, 3),
        EncryptionContext(CONTEXT.tenant_id, uuid.uuid4(), 3),
        EncryptionContext(CONTEXT.tenant_id, CONTEXT.credential_id, 4),
        EncryptionContext(CONTEXT.credential_id, CONTEXT.tenant_id, 3),
    ):
        with pytest.raises(Undecryptable):
            unseal(key, other, sealed)


async def test_what_is_damaged_does_not_open() -> None:
    sealed = await seal(PROVIDER, CONTEXT, VALUE)
    key = await PROVIDER.decrypt(sealed.encrypted_dek, sealed.kms_key_id, CONTEXT)
    for damaged in (
        replace(sealed, ciphertext=sealed.ciphertext[:-1]),
        replace(sealed, ciphertext=b""),
        replace(sealed, nonce=bytes(12)),
        replace(sealed, nonce=b""),
        replace(sealed, auth_tag=bytes(16)),
        replace(sealed, auth_tag=sealed.auth_tag[:4]),
        replace(sealed, ciphertext=sealed.ciphertext + sealed.auth_tag[:1], auth_tag=sealed.auth_tag[1:]),
    ):
        with pytest.raises(Undecryptable):
            unseal(key, CONTEXT, damaged)
    with pytest.raises(Undecryptable):
        unseal(bytes(32), CONTEXT, sealed)


async def test_neither_keys_nor_nonces_are_used_twice() -> None:
    writes = [await seal(PROVIDER, CONTEXT, VALUE) for _ in range(300)]
    keys = [await PROVIDER.decrypt(each.encrypted_dek, each.kms_key_id, CONTEXT) for each in writes]
    assert len(set(keys)) == len({each.nonce for each in writes}) == 300
    assert len({each.encrypted_dek[:12] for each in writes}) == 300
    assert len({each.ciphertext for each in writes}) == 300


async def test_a_sealed_value_shows_nothing_in_its_repr() -> None:
    assert "b'" not in repr(await seal(PROVIDER, CONTEXT, VALUE))
