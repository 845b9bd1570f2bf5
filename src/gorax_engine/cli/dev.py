"""`gorax dev`: Postgres, schema, a tenant with a key, examples and the daemon, all on this machine with one command."""

from __future__ import annotations

import errno
import shlex
import shutil
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import anyio
import anyio.to_thread
import click

from gorax_engine.cli import exits
from gorax_engine.cli.client import Client
from gorax_engine.cli.examples import apply_examples
from gorax_engine.cli.onboarding import ensure_tenant
from gorax_engine.cli.serve import ROLES
from gorax_engine.cli.session import DEFAULT_PORT, DEFAULT_SERVER, STATE_DIR, Command, Session, pass_session
from gorax_engine.cli.state_dir import StateDir, hold
from gorax_engine.daemon import serve
from gorax_engine.errors import ConfigurationError, GoraxError
from gorax_engine.settings import load_settings
from gorax_engine.store.embedded import EmbeddedPostgres
from gorax_engine.store.migrate import migrate
from gorax_engine.vault.local_key import new_key_text

if TYPE_CHECKING:
    from types import FrameType

    from gorax_engine.settings import Settings

LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
DATABASE: Final = "gorax"


@click.command(cls=Command, name="dev")
@click.option("--port", type=click.IntRange(1, 65_535), default=DEFAULT_PORT, show_default=True)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=STATE_DIR,
    show_default=True,
    help="Where the database and the key are kept.",
)
@click.option("--reset", is_flag=True, help="Delete everything kept there, and start from nothing.")
@pass_session
def command(session: Session, port: int, state_dir: Path, reset: bool) -> int:
    """Run everything on this machine until Ctrl-C: an embedded Postgres, a first tenant, examples, all roles."""
    # Until the daemon listens for signals itself, SIGTERM ends this as Ctrl-C does, and Postgres with it.
    signal.signal(signal.SIGTERM, _interrupt)
    with hold(state_dir) as state:
        require_free("127.0.0.1", port)
        if reset:
            state.reset()
        anyio.run(partial(run, session.config, state, port), backend_options={"use_uvloop": True})
    return exits.OK


async def run(config: Path | None, state: StateDir, port: int) -> None:
    """Bring everything up, say what to do next, and serve until a signal.

    Raises ConfigurationError, DatabaseUnreachable.
    """
    server = f"http://127.0.0.1:{port}"
    print(f"Starting Postgres in {state.postgres} ...", flush=True)
    async with EmbeddedPostgres.start(state.postgres) as postgres:
        dsn = await postgres.create_database(DATABASE)
        await migrate(dsn)
        key, is_new = await ensure_tenant(dsn, "Local", "local", state.read(state.api_key_file))
        if is_new:
            state.write_private(state.api_key_file, key)
        if state.read(state.vault_key_file) is None:
            state.write_private(state.vault_key_file, new_key_text())
        settings = settings_of_dev(config, state, dsn, port)
        ready = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(postgres.supervise)
            tasks.start_soon(_welcome, state, settings, server, key, ready)
            await serve(settings, roles=frozenset(ROLES), ready=ready.set)
            tasks.cancel_scope.cancel()


def settings_of_dev(config: Path | None, state: StateDir, dsn: str, port: int) -> Settings:
    """Return the settings for this machine: the embedded database, loopback only, and loopback may be called."""
    own = load_settings(config, database={"dsn": dsn})
    management = own.management.port if is_free(own.management.host, own.management.port) else 0
    return load_settings(
        config,
        database={"dsn": dsn, "app_dsn": None, "worker_dsn": None, "listen_dsn": None, "migrate_dsn": None},
        server={"host": "127.0.0.1", "port": port},
        management={"port": management},
        outbound={"allow": (*own.outbound.allow, *LOOPBACK)},
        vault={"key_file": own.vault.key_file or state.vault_key_file},
        state_dir=state.path,
    )


async def _welcome(state: StateDir, settings: Settings, server: str, key: str, ready: anyio.Event) -> None:
    await ready.wait()
    if state.read(state.examples_file) != server:
        try:
            await anyio.to_thread.run_sync(apply_examples, Client(server, key), server, abandon_on_cancel=True)
        except GoraxError as error:
            # The engine runs all the same: whoever changed an example may have made it clash.
            print(f"The example workflows were not applied: {error.message} [{error.code}]", file=sys.stderr)
        else:
            state.write_private(state.examples_file, server)
    print(next_steps(program(sys.argv[0]), state, settings, server), flush=True)


def next_steps(program: str, state: StateDir, settings: Settings, server: str) -> str:
    """Return what to do next, with commands that work as they stand in another terminal in this folder."""
    gorax = program
    if server != DEFAULT_SERVER:
        gorax += f" --server {server}"
    if state.path != STATE_DIR:
        gorax += f' --api-key "$(cat {shlex.quote(str(state.api_key_file))})"'
    order = shlex.quote('{"id": "A-17", "items": [{"sku": "lamp", "price": 40, "quantity": 3}]}')
    management = settings.management
    return f"""
gorax is ready at {server} (API reference: {server}/api/docs). Ctrl-C stops it; the data stays in {state.path}.
The API key is in {state.api_key_file}; metrics and health: port {management.port or "chosen by the system"}.

In another terminal, in this folder:

  # start a run by webhook: three HTTP workflows that call each other
  curl -H 'Content-Type: application/json' -d {order} {server}/webhooks/orders

  # start one by hand and wait for its output
  {gorax} run hello --input '{{"name": "Ada"}}' --wait

  # look at what ran, and watch one live
  {gorax} execution list
  {gorax} execution watch "$({gorax} run order-intake --input {order})"

  # a workflow of your own: copy an example, change it, and bring it in
  {gorax} workflow list
  {gorax} workflow apply my-workflow.yaml
"""


def program(argument: str) -> str:
    """Return how to call this program again, given `sys.argv[0]`."""
    path = Path(argument)
    if path.name != "gorax":
        return f"{shlex.quote(sys.executable)} -m gorax_engine.cli"
    found = shutil.which("gorax")
    if found is not None and Path(found).exists() and path.exists() and Path(found).samefile(path):
        return "gorax"
    try:
        path = path.absolute().relative_to(Path.cwd())
    except ValueError:
        path = path.absolute()
    return shlex.quote(str(path))


def require_free(host: str, port: int) -> None:
    """Raise ConfigurationError if somebody listens on the port."""
    if not is_free(host, port):
        raise ConfigurationError(
            f"Port {port} of {host} is in use; stop what listens there, or give another --port.", code="port_in_use"
        )


def is_free(host: str, port: int) -> bool:
    """Return whether the port could be listened on. The daemon shares ports, so it wouldn't notice a neighbour."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ConfigurationError(f"Port {port} of {host} can't be used: {error.strerror}.") from error
    return True


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
