"""`gorax execution watch`: the tree of steps, redrawn from the event stream; a line per change where no terminal is."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.client import CannotConnect, segment
from gorax_engine.cli.output import print_json, printable
from gorax_engine.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.tree import Tree

    from gorax_engine.cli.client import Client
    from gorax_engine.core.model import Json

RECONNECT: Final = (0.2, 1.0, 2.0, 4.0, 8.0)
"""Pauses before another try when a stream breaks off (a daemon that restarts), in seconds."""
MARKS: Final = {
    "pending": ("·", "dim"),
    "running": ("▶", "yellow"),
    "completed": ("✔", "green"),
    "failed": ("✘", "red"),
    "skipped": ("○", "dim"),
    "cancelled": ("■", "magenta"),
}


@click.command(cls=Command, name="watch")
@click.argument("execution")
@pass_session
def command(session: Session, execution: str) -> int:
    """Draw the steps of EXECUTION live; the exit code tells how it ended."""
    client = session.client()
    with ExitStack() as stack:
        show = _show_json if session.as_json else _live(stack) if sys.stdout.isatty() else Lines().show
        status = "pending"
        for snapshot in snapshots(client, execution):
            status = snapshot["execution"]["status"]
            show(snapshot["execution"], snapshot["steps"])
    return exits.of_status(status)


def snapshots(client: Client, execution: str, pause: Callable[[float], None] = time.sleep) -> Iterator[Json]:
    """Yield what the stream says until the execution has ended, connecting again when it breaks off.

    Raises Refused, and CannotConnect if the first try or `len(RECONNECT)` tries in a row fail.
    """
    seen, failures = False, 0
    while True:
        try:
            for _event, data in client.stream(f"/executions/{segment(execution)}/stream"):
                snapshot = json.loads(data)
                if "execution" not in snapshot:
                    continue
                seen, failures = True, 0
                yield snapshot
                if snapshot["execution"]["status"] in exits.ENDED:
                    return
        except CannotConnect:
            if not seen or failures >= len(RECONNECT):
                raise
        if failures >= len(RECONNECT):
            raise CannotConnect("The server keeps ending the stream before the execution has ended.")
        pause(RECONNECT[failures])
        failures += 1


class Lines:
    """Prints a line for each step and status that is new: for logs and pipes."""

    def __init__(self) -> None:
        self._said: set[tuple[object, ...]] = set()

    def show(self, execution: Json, steps: Sequence[Json]) -> None:
        """Print what has changed since the last call."""
        for step in steps:
            self._say_once((step["id"], step["status"]), f"  {label(step)}")
        self._say_once((execution["status"], execution.get("waiting_for")), headline(execution))

    def _say_once(self, key: tuple[object, ...], line: str) -> None:
        if key not in self._said:
            self._said.add(key)
            print(line, flush=True)


def headline(execution: Json) -> str:
    """Return the line about the execution itself."""
    parts = [f"{execution['id']}: {execution['status']}"]
    if execution.get("waiting_for"):
        parts.append(f"waiting for {execution['waiting_for']}")
    if execution.get("error_message"):
        parts.append(f"{execution['error_message']} [{execution.get('error_code')}]")
    return printable(", ".join(parts))


def label(step: Json) -> str:
    """Return the line about a step."""
    place = f"{step['iteration_path']} " if step.get("iteration_path") else ""
    parts = [f"{place}{step['node_id']} ({step.get('node_type')}): {step['status']}"]
    if step.get("duration_ms") is not None:
        parts.append(f"{step['duration_ms']} ms")
    if (step.get("attempt") or 1) > 1:
        parts.append(f"attempt {step['attempt']}")
    if step.get("error_code") or step.get("error_message"):
        parts.append(f"{step.get('error_message') or ''} [{step.get('error_code')}]".strip())
    return printable(", ".join(parts))


def tree(execution: Json, steps: Sequence[Json]) -> Tree:
    """Return the tree of steps: the execution on top, scopes' iterations as branches below it."""
    from rich.text import Text
    from rich.tree import Tree

    def line(status: str, text: str) -> Text:
        mark, style = MARKS.get(status, ("?", ""))
        return Text.assemble((mark, style), " ", (text, style if status in ("failed", "cancelled") else ""))

    root = Tree(line(execution["status"], headline(execution)))
    branches: dict[str, Tree] = {"": root}
    for step in steps:
        path = ""
        branch = root
        for part in (step.get("iteration_path") or "").split("."):
            if part:
                path = f"{path}.{part}" if path else part
                branch = branches.setdefault(path, branches.get(path) or branch.add(Text(printable(part), "bold")))
        branch.add(line(step["status"], label({**step, "iteration_path": None})))
    return root


def _show_json(execution: Json, steps: Sequence[Json]) -> None:
    if execution["status"] in exits.ENDED:
        print_json({"execution": execution, "steps": list(steps)})


def _live(stack: ExitStack) -> Callable[[Json, Sequence[Json]], None]:
    from rich.live import Live

    live = stack.enter_context(Live(refresh_per_second=10))

    def show(execution: Json, steps: Sequence[Json]) -> None:
        # Only a finished tree is written in full: while it is live, the terminal's height is the limit.
        live.vertical_overflow = "visible" if execution["status"] in exits.ENDED else "ellipsis"
        live.update(tree(execution, steps))

    return show
