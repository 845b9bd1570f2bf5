"""The folder in which `gorax dev` keeps everything: private, held by one process at a time, and marked as its own."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gorax_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKER: Final = "dev.lock"
"""Locked while a process uses the folder; that it exists says that the folder is ours to --reset."""


@dataclass(frozen=True, slots=True)
class StateDir:
    """A folder that this process holds."""

    path: Path

    @property
    def api_key_file(self) -> Path:
        """Where the command line finds the key of the first tenant."""
        return self.path / "api-key"

    @property
    def vault_key_file(self) -> Path:
        """The key that the credentials of this engine are encrypted under."""
        return self.path / "vault-key"

    @property
    def examples_file(self) -> Path:
        """Says for which server the example workflows were applied."""
        return self.path / "examples"

    @property
    def postgres(self) -> Path:
        """The folder of the embedded Postgres."""
        return self.path / "postgres"

    def read(self, file: Path) -> str | None:
        """Return the text of a small file, None if it isn't there."""
        try:
            return file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def write_private(self, file: Path, text: str) -> None:
        """Write a small file that only its owner may read, whole or not at all."""
        fresh = file.with_name(file.name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(text + "\n")
        fresh.replace(file)

    def reset(self) -> None:
        """Delete all that the folder holds, but not the lock that keeps others out."""
        for entry in self.path.iterdir():
            if entry.name == MARKER:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


@contextmanager
def hold(path: Path) -> Iterator[StateDir]:
    """Make the folder if need be and keep others out until the end.

    Raises ConfigurationError if another process holds it, if it isn't ours, or if it can't be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker = path / MARKER
        if not marker.exists() and any(path.iterdir()):
            raise ConfigurationError(
                f"{path} is not empty and was not made by gorax; choose another --state-dir.", code="foreign_state_dir"
            )
        path.chmod(0o700)
        lock = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"The state folder {path} can't be used: {error.strerror}.") from error
    try:
        _lock(lock, path)
        yield StateDir(path)
    finally:
        os.close(lock)  # The lock goes with it, also when the process is killed.


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        raise ConfigurationError(
            f"Another `gorax dev` (process {holder or 'unknown'}) uses {path}; stop it, or give another --state-dir.",
            code="state_dir_in_use",
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
