"""What a mock's answer makes of a step: when it ends, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from gorax_engine.core.failures import step_timed_out
from gorax_engine.core.instants import format_instant, parse_instant
from gorax_engine.core.model import (
    SECOND,
    ChildWait,
    Completed,
    EventWait,
    Failed,
    Suspended,
    TaskWait,
)
from gorax_engine.engine.children import mapped_output

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.errors import Problem
    from gorax_engine.workflows.testing.cases import Answer

FillIn = Callable[[Sequence[Mapping[str, "Json"]], Mapping[str, "Json"]], tuple[dict[str, "Json"], list["Problem"]]]
"""Checks the values of a form: gives them with its defaults, and what is wrong with them."""

PERSON: Final = "00000000-0000-7000-8000-00000000000a"
"""Who decides human tasks, where a mock doesn't say it."""
EVENT: Final = "00000000-0000-7000-8000-00000000000e"
CHILD: Final = "00000000-0000-7000-8000-00000000000c"

_ENDINGS: Final = {"approve": "approved", "reject": "rejected", "expire": "expired"}


class WrongAnswer(Exception):
    """A mock answers what the step can't get; the text is a sentence for the case's author."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends, and when; `at` is None if it never does."""

    at: Instant | None
    outcome: Completed | Failed


def ending_of(node: PlanNode, answer: Answer, now: Instant) -> Ending:
    """Return how a step ends that is mocked as a whole, its timeout apart."""
    at = None if answer.never else now + answer.after
    if answer.error is not None:
        return Ending(at, Failed(answer.error))
    return Ending(at, Completed(answer.output, answer.outcome))


def ending_of_wait(node: PlanNode, wait: Suspended, answer: Answer, now: Instant, fill_in: FillIn) -> Ending:
    """Return how a wait ends that is mocked. Raises WrongAnswer."""
    at = None if answer.never else now + answer.after
    late = wait.due_at
    match wait.wait:
        case None:
            return Ending(wait.due_at, Completed(wait.output))
        case TaskWait(content=content):
            by_clock = _by_clock(content)
            if by_clock is not None and by_clock.at is not None and (at is None or by_clock.at <= at):
                return by_clock
            ending = Ending(
                at, Failed(step_timed_out(node)) if at is None else _decided(node, content, answer, at, fill_in)
            )
        case EventWait() as event:
            ending = Ending(at, Failed(step_timed_out(node)) if at is None else _come(event, answer, at))
        case ChildWait() as child:
            ending = Ending(at, _returned(child, answer))
        case _:
            assert_never(wait.wait)
    if late is not None and (ending.at is None or late < ending.at):
        return Ending(late, Failed(step_timed_out(node)))
    return ending


def within(node: PlanNode, ending: Ending, now: Instant) -> Ending:
    """Return the ending under the step's own timeout."""
    late = None if node.timeout is None else now + node.timeout
    if late is not None and (ending.at is None or late < ending.at):
        return Ending(late, Failed(step_timed_out(node)))
    return ending


# --- human tasks ------------------------------------------------------------------------------------------------------


def _by_clock(content: Mapping[str, Json]) -> Ending | None:
    """Return what the clock decides if nobody does: after the limit, and all levels of escalation after it."""
    if content["limit_at"] is None:
        return None
    at = parse_instant(content["limit_at"])
    for level in content["levels"]:
        if level["seconds"] is None:
            return None
        at += round(level["seconds"] * SECOND)
    status = _ENDINGS[content["final_action"]]
    response: dict[str, Json] = {}
    if status == "approved":
        response = {field["name"]: field["default"] for field in content["form_fields"] if "default" in field}
        response |= {"comment": "Approved because nobody decided in time.", "auto_action": True}
    elif status == "rejected":
        response = {"reason": "Rejected because nobody decided in time.", "auto_action": True}
    return Ending(at, _decision(status, None, at, response))


def _decided(
    node: PlanNode, content: Mapping[str, Json], answer: Answer, at: Instant, fill_in: FillIn
) -> Completed | Failed:
    if answer.error is not None:
        return Failed(answer.error)
    status = answer.outcome or "approved"
    if answer.has_output:
        return Completed(answer.output, status)
    response = dict(answer.response or {})
    if status == "approved":
        fields = content["form_fields"]
        remark = {} if any(field["name"] == "comment" for field in fields) or "comment" not in response else {
            "comment": response.pop("comment")
        }  # fmt: skip
        values, problems = fill_in(fields, response)
        if problems:
            faults = " ".join(problem.message for problem in problems)
            raise WrongAnswer(f"The response that is mocked for `{node.id}` doesn't fit its form: {faults}")
        response = {**remark, **values}
    by = None if status == "expired" else answer.by or PERSON
    return _decision(status, by, at, response)


def _decision(status: str, by: str | None, at: Instant, response: Mapping[str, Json]) -> Completed:
    return Completed({"outcome": status, "by": by, "at": format_instant(at), "response": dict(response)}, status)


# --- events and sub-workflows -----------------------------------------------------------------------------------------


def _come(event: EventWait, answer: Answer, at: Instant) -> Completed | Failed:
    if answer.error is not None:
        return Failed(answer.error)
    if answer.has_output:
        return Completed(answer.output)
    return Completed(
        {
            "id": EVENT,
            "name": event.name,
            "correlation_key": event.correlation_key,
            "body": answer.body,
            "published_at": format_instant(at),
        }
    )


def _returned(child: ChildWait, answer: Answer) -> Completed | Failed:
    """The end of a child; its output goes through the step's mapping as a real one's would."""
    if answer.error is not None:
        return Failed(answer.error)
    if not child.is_sync:
        started = {"execution_id": CHILD, "workflow_id": child.workflow, "status": "started"}
        return Completed(answer.output if answer.has_output else started)
    return mapped_output(child.output_mapping, answer.output, answer.steps)
