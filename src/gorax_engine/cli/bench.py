"""`gorax bench`: hands its options to the bench."""

from __future__ import annotations

import click

from gorax_engine.bench.command import main
from gorax_engine.bench.modes import MODES
from gorax_engine.cli.session import Command, Session, pass_session


@click.command(cls=Command, name="bench")
@click.option("--mode", type=click.Choice(list(MODES)), default="pure", show_default=True)
@click.option("--executions", type=click.IntRange(1), help="How many executions; each mode has its own default.")
@click.option("--steps", type=click.IntRange(1), help="Steps of each execution; each mode has its own default.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="Runs; the median is printed.")
@click.option("--dsn", help="A database of your own (it is written to); default: an embedded one, for the time.")
@pass_session
def command(
    session: Session, mode: str, executions: int | None, steps: int | None, processes: int, runs: int, dsn: str | None
) -> int:
    """Measure the engine on this machine, and in the same run the limit: the same rows by plain SQL."""
    return main(
        mode=mode,
        executions=executions,
        steps=steps,
        processes=processes,
        runs=runs,
        dsn=dsn,
        as_json=session.as_json,
    )
