"""What all commands share: the options before the command, lazily imported commands, and `--json` on each of them."""

from __future__ import annotations

import importlib
import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from gorax_engine.errors import GoraxError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gorax_engine.cli.client import Client
    from gorax_engine.settings import Settings

DEFAULT_PORT: Final = 8080
DEFAULT_SERVER: Final = f"http://127.0.0.1:{DEFAULT_PORT}"
STATE_DIR: Final = Path(".gorax")
API_KEY_FILE: Final = "api-key"


class NoApiKey(GoraxError):
    """A command needs an API key, and none was given or found."""

    code = "no_api_key"


@dataclass(frozen=True, slots=True)
class Session:
    """The options that stand before the command."""

    config: Path | None = None
    server: str = DEFAULT_SERVER
    api_key: str | None = None
    as_json: bool = False

    def client(self) -> Client:
        """Return a client of the server, with the key given or the one that `gorax dev` left. Raises NoApiKey."""
        from gorax_engine.cli.client import Client

        return Client(self.server, self.api_key or self._key_of_dev())

    def settings(self) -> Settings:
        """Read the settings from --config and the environment. Raises ConfigurationError."""
        from gorax_engine.settings import load_settings

        return load_settings(self.config)

    def _key_of_dev(self) -> str:
        # The key of the local engine is for the local engine: it is never sent to another host.
        path = STATE_DIR / API_KEY_FILE
        if is_loopback(self.server) and path.is_file():
            return path.read_text(encoding="ascii", errors="replace").strip()
        raise NoApiKey(
            "No API key: give --api-key or GORAX_API_KEY, or run this where `gorax dev` keeps its .gorax folder."
        )


def is_loopback(url: str) -> bool:
    """Return whether the host of `url` is this machine's loopback."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


pass_session = click.make_pass_decorator(Session)


def _switch_to_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.obj = replace(context.ensure_object(Session), as_json=True)


class Command(click.Command):
    """A command that also takes `--json` behind its name, where most people write it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--json"],
                is_flag=True,
                expose_value=False,
                callback=_switch_to_json,
                help="Print JSON instead of a table.",
            )
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is imported when it is used: its module, and its line in `--help`."""

    module: str
    help: str


class Group(click.Group):
    """A group whose commands are `Command`s, or entries that are imported only when they are called."""

    command_class = Command

    def __init__(self, *args: Any, entries: Mapping[str, Entry] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = dict(entries or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names: entries in their own order, then the commands at hand."""
        return [*self.entries, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, importing `<module>.command` for an entry."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        command = importlib.import_module(entry.module).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        rows = [(name, entry.help) for name, entry in self.entries.items()]
        rows += [(name, command.get_short_help_str(100)) for name, command in sorted(self.commands.items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown name is answered with the nearest known ones."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=2)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {' or '.join(near)}?", ctx) from error
