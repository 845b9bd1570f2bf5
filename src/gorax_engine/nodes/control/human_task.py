"""The node type `human_task`: asks people to approve, to fill in a form or to review, and waits until they have.

The content of the task is worked out here, once, from the rendered config: all moments are absolute, all assignees
have one shape. What happens to the task afterwards is the affair of `people`.

    {"task_type": "approval", "title": "...", "description": "..." | null,
     "assignees": [{"type": "user", "id": "..."}, {"type": "role", "name": "..."}],
     "due_date": RFC 3339 | null, "limit_at": RFC 3339 | null, "reminders": [RFC 3339, ...] (in order),
     "levels": [{"level": 1, "to": [assignee, ...], "seconds": 3600.0 | null, "notify_original": false}, ...],
     "notify_on_escalate": true, "final_action": "approve" | "reject" | "expire",
     "form_fields": [{"name", "type", "label", "required", "options", "default"?}, ...],
     "mail": {"credential": "...", "from": "..." | null} | null}
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from gorax_engine.core.durations import LONGEST, parse_duration
from gorax_engine.core.instants import format_instant, parse_instant
from gorax_engine.nodes.api import (
    SECOND,
    Failed,
    Instant,
    Json,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
    Suspended,
    TaskWait,
)
from gorax_engine.nodes.control.human_task_schema import SCHEMA
from gorax_engine.nodes.control.values import kind_of

OUTCOMES: Final = ("approved", "rejected", "expired")
MAX_ASSIGNEES: Final = 100
MAX_OPTIONS: Final = 1_000
TITLE_LENGTH: Final = 255

_NAME_LENGTH: Final = 255
_ENDINGS: Final = {"auto_approve": "approve", "auto_reject": "reject", "expire": "expire", "fail": "expire"}


class HumanTask:
    """Suspends the step until somebody has decided, or until the time that the config gives is over."""

    spec: Final = NodeSpec(
        name="human_task",
        kind=NodeKind.CONTROL,
        aliases=("control:human_task", "action:human_task", "human"),
        title="Human task",
        description="Asks people to approve, to fill in a form or to review; the output is "
        "{outcome, by, at, response}.",
        outcomes=lambda config: OUTCOMES,
        main_outcome="approved",
        unhandled={"rejected": "task_rejected", "expired": "task_expired"},
        schema=SCHEMA,
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        try:
            return Suspended(wait=TaskWait(_content(config, context.now)))
        except _WrongValue as wrong:
            return Failed(StepError("type_error", str(wrong)))


class _WrongValue(Exception):
    """What a template gave is not what its field needs; the text says so."""

    def __init__(self, field: str, expected: str, value: Json) -> None:
        super().__init__(f"`{field}` must give {expected}, but it is {kind_of(value)}.")


def _content(config: Mapping[str, Json], now: Instant) -> dict[str, Json]:
    due = _moment("due_date", config.get("due_date"), now)
    levels = _levels(config)
    limit = _limit(config, now, due, levels)
    before = limit if due is None else due
    reminders = [] if before is None else _reminders(config.get("reminders"), before, now)
    escalation = _object("escalation", config.get("escalation"))
    return {
        "task_type": _one_of("task_type", config.get("task_type", "approval"), ("approval", "input", "review")),
        "title": _title(config["title"]),
        "description": _optional_text("description", config.get("description")),
        "assignees": _assignees("assignees", config["assignees"], at_least_one=True),
        "due_date": None if due is None else format_instant(due),
        "limit_at": None if limit is None else format_instant(limit),
        "reminders": [format_instant(at) for at in reminders],
        "levels": levels,
        "notify_on_escalate": _flag("escalation.notify_on_escalate", escalation.get("notify_on_escalate", True)),
        "final_action": _final_action(config, levels),
        "form_fields": _form_fields(config.get("form_fields")),
        "mail": _mail(config.get("notify")),
    }


def _limit(
    config: Mapping[str, Json], now: Instant, due: Instant | None, levels: Sequence[Mapping[str, Json]]
) -> Instant | None:
    """When the time of the first assignees is over: `timeout`; or the due date, if something is to happen then."""
    if config.get("timeout") is not None:
        return _later("timeout", config["timeout"], now)
    if due is not None and (levels or config.get("on_timeout") is not None):
        return due
    first = levels[0]["seconds"] if levels and config.get("on_timeout") is None else None
    return None if first is None else now + round(first * SECOND)


def _levels(config: Mapping[str, Json]) -> list[Json]:
    """The levels of escalation in order; `escalate_to` is one, without an end, where there are no others."""
    to = _assignees("escalate_to", config.get("escalate_to") or [])
    escalation = _object("escalation", config.get("escalation"))
    levels: list[Json] = []
    if _flag("escalation.enabled", escalation.get("enabled", True)):
        given = _list("escalation.levels", escalation.get("levels"))
        levels = [_level(f"escalation.levels[{at}]", at, level) for at, level in enumerate(given)]
        levels.sort(key=lambda level: level["level"])
    if to and levels:
        levels[0]["to"] = _distinct([*to, *levels[0]["to"]])
    elif to and config.get("on_timeout") == "escalate":
        levels = [{"level": 1, "to": to, "seconds": None, "notify_original": False}]
    return levels


def _level(where: str, at: int, value: Json) -> Json:
    level = _object(where, value)
    minutes, number = level.get("timeout_minutes"), level.get("level", at + 1)
    if isinstance(number, bool) or not isinstance(number, int):
        raise _WrongValue(f"{where}.level", "a whole number", number)
    return {
        "level": number,
        "to": _assignees(f"{where}.backup_approvers", level.get("backup_approvers") or []),
        "seconds": _seconds(f"{where}.timeout_minutes", minutes) if minutes else None,
        "notify_original": _flag(f"{where}.notify_original", level.get("notify_original", False)),
    }


def _seconds(field: str, minutes: Json) -> float:
    if isinstance(minutes, bool) or not isinstance(minutes, int | float):
        raise _WrongValue(field, "a number", minutes)
    try:
        return parse_duration(minutes * 60) / SECOND
    except (ValueError, OverflowError):
        raise _WrongValue(field, "the minutes of a time below a hundred years", minutes) from None


def _final_action(config: Mapping[str, Json], levels: Sequence[Json]) -> str:
    """What ends the task when all time is over."""
    on_timeout = config.get("on_timeout") or "expire"
    chosen = _object("escalation", config.get("escalation")).get("final_action") if levels else None
    return _ENDINGS.get(chosen or on_timeout, "expire")


def _moment(field: str, value: Json, now: Instant) -> Instant | None:
    """Read a moment, or a length of time from now."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            at = parse_instant(value)
        except (ValueError, OverflowError):
            pass
        else:
            if abs(at - now) > LONGEST:
                raise _WrongValue(field, "a moment within a hundred years", value)
            return at
    return _later(field, value, now)


def _later(field: str, value: Json, now: Instant) -> Instant:
    try:
        return now + parse_duration(value)
    except ValueError:
        raise _WrongValue(field, "a duration such as 24h, or an RFC 3339 time where one is accepted", value) from None


def _reminders(value: Json, before: Instant, now: Instant) -> list[Instant]:
    moments = []
    for each in value if isinstance(value, list) else [] if value is None else [value]:
        try:
            moments.append(before - parse_duration(each))
        except ValueError:
            raise _WrongValue("reminders", "durations such as 24h", each) from None
    return sorted({at for at in moments if at > now})


def _assignees(field: str, value: Json, *, at_least_one: bool = False) -> list[Json]:
    """Bring assignees to one shape: text is a user if it is an id, else the name of a role."""
    given = value if isinstance(value, list) else [value]
    found = _distinct([_assignee(field, each) for each in given])
    if at_least_one and not found:
        raise _WrongValue(field, "at least one user or role", value)
    if len(found) > MAX_ASSIGNEES:
        raise _WrongValue(field, f"at most {MAX_ASSIGNEES} users and roles", value)
    return found


def _assignee(field: str, value: Json) -> Json:
    kind: Json
    name: Json
    if isinstance(value, str):
        kind, name = ("user" if _is_id(value) else "role"), value
    else:
        assignee = _object(field, value)
        kind, name = assignee.get("type"), assignee.get("id") or assignee.get("name")
    if kind not in ("user", "role") or not isinstance(name, str) or not 1 <= len(name) <= _NAME_LENGTH:
        raise _WrongValue(field, "users' ids and names of roles", value)
    if kind == "role":
        return {"type": "role", "name": name}
    if not _is_id(name):
        raise _WrongValue(field, "a user by id", value)
    return {"type": "user", "id": str(UUID(name))}


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _distinct(assignees: Sequence[Json]) -> list[Json]:
    return [each for at, each in enumerate(assignees) if each not in assignees[:at]]


def _form_fields(value: Json) -> list[Json]:
    fields: list[Json] = []
    for at, given in enumerate(_list("form_fields", value)):
        where = f"form_fields[{at}]"
        field = _object(where, given)
        name = _required_text(f"{where}.name", field.get("name"))
        if any(name == other["name"] for other in fields):
            raise _WrongValue(f"{where}.name", "a name that no other field has", name)
        kind = _one_of(f"{where}.type", field.get("type", "text"), ("text", "number", "select", "checkbox", "date"))
        options = _list(f"{where}.options", field.get("options"))
        if (kind == "select") != bool(options) or len(options) > MAX_OPTIONS:
            raise _WrongValue(f"{where}.options", "the list of what can be selected, for a select only", options)
        read = {
            "name": name,
            "type": kind,
            "label": _optional_text(f"{where}.label", field.get("label")) or name,
            "required": _flag(f"{where}.required", field.get("required", False)),
            "options": options,
        }
        if field.get("default") is not None:
            read["default"] = field["default"]
        fields.append(read)
    return fields


def _mail(notify: Json) -> Json:
    if notify is None:
        return None
    given = _object("notify", notify)
    credential = _required_text("notify.credential", given.get("credential"))
    return {"credential": credential, "from": _optional_text("notify.from", given.get("from"))}


def _title(value: Json) -> str:
    text = " ".join(_required_text("title", value).split())
    return text if len(text) <= TITLE_LENGTH else text[: TITLE_LENGTH - 1] + "…"


def _required_text(field: str, value: Json) -> str:
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.strip():
        raise _WrongValue(field, "text", value)
    return text


def _optional_text(field: str, value: Json) -> str | None:
    return None if value is None or value == "" else _required_text(field, value)


def _object(field: str, value: Json) -> Mapping[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _WrongValue(field, "an object", value)
    return value


def _list(field: str, value: Json) -> Sequence[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _WrongValue(field, "a list", value)
    return value


def _flag(field: str, value: Json) -> bool:
    if not isinstance(value, bool):
        raise _WrongValue(field, "true or false", value)
    return value


def _one_of(field: str, value: Json, options: Sequence[str]) -> str:
    if value not in options:
        raise _WrongValue(field, f"one of {', '.join(options)}", value)
    assert isinstance(value, str)
    return value
