"""`gorax execution watch`: the tree of steps, redrawn from the event stream; a line per change where no terminal is."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.client import CannotConnect, decode, segment
from gorax_engine.cli.output import print_json, printable
from gorax_engine.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    view = View()
    with ExitStack() as stack:
        show = _show_json if session.as_json else _live(stack) if sys.stdout.isatty() else Lines().show
        for view in follow(client, execution):
            show(view)
    return exits.of_status(view.execution["status"])


@dataclass(slots=True)
class View:
    """An execution as far as it was seen: steps by id, in the order in which they appeared."""

    execution: Json = None
    steps: dict[str, Json] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.execution is not None and self.execution["status"] in exits.ENDED


def follow(client: Client, execution: str, pause: Callable[[float], None] = time.sleep) -> Iterator[View]:
    """Yield the view after each change until the execution has ended, connecting again when the stream breaks off.

    The server tells all anew to whoever connects, so nothing is missed. Raises Refused, and CannotConnect if the first
    try or `len(RECONNECT)` tries in a row fail.
    """
    view, failures = View(), 0
    while True:
        try:
            for event, data in client.stream(f"/executions/{segment(execution)}/stream"):
                failures = 0
                if event == "step":
                    step = decode(data.encode())
                    view.steps[step["id"]] = step
                elif event == "execution":
                    view.execution = decode(data.encode())
                if view.execution is not None:
                    yield view
            if view.ended:
                return
        except CannotConnect:
            if view.execution is None or failures >= len(RECONNECT):
                raise
        if failures >= len(RECONNECT):
            raise CannotConnect("The server keeps ending the stream before the execution has ended.")
        pause(RECONNECT[failures])
        failures += 1


class Lines:
    """Prints a line for each step and status that is new: for logs and pipes."""

    def __init__(self) -> None:
        self._said: set[tuple[object, ...]] = set()

    def show(self, view: View) -> None:
        """Print what has changed since the last call."""
        for step in view.steps.values():
            self._say_once((step["id"], step["status"]), f"  {label(step)}")
        run = view.execution
        self._say_once((run["status"], run.get("waiting_for")), headline(run))

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


def tree(view: View) -> Tree:
    """Return the tree of steps: the execution on top, scopes' iterations as branches below it."""
    from rich.text import Text
    from rich.tree import Tree

    def line(status: str, text: str) -> Text:
        mark, style = MARKS.get(status, ("?", ""))
        return Text.assemble((mark, style), " ", (text, style if status in ("failed", "cancelled") else ""))

    root = Tree(line(view.execution["status"], headline(view.execution)))
    branches: dict[str, Tree] = {"": root}
    for step in view.steps.values():
        path = ""
        branch = root
        for part in (step.get("iteration_path") or "").split("."):
            if part:
                path = f"{path}.{part}" if path else part
                branch = branches.setdefault(path, branches.get(path) or branch.add(Text(printable(part), "bold")))
        branch.add(line(step["status"], label({**step, "iteration_path": None})))
    return root


def _show_json(view: View) -> None:
    if view.ended:
        print_json({"execution": view.execution, "steps": list(view.steps.values())})


def _live(stack: ExitStack) -> Callable[[View], None]:
    from rich.live import Live

    live = stack.enter_context(Live(auto_refresh=False))

    def show(view: View) -> None:
        # Only a finished tree is written in full: while it is live, the terminal's height is the limit.
        live.vertical_overflow = "visible" if view.ended else "ellipsis"
        live.update(tree(view), refresh=True)

    return show
