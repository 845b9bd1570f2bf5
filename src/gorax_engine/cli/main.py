"""The entry of `gorax`: the list of commands, and the one place that turns errors into exit codes.

0 done or completed · 1 failed · 2 usage · 3 cancelled · 4 can't connect · 5 still running · 69 the database can't be
reached · 78 another refusal to start · 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gorax_engine import __version__
from gorax_engine.cli.exits import CANNOT_CONNECT, CONFIGURATION, FAILED, INTERRUPTED, NO_DATABASE, OK, USAGE
from gorax_engine.cli.output import print_error
from gorax_engine.cli.session import DEFAULT_SERVER, Entry, Group, Session
from gorax_engine.errors import ConfigurationError, DatabaseUnreachable, GoraxError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: Final = {
    "dev": Entry("gorax_engine.cli.dev", "Run everything on this machine, with an embedded Postgres."),
    "serve": Entry("gorax_engine.cli.serve", "Run the daemon."),
    "migrate": Entry("gorax_engine.cli.migrate", "Bring the database to this version's schema."),
    "doctor": Entry("gorax_engine.cli.doctor", "Check the settings and the database."),
    "bench": Entry("gorax_engine.cli.bench", "Measure this machine, beside its own limit."),
    "run": Entry("gorax_engine.cli.run", "Start a workflow, by name, id or file."),
    "workflow": Entry("gorax_engine.cli.workflow", "List, apply, validate, test, export and archive workflows."),
    "execution": Entry("gorax_engine.cli.execution", "List, show, watch, explain, cancel, pause and retry executions."),
    "task": Entry("gorax_engine.cli.task", "List, show, decide and hand on human tasks."),
    "schedule": Entry("gorax_engine.cli.schedule", "Start workflows by cron, preview and backfill."),
    "notification": Entry("gorax_engine.cli.notification", "List and read the own notifications."),
    "node": Entry("gorax_engine.cli.node", "List and describe node types, with those of plug-ins."),
    "event": Entry("gorax_engine.cli.event", "Publish events."),
    "webhook": Entry("gorax_engine.cli.webhook", "Look after webhooks, their filters and their deliveries."),
    "credential": Entry("gorax_engine.cli.credential", "Store secrets for workflows, and see who used them."),
    "tenant": Entry("gorax_engine.cli.tenant", "Create and list tenants (needs the owner's DSN)."),
}


@click.group(cls=Group, entries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gorax")
@click.option(
    "--config",
    type=click.Path(path_type=Path),  # That it can't be read is a refusal to start (78), which the settings make.
    envvar="GORAX_CONFIG",
    help="The settings file (TOML) of serve, migrate, doctor and tenant.",
)
@click.option("--server", envvar="GORAX_SERVER", default=DEFAULT_SERVER, show_default=True, help="Where the API is.")
@click.option("--api-key", envvar="GORAX_API_KEY", help="Default: what `gorax dev` left in .gorax/api-key.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.pass_context
def gorax(context: click.Context, config: Path | None, server: str, api_key: str | None, as_json: bool) -> None:
    """Run workflows on Postgres, and look at what they do."""
    context.obj = Session(config, server, api_key, as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors that are meant to be read never show a traceback."""
    try:
        result = gorax.main(arguments, prog_name="gorax", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        if error.ctx is not None:
            print(error.ctx.get_usage(), file=sys.stderr)
        print_error(error.format_message(), "usage")
        return USAGE
    except click.ClickException as error:
        print_error(error.format_message(), "usage")
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        print_error("Interrupted.", "interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone (`| head`); Python must not try to flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except GoraxError as error:
        return _report(error)
    except BaseExceptionGroup as group:
        # Errors of concurrent parts come together; one that is meant to be read speaks for all.
        readable = group.split(GoraxError)[0]
        if readable is None:
            raise
        return _report(_first(readable))
    return result if isinstance(result, int) else OK


def _report(error: GoraxError) -> int:
    problems: Sequence[Problem] = getattr(error, "problems", ())
    print_error(error.message, error.code, problems)
    return exit_code(error)


def _first(group: BaseExceptionGroup[GoraxError]) -> GoraxError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def exit_code(error: GoraxError) -> int:
    """Return the exit code of an error."""
    from gorax_engine.cli.client import CannotConnect

    if isinstance(error, DatabaseUnreachable):
        return NO_DATABASE
    if isinstance(error, ConfigurationError):
        return CONFIGURATION
    if isinstance(error, CannotConnect):
        return CANNOT_CONNECT
    return FAILED
