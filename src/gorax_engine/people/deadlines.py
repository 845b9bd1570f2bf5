"""What the clock does to a task that nobody decides: reminders, escalation level by level, and the end.

`due` decides, purely, what comes next; `watch` is the duty that finds tasks whose time has come and carries it out. Two
processes may watch at once: each act names the moment that it was decided for, and a task that has moved on is left
alone. After a pause of the service a level still has its whole time, for it runs from when the level is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from gorax_engine.core.instants import format_instant, parse_instant
from gorax_engine.core.model import SECOND, Instant, Json, Micros
from gorax_engine.people.forms import defaults
from gorax_engine.store import task_deadlines

if TYPE_CHECKING:
    from gorax_engine.store.session import Session
    from gorax_engine.store.task_deadlines import DueTask

BATCH: Final = 500
_STATUS: Final = {"approve": "approved", "reject": "rejected", "expire": "expired"}


@dataclass(frozen=True, slots=True)
class Level:
    """A level of escalation: who may decide from it on, too, and how long they have (None: without end)."""

    number: int
    to: tuple[Json, ...]
    length: Micros | None
    notify_original: bool


@dataclass(frozen=True, slots=True)
class Deadlines:
    """All that the clock knows of an open task. `reached` counts the levels of escalation that are reached.

    `reminders` are those still to come, in order; `limit_at` is when the time of the present level is over.
    """

    reminders: tuple[Instant, ...] = ()
    limit_at: Instant | None = None
    levels: tuple[Level, ...] = ()
    reached: int = 0
    final_action: str = "expire"

    def next_at(self) -> Instant | None:
        """When something is due next, None if never."""
        moments = [*self.reminders[:1], *(() if self.limit_at is None else (self.limit_at,))]
        return min(moments, default=None)


@dataclass(frozen=True, slots=True)
class Remind:
    """Tell the assignees once more."""


@dataclass(frozen=True, slots=True)
class Escalate:
    """Let others decide, too."""

    level: Level


@dataclass(frozen=True, slots=True)
class End:
    """Decide in the place of people."""

    status: str


Act: TypeAlias = Remind | Escalate | End


def due(deadlines: Deadlines, now: Instant) -> tuple[Act, Deadlines] | None:
    """Return what is due at `now` and what the clock knows afterwards, None if nothing is.

    Reminders that were missed are one reminder; none comes with or after an escalation that it was meant to prevent.
    """
    left = tuple(at for at in deadlines.reminders if at > now)
    if deadlines.limit_at is not None and deadlines.limit_at <= now:
        if deadlines.reached == len(deadlines.levels):
            return End(_STATUS[deadlines.final_action]), replace(deadlines, reminders=(), limit_at=None)
        level = deadlines.levels[deadlines.reached]
        limit = None if level.length is None else now + level.length
        return Escalate(level), replace(deadlines, reminders=left, limit_at=limit, reached=deadlines.reached + 1)
    if len(left) < len(deadlines.reminders):
        return Remind(), replace(deadlines, reminders=left)
    return None


async def watch(session: Session) -> int:
    """Carry out all that is due, in bounded batches; return how many tasks were moved or ended."""
    total = 0
    while tasks := await task_deadlines.due(session, BATCH):
        acted = await _act(session, tasks)
        total += acted
        if len(tasks) < BATCH or not acted:
            break
    return total


async def _act(session: Session, tasks: Sequence[DueTask]) -> int:
    moves: list[Json] = []
    ends: list[Json] = []
    for task in tasks:
        found = due(read_deadlines(task), task.now)
        if found is None:
            continue
        act, after = found
        match act:
            case End():
                ends.append(_end(task, act))
            case Remind() | Escalate():
                moves.append(_move(task, act, after))
            case _:
                assert_never(act)
    moved = await task_deadlines.escalate(session, moves) if moves else 0
    return moved + (await task_deadlines.end(session, ends) if ends else 0)


def read_deadlines(task: DueTask) -> Deadlines:
    """Read what the clock knows of a task. Reminders before `next_action_at` were given already."""
    config = task.config
    reminders = (parse_instant(text) for text in config.get("reminders") or ())
    levels = tuple(
        Level(
            level["level"],
            tuple(level["to"]),
            None if level["seconds"] is None else round(level["seconds"] * SECOND),
            level["notify_original"],
        )
        for level in config.get("levels") or ()
    )
    return Deadlines(
        tuple(at for at in reminders if at >= task.next_action_at),
        task.limit_at,
        levels,
        min(task.escalation_level, len(levels)),
        config.get("final_action") or "expire",
    )


def _end(task: DueTask, act: End) -> Json:
    match act.status:
        case "approved":
            reason: Json = {
                **defaults(task.config.get("form_fields") or ()),
                "comment": "Approved because nobody decided in time.",
                "auto_action": True,
            }
        case "rejected":
            reason = {"reason": "Rejected because nobody decided in time.", "auto_action": True}
        case _:
            reason = {}
    return {
        **_named(task),
        "status": act.status,
        "response": reason,
        "note": {"at": format_instant(task.now), "event": "timed_out", "status": act.status},
    }


def _move(task: DueTask, act: Remind | Escalate, after: Deadlines) -> Json:
    move = {
        **_named(task),
        "next_action_at": _text(after.next_at()),
        "limit_at": _text(after.limit_at),
        "level": after.reached,
    }
    at = format_instant(task.now)
    match act:
        case Remind():
            message = f"A decision on “{task.title}” is still asked for."
            if task.due_date is not None:
                message += f" It is due by {format_instant(task.due_date)}."
            news = [_news(task, task.assignees, f"Reminder: {task.title}", message, "task_reminder")]
            return {**move, "note": {"at": at, "event": "reminded"}, "news": news}
        case Escalate(level):
            told = list(level.to) if task.config.get("notify_on_escalate", True) else []
            if level.notify_original:
                told += [each for each in task.assignees if each not in told]
            message = f"“{task.title}” was not decided in time; it is on level {level.number} now."
            news = [_news(task, told, f"Escalated: {task.title}", message, "task_escalated")] if told else []
            note = {"at": at, "event": "escalated", "level": level.number, "to": list(level.to)}
            return {**move, "due_date": _text(after.limit_at), "to": list(level.to), "note": note, "news": news}
        case _:
            assert_never(act)


def _named(task: DueTask) -> dict[str, Json]:
    return {"tenant_id": str(task.tenant_id), "task_id": str(task.id), "seen": format_instant(task.next_action_at)}


def _news(task: DueTask, to: Sequence[Json], title: str, message: str, kind: str) -> Json:
    return {
        "tenant_id": str(task.tenant_id),
        "task_id": str(task.id),
        "to": list(to),
        "title": title,
        "message": message,
        "type": "warning",
        "kind": kind,
    }


def _text(at: Instant | None) -> str | None:
    return None if at is None else format_instant(at)
