"""Short secrets that are stored where they are used: sealed under the vault's key into one line of text, and opened.

For the proofs of webhooks, which stand in definitions and in rows. A text is bound to its tenant and to its purpose: in
another tenant it can't be opened, and no credential's value can be opened as one.
"""

import base64
from typing import Final
from uuid import UUID

import msgspec

from gorax_engine.store.credentials import EncryptedValue
from gorax_engine.vault.envelope import seal, unseal
from gorax_engine.vault.keys import EncryptionContext, KeyProvider, Undecryptable

PREFIX: Final = "sealed:v1:"
REMEMBERED: Final = 10_000

_WEBHOOK_SECRETS: Final = UUID("6f1d5d0e-7b52-5c3c-9d53-0d8f1c1e6a41")
"""Stands in the encryption context where the id of a credential stands: what these texts are for."""


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    data_key: bytes
    ciphertext: bytes
    nonce: bytes
    auth_tag: bytes
    key_id: str


class SealedTexts:
    """Seals and opens; what was opened is remembered, so that a key service is asked once for each text."""

    def __init__(self, provider: KeyProvider) -> None:
        self._provider = provider
        self._opened: dict[tuple[UUID, str], str] = {}

    async def seal(self, tenant_id: UUID, text: str) -> str:
        """Return `text` sealed. Raises Unavailable (vault_unavailable)."""
        sealed = await seal(self._provider, _context(tenant_id), {"text": text})
        wire = _Wire(sealed.encrypted_dek, sealed.ciphertext, sealed.nonce, sealed.auth_tag, sealed.kms_key_id)
        return PREFIX + base64.urlsafe_b64encode(msgspec.msgpack.encode(wire)).decode()

    async def open(self, tenant_id: UUID, sealed: str) -> str:
        """Return the text. Raises Undecryptable, if it is damaged or another tenant's, and Unavailable."""
        known = self._opened.get((tenant_id, sealed))
        if known is not None:
            return known
        try:
            wire = msgspec.msgpack.decode(base64.urlsafe_b64decode(sealed.removeprefix(PREFIX)), type=_Wire)
        except (ValueError, msgspec.DecodeError) as error:
            raise Undecryptable("this is no sealed text") from error
        context = _context(tenant_id)
        data_key = await self._provider.decrypt(wire.data_key, wire.key_id, context)
        value = EncryptedValue(wire.data_key, wire.ciphertext, wire.nonce, wire.auth_tag, wire.key_id, context.version)
        text: str = unseal(data_key, context, value)["text"]
        while len(self._opened) >= REMEMBERED:
            del self._opened[next(iter(self._opened))]
        self._opened[(tenant_id, sealed)] = text
        return text


def is_sealed(text: str) -> bool:
    """Say whether a text looks sealed."""
    return text.startswith(PREFIX)


def _context(tenant_id: UUID) -> EncryptionContext:
    return EncryptionContext(tenant_id, _WEBHOOK_SECRETS, 1)
