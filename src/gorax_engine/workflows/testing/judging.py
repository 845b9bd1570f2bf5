"""Comparing what a run did with what its case expects: every difference, with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gorax_engine.core.json_edge import encode
from gorax_engine.core.reading.document import pointer
from gorax_engine.core.states import ExecutionState, StepState
from gorax_engine.workflows.testing.trace import node_of

if TYPE_CHECKING:
    from gorax_engine.core.commands import EndRun
    from gorax_engine.core.model import Json, Micros, StepError
    from gorax_engine.core.schemas import Path
    from gorax_engine.workflows.testing.cases import Case, Length, StepExpectation
    from gorax_engine.workflows.testing.simulator import Simulated
    from gorax_engine.workflows.testing.trace import Attempt

_UNITS: Final = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference: where in the file what is expected stands, and a sentence with both values."""

    pointer: str
    message: str


def judge(case: Case, run: Simulated) -> list[Mismatch]:
    """Return all differences between a run and what its case expects; none means that the case has passed."""
    if run.end is None:
        return [Mismatch(case.pointer, run.stuck or "The run did not end.")]
    return [Mismatch(f"{case.pointer}/expect{pointer(path)}", message) for path, message in _differences(case, run)]


def _differences(case: Case, run: Simulated) -> Iterator[tuple[Path, str]]:
    expect, end = case.expect, run.end
    assert end is not None
    if end.status.value != expect.status:
        yield ("status",), f"The run should end as {expect.status}, but it {_told(end)}."
    yield from _results(expect.wanted, end.output, end.error, (), "the run's")
    if "path" in expect.wanted:
        yield from _path(expect.wanted["path"], list(run.trace.places()))
    for at, place in enumerate(expect.not_run):
        found = [each for each in run.trace.places() if place in (each, node_of(each))]
        if found:
            yield ("not_run", at), f"`{place}` should not run, but it did{_at(found, place)}."
    for step in expect.steps:
        yield from _step(step, run)
    if expect.duration is not None:
        yield from _duration(expect.duration, run.duration)


def _told(end: EndRun) -> str:
    if end.status is ExecutionState.FAILED and end.error is not None:
        return f"failed with {end.error.code}: {end.error.message.removesuffix('.')}"
    return "completed" if end.status is ExecutionState.COMPLETED else "was cancelled"


def _at(found: Sequence[str], place: str) -> str:
    return "" if found == [place] else f" at {', '.join(f'`{each}`' for each in found[:5])}"


# --- steps ------------------------------------------------------------------------------------------------------------


def _step(step: StepExpectation, run: Simulated) -> Iterator[tuple[Path, str]]:
    path: Path = ("steps", step.place)
    wanted = step.wanted
    attempts = run.trace.at(step.place)
    if not attempts:
        elsewhere = run.trace.places_of(node_of(step.place))
        hint = f": it ran{_at(elsewhere, step.place)}" if elsewhere else ""
        yield path, f"`{step.place}` never came to run{hint}."
        return
    last = attempts[-1]
    status = wanted.get("status")
    if status is not None and last.state.value != status:
        yield (*path, "status"), f"`{step.place}` should be {status}, but it {_what_became(last)}."
    begun = sum(attempt.ran for attempt in attempts)
    if "attempts" in wanted and begun != wanted["attempts"]:
        yield (*path, "attempts"), f"`{step.place}` should be tried {wanted['attempts']} times, but it was {begun}."
    if "outcome" in wanted and last.outcome != wanted["outcome"]:
        outcome = "none" if last.outcome is None else f"`{last.outcome}`"
        yield (*path, "outcome"), f"The outcome of `{step.place}` should be `{wanted['outcome']}`, but it is {outcome}."
    if "input" in wanted:
        yield from _compared((*path, "input"), wanted["input"], last.given, partly=True)
    yield from _results(wanted, last.output, last.error, path, f"`{step.place}`'s")


def _what_became(attempt: Attempt) -> str:
    match attempt.state:
        case StepState.FAILED if attempt.error is not None:
            return f"failed with {attempt.error.code}: {attempt.error.message.removesuffix('.')}"
        case StepState.SKIPPED:
            return "was skipped"
        case state:
            return f"is {state.value}"


def _results(
    wanted: Mapping[str, Json], output: Json, error: StepError | None, path: Path, whose: str
) -> Iterator[tuple[Path, str]]:
    if "error_code" in wanted and (error is None or error.code != wanted["error_code"]):
        found = "there is no error" if error is None else f"it is `{error.code}`: {error.message.removesuffix('.')}"
        yield (*path, "error_code"), f"The code of {whose} error should be `{wanted['error_code']}`, but {found}."
    if "error_message" in wanted and (error is None or wanted["error_message"] not in error.message):
        found = "there is no error" if error is None else f"it is {_shown(error.message)}"
        message = f"The message of {whose} error should hold {_shown(wanted['error_message'])}, but {found}."
        yield (*path, "error_message"), message
    for key, partly in (("output", True), ("exact_output", False)):
        if key in wanted:
            yield from _compared((*path, key), wanted[key], output, partly=partly)


# --- paths and lengths ------------------------------------------------------------------------------------------------


def _path(wanted: Sequence[str], found: Sequence[str]) -> Iterator[tuple[Path, str]]:
    if list(wanted) == list(found):
        return
    signs = {"-": "-", "+": "+", " ": " "}
    lines = [f"{signs[line[0]]} {line[2:]}" for line in difflib.ndiff(wanted, found) if line[0] in signs]
    yield ("path",), "\n".join(["The steps ran in another order (- expected, + ran):", *lines])


def _duration(wanted: Length, found: Micros) -> Iterator[tuple[Path, str]]:
    if found < wanted.at_least or (wanted.at_most is not None and found > wanted.at_most):
        if wanted.at_least == wanted.at_most:
            bound = shown_duration(wanted.at_least)
        elif wanted.at_most is None:
            bound = f"at least {shown_duration(wanted.at_least)}"
        else:
            bound = f"from {shown_duration(wanted.at_least)} to {shown_duration(wanted.at_most)}"
        yield ("duration",), f"The run should take {bound}, but it takes {shown_duration(found)}."


def shown_duration(length: Micros) -> str:
    """Return a length of time as text, such as 2d or 1m30.5s."""
    if length == 0:
        return "0s"
    parts = []
    for unit, size in _UNITS[:-1]:
        count, length = divmod(length, size)
        if count:
            parts.append(f"{count}{unit}")
    if length:
        parts.append(f"{length / 1_000_000:.6f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)


# --- values -----------------------------------------------------------------------------------------------------------


def _compared(path: Path, wanted: Json, found: Json, *, partly: bool) -> Iterator[tuple[Path, str]]:
    """Compare values; `partly` leaves aside the keys that objects have besides."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            if key in found:
                yield from _compared((*path, key), value, found[key], partly=partly)
            else:
                known = ", ".join(f"`{each}`" for each in list(found)[:10]) or "no keys"
                yield (*path, key), f"expected {_shown(value)}, but there is no `{key}`: there is {known}."
        for key in found if not partly else ():
            if key not in wanted:
                yield (*path, key), f"`{key}` is not expected: it is {_shown(found[key])}."
    elif isinstance(wanted, list) and isinstance(found, list):
        for at, value in enumerate(wanted[: len(found)]):
            yield from _compared((*path, at), value, found[at], partly=partly)
        if len(wanted) != len(found):
            yield path, f"expected {len(wanted)} items, but there are {len(found)}: {_shown(found)}."
    elif not _same(wanted, found):
        yield path, f"expected {_shown(wanted)}, but it is {_shown(found)}."


def _same(wanted: Json, found: Json) -> bool:
    """Compare two values that are not both objects or both lists: 1 is 1.0, but not true."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    return bool(wanted == found)


def _shown(value: Json) -> str:
    text = encode(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
