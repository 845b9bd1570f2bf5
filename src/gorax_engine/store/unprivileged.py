"""Finding a way to run Postgres' programs, which refuse root, whoever we are and wherever the checkout lies.

Root starts them as another user. Where that user can't reach the files, as under /root, `setpriv` (util-linux) leaves
it the one capability that opens folders. `setpriv` also ties the server to the process that started it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gorax_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROBE_TIMEOUT: Final = 20.0
# Fast shutdown: what the server gets if the process that started it dies without a word.
_DEATH_SIGNAL: Final = "INT"
_USERS: Final = ("postgres", "nobody")
# The first only reads; the second is what containers usually have.
_CAPABILITIES: Final = ("dac_read_search", "dac_override")


@dataclass(frozen=True, slots=True)
class Account:
    """How to start a server program: `prefix` stands before the command, `user` and `group` go to subprocess."""

    uid: int
    gid: int
    prefix: tuple[str, ...]
    user: int | None = None
    group: int | None = None

    @property
    def extra_groups(self) -> list[int] | None:
        return None if self.user is None else []

    def own(self, path: Path) -> None:
        """Give `path` to the account."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)


def find_account(program: Path, directory: Path, owner: os.stat_result | None) -> Account:
    """Return the first way of starting `program` that works, as a user that can reach `directory`.

    `owner` is the status of an existing cluster, whose user is kept. Raises ConfigurationError if there is no way.
    """
    uid, gid = _identity(owner)
    for account in _candidates(uid, gid, (directory, program.resolve().parent)):
        if _works(account, program):
            return account
    if os.geteuid() == 0:
        raise ConfigurationError(
            f"Postgres refuses to run as root, and the user with id {uid} can't reach {directory} or {program}: "
            "start as an ordinary user, or move them to folders that everybody may enter.",
            code="embedded_postgres_unreachable",
        )
    raise ConfigurationError(f"The program {program} can't be run.", code="embedded_postgres_broken")


def _identity(owner: os.stat_result | None) -> tuple[int, int]:
    me = os.geteuid()
    if owner is not None and me not in (owner.st_uid, 0):
        raise ConfigurationError(
            f"The database files belong to the user with id {owner.st_uid}: start as that user or as root, "
            "or give the folder to yours.",
            code="embedded_postgres_foreign_owner",
        )
    if me != 0:
        return me, os.getegid()
    if owner is not None and owner.st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in _USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise ConfigurationError(
        "Postgres refuses to run as root, and there is no user postgres or nobody to run it as.",
        code="embedded_postgres_no_user",
    )


def _candidates(uid: int, gid: int, folders: tuple[Path, ...]) -> Iterator[Account]:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0:
        if setpriv:
            yield Account(uid, gid, (setpriv, "--pdeathsig", _DEATH_SIGNAL))
        yield Account(uid, gid, ())
        return
    drop = ("--reuid", str(uid), "--regid", str(gid), "--clear-groups", "--pdeathsig", _DEATH_SIGNAL)
    # Asked, not tried: setpriv still has its own rights when it opens the program, which then misses its libraries.
    if all(_may_enter(folder, uid, gid) for folder in folders):
        if setpriv:
            yield Account(uid, gid, (setpriv, *drop))
        yield Account(uid, gid, (), user=uid, group=gid)
    if setpriv:
        for capability in _CAPABILITIES:
            caps = f"+{capability}"
            # access(2) ignores capabilities of ordinary users unless no_setuid_fixup is set.
            keep = ("--inh-caps", caps, "--ambient-caps", caps, "--securebits", "+no_setuid_fixup")
            yield Account(uid, gid, (setpriv, *drop, *keep))


def _may_enter(directory: Path, uid: int, gid: int) -> bool:
    for folder in (directory, *directory.parents):
        status = folder.stat()
        if status.st_uid == uid:
            needed = stat.S_IXUSR
        elif status.st_gid == gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


def _works(account: Account, program: Path) -> bool:
    try:
        run = subprocess.run(
            [*account.prefix, str(program), "--version"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=account.user,
            group=account.group,
            extra_groups=account.extra_groups,
            cwd="/",
            timeout=PROBE_TIMEOUT,
            check=False,
        )
    except OSError:
        return False
    return run.returncode == 0
