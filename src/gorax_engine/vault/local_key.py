"""The local key provider: one 256-bit key in a file that only the daemon's user may read."""

import base64
import binascii
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gorax_engine.errors import ConfigurationError
from gorax_engine.vault.keys import (
    DATA_KEY_BYTES,
    DataKey,
    EncryptionContext,
    KeyProvider,
    NoKey,
    Undecryptable,
    vault_unavailable,
)

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12

_LARGEST_FILE: Final = 1024
_MEND: Final = "make one with `(umask 077; head -c 32 /dev/urandom | base64 > FILE)`"


def open_key_provider(key_file: Path | None) -> KeyProvider:
    """Return the provider that the settings name; without one, the provider that refuses everything.

    Raises ConfigurationError.
    """
    return NoKey() if key_file is None else LocalKey(read_key_file(key_file))


def new_key_text() -> str:
    """Return a new key as a key file has it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def read_key_file(path: Path) -> bytes:
    """Return the key of a file. Raises ConfigurationError if others might read it too, or if it holds no key."""
    try:
        with path.open("rb") as file:
            # Asked of the open file, so that what is judged is what is read.
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise _refusal(path, "is not a file")
            if facts.st_uid != os.geteuid():
                raise _refusal(path, f"belongs to the user {facts.st_uid}, not to {os.geteuid()} who runs this")
            if facts.st_mode & 0o077:
                raise _refusal(path, f"may be read by others (mode {facts.st_mode & 0o777:04o}); chmod 600 it")
            text = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise _refusal(path, f"can't be read: {error.strerror}") from error
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise _refusal(path, f"must hold {KEY_BYTES} bytes as one line of base64; {_MEND}")
    return key


def _refusal(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"The key file {path} of vault.key_file {what}.", code="bad_key_file")


class LocalKey:
    """Wraps data keys with AES-256-GCM: a 12-byte nonce, then ciphertext and tag, with the context authenticated.

    Nonces are random, which is safe for 2^32 wraps under one key (NIST SP 800-38D, 8.3).
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        # A name that tells keys apart and says nothing about them.
        self._key_id = f"local:{hashlib.sha256(b'gorax/key-id' + bytes(1) + key).hexdigest()[:16]}"

    @property
    def key_id(self) -> str:
        """`local:` and a fingerprint of the key."""
        return self._key_id

    async def generate_data_key(self, context: EncryptionContext) -> DataKey:
        """Return a new data key, bound to `context`."""
        plaintext = secrets.token_bytes(DATA_KEY_BYTES)
        nonce = secrets.token_bytes(NONCE_BYTES)
        wrapped = self._cipher.encrypt(nonce, plaintext, context.associated_data())
        return DataKey(plaintext, nonce + wrapped, self._key_id)

    async def decrypt(self, encrypted: bytes, key_id: str, context: EncryptionContext) -> bytes:
        """Return a data key. Raises Unavailable if another key wrapped it, Undecryptable if it is not whole."""
        if key_id != self._key_id:
            raise vault_unavailable(
                f"The credential was encrypted with the key {key_id}, and vault.key_file holds {self._key_id}: "
                "bring the former back, or store the credential anew."
            )
        try:
            return self._cipher.decrypt(encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:], context.associated_data())
        except (InvalidTag, ValueError) as error:
            raise Undecryptable("the wrapped key can't be opened") from error

    def __repr__(self) -> str:
        return f"LocalKey({self._key_id})"
