"""`gorax migrate`: bring the database to this build's schema, or say how it stands."""

from __future__ import annotations

from dataclasses import asdict

import anyio
import click

from gorax_engine.cli import exits
from gorax_engine.cli.output import print_json
from gorax_engine.cli.session import Command, Session, pass_session
from gorax_engine.store.migrate import AppliedMigration, migrate


@click.command(cls=Command, name="migrate")
@click.option("--to", type=click.IntRange(1), help="Stop after this migration (default: all of them).")
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if something is pending.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print what would be applied.")
@pass_session
def command(session: Session, to: int | None, only_check: bool, dry_run: bool) -> int:
    """Bring the database to this version's schema, as its owner. Any number of them may run at once."""
    dsn, _role = session.settings().database.for_migrate()
    planned = dry_run or only_check
    steps = anyio.run(_migrate, dsn, to, planned)
    if session.as_json:
        print_json([asdict(step) for step in steps])
    else:
        for step in steps:
            name = f"{step.version:03d}_{step.name}" if step.version is not None else f"functions {step.name}"
            print(f"{name}: pending" if planned else f"{name}: applied in {step.seconds:.2f} s")
        if not steps:
            print("The database is up to date.")
    return exits.FAILED if only_check and steps else exits.OK


async def _migrate(dsn: str, to: int | None, planned: bool) -> list[AppliedMigration]:
    return await migrate(dsn, to=to, dry_run=planned)
