"""Reading a test file: its shape by schema, then every name in it against the workflow; all faults are told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.instants import parse_instant
from gorax_engine.core.model import Classification, NodeKind, StepError
from gorax_engine.core.policies import classify
from gorax_engine.core.reading.document import pointer
from gorax_engine.core.validation import ConfigValidator, nearest
from gorax_engine.errors import Problem
from gorax_engine.workflows.testing.cases import (
    ANYWHERE,
    Answer,
    Answers,
    Case,
    Expectation,
    Length,
    Mock,
    StepExpectation,
    Suite,
)
from gorax_engine.workflows.testing.schema import SCHEMA
from gorax_engine.workflows.testing.trace import node_of

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.core.plan import Plan, PlanNode
    from gorax_engine.core.schemas import Path

NOW: Final = "2026-01-01T00:00:00Z"
"""When a case takes place that doesn't say it: always the same, so that results are, too."""

_OWN_KEYS: Final[Mapping[str, str]] = {
    "response": "human_task",
    "by": "human_task",
    "body": "wait_for_event",
    "steps": "sub_workflow",
}
"""Keys of answers that mean something for one type only."""
_GIVEN: Final = ("trigger", "trigger_type", "trigger_node", "vars", "env", "now")


def shape_faults(document: Json) -> list[Problem]:
    """Return what is wrong with the keys and types of a test file, with pointers into it."""
    problems = []
    for fault in ConfigValidator(SCHEMA).faults(document, ()):
        if fault.unknown_key is None:
            problems.append(Problem("invalid_case", pointer(fault.path), fault.message))
        else:
            similar = nearest(fault.unknown_key, fault.known_keys)
            known = ", ".join(f"`{key}`" for key in fault.known_keys) or "none"
            hint = f"did you mean `{similar[0]}`?" if similar else f"known here: {known}."
            message = f"`{fault.unknown_key[:255]}` is not a key here: {hint}"
            problems.append(Problem("unknown_key", pointer(fault.path), message))
    return problems


def read_suite(document: Json, plan: Plan) -> tuple[Suite | None, list[Problem]]:
    """Read a test file whose shape is right; return its cases, or None and everything that is wrong with them."""
    reader = _Reader(plan)
    defaults = document.get("defaults") or {}
    reader.check_given(defaults, ("defaults",))
    shared = reader.mocks(defaults.get("mocks"), ("defaults", "mocks"))
    cases = [
        reader.case(case, defaults, shared, ("cases", at)) for at, case in enumerate(document["cases"])
    ]  # fmt: skip
    seen: set[str] = set()
    for at, case in enumerate(cases):
        if case.name in seen:
            reader.fault(("cases", at, "name"), f"Two cases are called {case.name!r}: name them apart.")
        seen.add(case.name)
    return (None if reader.problems else Suite(tuple(cases))), reader.problems


class _Reader:
    """One reading; gathers the faults."""

    def __init__(self, plan: Plan) -> None:
        self.problems: list[Problem] = []
        self._plan = plan

    def fault(self, path: Path, message: str) -> None:
        self.problems.append(Problem("invalid_case", pointer(path), message))

    def case(self, raw: Json, defaults: Json, shared: Mapping[str, Mock], path: Path) -> Case:
        given = {name: raw.get(name, defaults.get(name)) for name in _GIVEN}
        self.check_given(raw, path)
        return Case(
            name=raw["name"],
            pointer=pointer(path),
            now=parse_instant(given["now"] or NOW),
            trigger={"body": {}} if given["trigger"] is None else given["trigger"],
            trigger_type=given["trigger_type"] or "",
            trigger_node=given["trigger_node"],
            vars={**(defaults.get("vars") or {}), **(raw.get("vars") or {})},
            env={**(defaults.get("env") or {}), **(raw.get("env") or {})},
            cancel_after=parse_duration(raw["cancel_after"]) if "cancel_after" in raw else None,
            mocks={**shared, **self.mocks(raw.get("mocks"), (*path, "mocks"))},
            expect=self._expectation(raw.get("expect") or {}, (*path, "expect")),
        )

    def check_given(self, given: Json, path: Path) -> None:
        named = given.get("trigger_node")
        if named is not None and named not in self._plan.triggers:
            known = ", ".join(f"`{each}`" for each in self._plan.triggers)
            self.fault((*path, "trigger_node"), f"`{named}` is no trigger of the workflow: it has {known}.")

    # --- mocks --------------------------------------------------------------------------------------------------------

    def mocks(self, raw: Json, path: Path) -> dict[str, Mock]:
        mocks: dict[str, Mock] = {}
        for name, mock in (raw or {}).items():
            node = self._node(name, (*path, name))
            if node is None:
                continue
            if node.scope is not None or node.kind is NodeKind.TRIGGER:
                message = f"`{name}` is a {node.type}, which the test itself carries out: mock the steps in it instead."
                self.fault((*path, name), message)
            else:
                mocks[name] = self._mock(node, mock, (*path, name))
        return mocks

    def _mock(self, node: PlanNode, raw: Json, path: Path) -> Mock:
        if isinstance(raw, dict) and "by_path" in raw:
            return {
                place: self._answers(node, answers, (*path, "by_path", place))
                for place, answers in raw["by_path"].items()
            }
        return {ANYWHERE: self._answers(node, raw, path)}

    def _answers(self, node: PlanNode, raw: Json, path: Path) -> Answers:
        if isinstance(raw, list):
            return Answers(tuple(self._answer(node, each, (*path, at)) for at, each in enumerate(raw)), repeats=False)
        return Answers((self._answer(node, raw, path),), repeats=True)

    def _answer(self, node: PlanNode, raw: Json, path: Path) -> Answer:
        for key, type_name in _OWN_KEYS.items():
            if key in raw and node.type != type_name:
                self.fault((*path, key), f"`{key}` is for steps of type {type_name}; `{node.id}` is a {node.type}.")
        alone = next((key for key in ("never", "error") if key in raw), None)
        others = [key for key in raw if key not in (alone, *(("after",) if alone == "error" else ()))]
        if alone is not None and others:
            self.fault((*path, others[0]), f"`{others[0]}` can't stand beside `{alone}`.")
        outcome = raw.get("outcome")
        if outcome is None and node.type == "human_task":
            outcome = "approved"
        if outcome is not None and outcome not in node.outcomes:
            known = ", ".join(f"`{each}`" for each in node.outcomes)
            why = f"its outcomes are {known}." if known else f"a {node.type} has none."
            self.fault((*path, "outcome"), f"`{outcome}` is no outcome of `{node.id}`: {why}")
        if outcome is None and node.outcomes and alone is None:
            self.fault(path, f"The outcome of `{node.id}` decides which way the run goes: add `outcome`.")
        return Answer(
            output=raw.get("output"),
            has_output="output" in raw,
            error=_error(raw["error"], node) if "error" in raw else None,
            outcome=outcome,
            after=parse_duration(raw.get("after", 0)),
            never="never" in raw,
            response=raw.get("response"),
            by=raw.get("by"),
            body=raw.get("body"),
            steps=raw.get("steps") or {},
        )

    # --- expectations -------------------------------------------------------------------------------------------------

    def _expectation(self, raw: Json, path: Path) -> Expectation:
        for key in ("path", "not_run"):
            for at, place in enumerate(raw.get(key) or ()):
                self._node(node_of(place), (*path, key, at))
        for place in raw.get("steps") or {}:
            self._node(node_of(place), (*path, "steps", place))
        failing = "error_code" in raw or "error_message" in raw
        return Expectation(
            status=raw.get("status") or ("failed" if failing else "completed"),
            wanted={
                key: raw[key]
                for key in ("error_code", "error_message", "output", "exact_output", "path")
                if key in raw
            },
            steps=tuple(StepExpectation(place, wanted) for place, wanted in (raw.get("steps") or {}).items()),
            not_run=tuple(raw.get("not_run") or ()),
            duration=_length(raw["duration"]) if "duration" in raw else None,
        )  # fmt: skip

    def _node(self, name: str, path: Path) -> PlanNode | None:
        node = self._plan.nodes.get(name)
        if node is None:
            similar = nearest(name, self._plan.nodes)
            hint = f"did you mean `{similar[0]}`?" if similar else "correct the id."
            self.fault(path, f"The workflow has no node `{name}`: {hint}")
        return node


def _error(raw: Json, node: PlanNode) -> StepError:
    status = raw.get("http_status_code")
    details = dict(raw.get("details") or {})
    if status is not None:
        details["http_status_code"] = status
    return StepError(
        raw["code"],
        raw.get("message", f"The mock of {node.id} fails with {raw['code']}."),
        Classification(raw["classification"]) if "classification" in raw else classify(raw["code"], status),
        details,
        parse_duration(raw["retry_after"]) if "retry_after" in raw else None,
    )


def _length(raw: Json) -> Length:
    if isinstance(raw, dict):
        most = raw.get("at_most")
        return Length(parse_duration(raw.get("at_least", 0)), None if most is None else parse_duration(most))
    exact = parse_duration(raw)
    return Length(exact, exact)
