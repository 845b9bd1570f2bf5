"""`gorax serve`: the daemon in this process, or N of them under a supervisor."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import click

from gorax_engine.cli import exits
from gorax_engine.cli.session import Command, Session, pass_session
from gorax_engine.cli.supervisor import Supervisor, child_environments, die_with_supervisor
from gorax_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from gorax_engine.settings import Settings

ROLES: Final = ("api", "worker", "scheduler", "maintenance")


class _Roles(click.ParamType[frozenset[str]]):
    name = "roles"

    def convert(
        self, value: str | frozenset[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        if isinstance(value, frozenset):
            return value
        roles = frozenset(part.strip() for part in value.split(",") if part.strip())
        unknown = sorted(roles.difference(ROLES))
        if unknown or not roles:
            self.fail(f"{', '.join(unknown) or 'nothing'} is no role; the roles are {', '.join(ROLES)}.", param, ctx)
        return roles


@click.command(cls=Command, name="serve")
@click.option("--roles", type=_Roles(), default=",".join(ROLES), show_default=True, help="What this process does.")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Daemons to run.")
@pass_session
def command(session: Session, roles: frozenset[str], processes: int) -> int:
    """Run the daemon until SIGTERM or SIGINT, then drain. A second signal stops it at once."""
    if die_with_supervisor():
        return exits.OK
    settings = session.settings()
    if processes == 1:
        return run_daemon(session, settings, roles)
    if settings.server.port == 0:
        raise ConfigurationError("Several processes can only share a port that is set: give server.port a number.")
    # A management port of 0 is each child's own choice already.
    ports = [settings.management.port and settings.management.port + index for index in range(processes)]
    if ports[-1] > 65_535:
        raise ConfigurationError("management.port is too high for so many processes.")
    children = child_environments(dict(os.environ), ports)
    supervisor = Supervisor(child_command(session.config, roles), children)
    return anyio.run(supervisor.run)


def run_daemon(session: Session, settings: Settings, roles: frozenset[str]) -> int:
    """Run one daemon in this process until it has drained. Raises ConfigurationError, DatabaseUnreachable."""
    from gorax_engine.daemon import serve

    anyio.run(partial(serve, settings, roles=roles, reload=session.settings), backend_options={"use_uvloop": True})
    return exits.OK


def child_command(config: Path | None, roles: frozenset[str]) -> list[str]:
    """Return the command line of a supervised daemon."""
    chosen = ["--config", str(config.absolute())] if config else []
    return [sys.executable, "-m", "gorax_engine.cli", *chosen, "serve", "--roles", ",".join(sorted(roles))]
