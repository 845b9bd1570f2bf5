"""Envelope encryption: a credential's value under a data key of its own, the data key under the provider's key.

AES-256-GCM, with a new data key and nonce for every write. The plaintext is the JSON `{"value": {...}}`. Both layers
authenticate the context (tenant, credential, version), so that no row opens in another's place.
"""

import secrets
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gorax_engine.core.model import Json
from gorax_engine.store.credentials import EncryptedValue
from gorax_engine.vault.keys import EncryptionContext, KeyProvider, Undecryptable

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


async def seal(provider: KeyProvider, context: EncryptionContext, value: dict[str, Json]) -> EncryptedValue:
    """Encrypt `value` under a new data key. Raises Unavailable."""
    key = await provider.generate_data_key(context)
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(key.plaintext).encrypt(nonce, _encode({"value": value}), context.associated_data())
    return EncryptedValue(key.encrypted, sealed[:-TAG_BYTES], nonce, sealed[-TAG_BYTES:], key.key_id, context.version)


def unseal(data_key: bytes, context: EncryptionContext, sealed: EncryptedValue) -> dict[str, Json]:
    """Decrypt a value with its unwrapped data key. Raises Undecryptable."""
    if len(sealed.nonce) != NONCE_BYTES or len(sealed.auth_tag) != TAG_BYTES:
        raise Undecryptable("the nonce or the tag has a wrong length")
    try:
        plaintext = AESGCM(data_key).decrypt(
            sealed.nonce, sealed.ciphertext + sealed.auth_tag, context.associated_data()
        )
    except (InvalidTag, ValueError) as error:
        raise Undecryptable("the value can't be opened") from error
    value: dict[str, Json] = _decode(plaintext)["value"]
    return value
