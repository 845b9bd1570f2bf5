"""Key providers: who holds the key that encrypts the keys of credentials.

A provider makes and unwraps data keys (envelope encryption); the key that wraps them never leaves it. What a data key
was made for, its `EncryptionContext`, is bound to it: a wrapped key that is moved to another row can't be opened.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from gorax_engine.errors import Unavailable

VAULT_UNAVAILABLE: Final = "vault_unavailable"
DATA_KEY_BYTES: Final = 32

_RETRY_SECONDS: Final = 30
_DOMAIN: Final = b"gorax/credential\0"


@dataclass(frozen=True, slots=True)
class EncryptionContext:
    """What a ciphertext belongs to. It is authenticated, and not secret."""

    tenant_id: UUID
    credential_id: UUID
    version: int

    def fields(self) -> dict[str, str]:
        """Return it as text by name, which is the form that a key management service logs and checks."""
        return {
            "tenant_id": str(self.tenant_id),
            "credential_id": str(self.credential_id),
            "version": str(self.version),
        }

    def associated_data(self) -> bytes:
        """Return it as bytes for AES-GCM; every part has a fixed length, so no two contexts give the same."""
        return _DOMAIN + self.tenant_id.bytes + self.credential_id.bytes + self.version.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh key of `DATA_KEY_BYTES` bytes, as it is and as it may be stored; `key_id` names what wrapped it."""

    plaintext: bytes = field(repr=False)
    encrypted: bytes
    key_id: str


class KeyProvider(Protocol):
    """Makes data keys and unwraps them.

    Calls may go over the network and may run side by side, so that many keys are unwrapped in the time of one. All
    raise Unavailable (`vault_unavailable`) when the provider can't answer or no longer has the key.
    """

    @property
    def key_id(self) -> str:
        """The name of the key that wraps new data keys, at most 255 characters."""

    async def generate_data_key(self, context: EncryptionContext) -> DataKey:
        """Return a new data key, bound to `context`."""

    async def decrypt(self, encrypted: bytes, key_id: str, context: EncryptionContext) -> bytes:
        """Return the data key that was wrapped under `key_id` for `context`.

        Raises Undecryptable if it was wrapped for another context or is damaged.
        """


class Undecryptable(Exception):
    """The ciphertext is damaged, or it was made under another key or for another credential."""


class NoKey:
    """The provider of an engine without a key: it says which setting is missing."""

    @property
    def key_id(self) -> str:
        """No name."""
        return ""

    async def generate_data_key(self, context: EncryptionContext) -> DataKey:
        """Raise Unavailable."""
        raise self._refusal()

    async def decrypt(self, encrypted: bytes, key_id: str, context: EncryptionContext) -> bytes:
        """Raise Unavailable."""
        raise self._refusal()

    @staticmethod
    def _refusal() -> Unavailable:
        return vault_unavailable(
            "This engine has no key for credentials: set vault.key_file (GORAX_VAULT__KEY_FILE) and start it again."
        )


def vault_unavailable(message: str) -> Unavailable:
    """Return the error of a vault that can't answer now."""
    return Unavailable(message, code=VAULT_UNAVAILABLE, retry_after=_RETRY_SECONDS)
