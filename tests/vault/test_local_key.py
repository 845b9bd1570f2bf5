"""The key file: whose it must be, and what it must hold."""

import base64
import os
import uuid
from pathlib import Path

import pytest

from gorax_engine.errors import ConfigurationError, Unavailable
from gorax_engine.vault.keys import DATA_KEY_BYTES, VAULT_UNAVAILABLE, EncryptionContext, NoKey, Undecryptable
from gorax_engine.vault.local_key import LocalKey, new_key_text, open_key_provider, read_key_file

CONTEXT = EncryptionContext(uuid.uuid4(), uuid.uuid4(), 1)


def key_file(folder: Path, text: str = "", mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(text or new_key_text() + "\n", encoding="ascii")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_taken(tmp_path: Path, mode: int) -> None:
    assert len(read_key_file(key_file(tmp_path, mode=mode))) == 32


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o601])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"may be read by others \(mode {mode:04o}\); chmod 600"):
        read_key_file(key_file(tmp_path, mode=mode))


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="belongs to the user"):
        read_key_file(path)


@pytest.mark.parametrize(
    "text",
    ["\n", "not base64!", base64.b64encode(b"x" * 31).decode(), base64.b64encode(b"x" * 33).decode(), "A" * 5000],
)
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="must hold 32 bytes as one line of base64") as caught:
        open_key_provider(key_file(tmp_path, text))
    assert caught.value.code == "bad_key_file"


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigurationError, match="can't be read"):
            read_key_file(path)


async def test_without_a_key_it_says_which_setting_is_missing() -> None:
    provider = open_key_provider(None)
    assert isinstance(provider, NoKey)
    for call in (provider.generate_data_key(CONTEXT), provider.decrypt(b"", "", CONTEXT)):
        with pytest.raises(Unavailable, match=r"vault\.key_file \(GORAX_VAULT__KEY_FILE\)") as caught:
            await call
        assert caught.value.code == VAULT_UNAVAILABLE


async def test_a_data_key_opens_in_its_own_context_only() -> None:
    provider = LocalKey(bytes(32))
    key = await provider.generate_data_key(CONTEXT)
    assert len(key.plaintext) == DATA_KEY_BYTES
    assert key.plaintext not in key.encrypted
    assert await provider.decrypt(key.encrypted, key.key_id, CONTEXT) == key.plaintext
    for other in (
        EncryptionContext(uuid.uuid4(), CONTEXT.credential_id, 1),
        EncryptionContext(CONTEXT.tenant_id, uuid.uuid4(), 1),
        EncryptionContext(CONTEXT.tenant_id, CONTEXT.credential_id, 2),
    ):
        with pytest.raises(Undecryptable):
            await provider.decrypt(key.encrypted, key.key_id, other)
    for damaged in (b"", key.encrypted[:-1], key.encrypted[:-1] + bytes([key.encrypted[-1] ^ 1])):
        with pytest.raises(Undecryptable):
            await provider.decrypt(damaged, key.key_id, CONTEXT)


async def test_another_key_is_told_by_its_name() -> None:
    one, other = LocalKey(bytes(32)), LocalKey(b"\1" * 32)
    key = await one.generate_data_key(CONTEXT)
    with pytest.raises(Unavailable, match=f"encrypted with the key {one.key_id}, and vault.key_file holds") as caught:
        await other.decrypt(key.encrypted, key.key_id, CONTEXT)
    assert caught.value.code == VAULT_UNAVAILABLE
    assert "0000" not in repr(one)


def test_secrets_are_in_no_repr() -> None:
    assert "key-" not in repr(LocalKey(b"key-" * 8))
