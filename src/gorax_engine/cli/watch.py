"""`gorax execution watch`: the tree of steps, redrawn from the event stream; a line per change where no terminal is."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.client import CannotConnect, decode, segment
from gorax_engine.cli.output import print_json, printable
from gorax_engine.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.text import Text
    from rich.tree import Tree

    from gorax_engine.cli.client import Client
    from gorax_engine.core.model import Json

RECONNECT: Final = (0.2, 1.0, 2.0, 4.0, 8.0)
"""Pauses before another try when a stream breaks off (a daemon that restarts), in seconds."""
MAX_ITERATIONS: Final = 10
"""Iterations of one loop that are drawn; the others are counted."""
MAX_STEPS: Final = 200
"""Steps of one place that are drawn, the latest ones."""
REFRESH: Final = 8
"""Pictures in a second at most."""
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
    """An execution as far as it was seen: steps by id, in the order in which they appeared.

    `news` are the steps that have changed since it was shown last, in the order in which they did.
    """

    execution: Json = None
    steps: dict[str, Json] = field(default_factory=dict)
    news: list[Json] = field(default_factory=list)

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
                    view.news.append(step)
                elif event == "execution":
                    view.execution = decode(data.encode())
                if view.execution is not None:
                    yield view
                    view.news.clear()
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
        for step in view.news:
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


@dataclass(slots=True)
class _Branch:
    """What runs at one place: its steps, and the places within it by their part of the path."""

    steps: list[Json] = field(default_factory=list)
    places: dict[str, _Branch] = field(default_factory=dict)

    def state(self) -> str:
        """Return how it stands: at work, else failed if any step is, else completed."""
        states = {step["status"] for step in self.steps} | {place.state() for place in self.places.values()}
        return next((state for state in ("running", "pending", "failed") if state in states), "completed")


def tree(view: View) -> Tree:
    """Return the tree of steps: the execution on top, scopes' iterations as branches below it.

    Of a loop only `MAX_ITERATIONS` are drawn, those at work before those that failed before the latest, and the others
    are counted: the picture stays readable, and cheap, however long the loop is.
    """
    from rich.tree import Tree

    top = _Branch()
    for step in list(view.steps.values()):
        branch = top
        for part in (step.get("iteration_path") or "").split("."):
            if part:
                branch = branch.places.setdefault(part, _Branch())
        branch.steps.append(step)
    root = Tree(_line(view.execution["status"], headline(view.execution)))
    _draw(root, top)
    return root


def _draw(node: Tree, branch: _Branch) -> None:
    from rich.text import Text

    for step in branch.steps[-MAX_STEPS:]:
        node.add(_line(step["status"], label({**step, "iteration_path": None})))
    loops: dict[str, list[str]] = {}
    for part in branch.places:
        loops.setdefault(part.partition("[")[0], []).append(part)
    for name, parts in loops.items():
        states = {part: branch.places[part].state() for part in parts} if len(parts) > MAX_ITERATIONS else {}
        shown = _chosen(states) if states else parts
        hidden = Counter(state for part, state in states.items() if part not in shown)
        if hidden:
            counts = ", ".join(f"{count} {state}" for state, count in sorted(hidden.items()))
            node.add(Text(printable(f"{name}: {hidden.total()} more iterations ({counts})"), "dim"))
        for part in shown:
            _draw(node.add(Text(printable(part), "bold")), branch.places[part])


def _chosen(states: Mapping[str, str]) -> list[str]:
    """Return the iterations to be drawn, in the order in which they began."""
    place = {part: number for number, part in enumerate(states)}
    urgent = {"running": 0, "pending": 0, "failed": 1}
    best = sorted(states, key=lambda part: (urgent.get(states[part], 2), -place[part]))[:MAX_ITERATIONS]
    return sorted(best, key=place.__getitem__)


def _line(status: str, text: str) -> Text:
    from rich.text import Text

    mark, style = MARKS.get(status, ("?", ""))
    return Text.assemble((mark, style), " ", (text, style if status in ("failed", "cancelled") else ""))


class Picture:
    """The tree of the latest view, drawn when the terminal asks for it: a change costs nothing until then."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._drawn: Tree | None = None

    def show(self, view: View) -> None:
        """Take note that something has changed."""
        self._view, self._drawn = view, None

    def __rich__(self) -> Tree | str:
        """Return the tree."""
        drawn = self._drawn
        if drawn is None and self._view is not None:
            drawn = self._drawn = tree(self._view)
        return drawn or ""


def _show_json(view: View) -> None:
    if view.ended:
        print_json({"execution": view.execution, "steps": list(view.steps.values())})


def _live(stack: ExitStack) -> Callable[[View], None]:
    from rich.live import Live

    picture = Picture()
    live = stack.enter_context(Live(picture, refresh_per_second=REFRESH))

    def show(view: View) -> None:
        picture.show(view)
        if view.ended:
            # Only a finished tree is written in full: while it is live, the terminal's height is the limit.
            live.vertical_overflow = "visible"
            live.refresh()

    return show
