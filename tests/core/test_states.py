"""The state tables, and that the drawings, the check constraints and the guards in SQL say the same."""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core.states import (
    EXECUTION_TRANSITIONS,
    STEP_TRANSITIONS,
    TERMINAL_EXECUTIONS,
    TERMINAL_STEPS,
    ExecutionState,
    IllegalTransition,
    StepState,
    check_execution,
    check_step,
)

State = TypeVar("State", bound=StrEnum)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/state_machine.md"
FUNCTIONS = ROOT / "src/gorax_engine/store/sql/functions"

EXECUTIONS = """
pending running
pending failed
pending cancelled
running completed
running failed
running cancelled
"""
STEPS = """
pending running
pending completed
pending failed
pending skipped
running completed
running failed
"""


def moves(table: str) -> set[tuple[str, str]]:
    return {(before, after) for before, _, after in (line.partition(" ") for line in table.split("\n") if line)}


@pytest.mark.parametrize("before", ExecutionState)
@pytest.mark.parametrize("after", ExecutionState)
def test_moves_of_an_execution(before: ExecutionState, after: ExecutionState) -> None:
    if (before, after) in moves(EXECUTIONS):
        assert check_execution(before, after) is after
    else:
        with pytest.raises(IllegalTransition, match=f"an execution can't go from {before} to {after}"):
            check_execution(before, after)


@pytest.mark.parametrize("before", StepState)
@pytest.mark.parametrize("after", StepState)
def test_moves_of_a_step(before: StepState, after: StepState) -> None:
    if (before, after) in moves(STEPS):
        assert check_step(before, after) is after
    else:
        with pytest.raises(IllegalTransition, match=f"a step can't go from {before} to {after}"):
            check_step(before, after)


def test_terminal_states_are_those_without_a_way_out() -> None:
    assert set(EXECUTION_TRANSITIONS) == set(ExecutionState)
    assert set(STEP_TRANSITIONS) == set(StepState)
    assert sorted(TERMINAL_EXECUTIONS) == ["cancelled", "completed", "failed"]
    assert sorted(TERMINAL_STEPS) == ["completed", "failed", "skipped"]


@given(st.lists(st.sampled_from(ExecutionState), max_size=20))
def test_no_sequence_of_moves_leaves_a_terminal_state(wanted: list[ExecutionState]) -> None:
    state = ExecutionState.PENDING
    for after in wanted:
        try:
            moved = check_execution(state, after)
        except IllegalTransition:
            continue
        assert state not in TERMINAL_EXECUTIONS
        state = moved


# --- what else says the same ---


def draw(table: Mapping[State, frozenset[State]]) -> str:
    """A state table as a mermaid diagram, in the order of its words."""
    order = list(table)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {order[0]}"]
    lines += [f"    {before} --> {after}" for before in order for after in order if after in table[before]]
    lines += [f"    {state} --> [*]" for state in order if not table[state]]
    return "\n".join([*lines, "```"])


def test_the_drawings_are_current() -> None:
    page = PAGE.read_text()
    drawn = page
    for name, picture in (("executions", draw(EXECUTION_TRANSITIONS)), ("steps", draw(STEP_TRANSITIONS))):
        before, start, rest = drawn.partition(f"<!-- drawn: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        assert end
        drawn = f"{before}{start}\n{picture}\n\n{end}{after}"
    if os.environ.get("GORAX_REDRAW"):
        PAGE.write_text(drawn)
    else:
        assert page == drawn, "draw it again: GORAX_REDRAW=1 pytest tests/core/test_states.py"
    assert all(f"- **{state}**" in page for state in (*ExecutionState, *StepState))


def words(text: str, pattern: str) -> list[set[str]]:
    """The words of every list `('a', 'b')` that follows `pattern`."""
    lists = re.findall(rf"{pattern}\s*\(([^)]*)\)", text)
    return [set(re.findall(r"'(\w+)'", each)) for each in lists]


@pytest.mark.parametrize(
    ("constraint", "states"), [("chk_executions_status", ExecutionState), ("chk_step_executions_status", StepState)]
)
def test_the_check_constraints_know_the_same_words(constraint: str, states: type[StrEnum]) -> None:
    migrations = "".join(file.read_text() for file in sorted((ROOT / "migrations").glob("[0-9]*.sql")))
    # The last migration that names the constraint is the one that holds.
    assert words(migrations, rf"CONSTRAINT {constraint} CHECK \(status IN")[-1] == set(states)
    schema = (ROOT / "migrations/schema.sql").read_text()
    found = re.search(rf"CONSTRAINT {constraint} CHECK \((.*)\),?$", schema, re.MULTILINE)
    assert found is not None
    assert set(re.findall(r"'(\w+)'", found[1])) == set(states)


def test_the_first_state_is_the_default_of_the_column() -> None:
    migrations = "".join(file.read_text() for file in sorted((ROOT / "migrations").glob("[0-9]*.sql")))
    for table in ("executions", "step_executions"):
        found = re.search(rf"CREATE TABLE {table} \(.*?\bstatus [^,]*DEFAULT '(\w+)'", migrations, re.DOTALL)
        assert found is not None
        assert found[1] == "pending"


def test_the_writes_leave_terminal_rows_alone() -> None:
    ends = (FUNCTIONS / "gorax_record_ends.sql").read_text()
    steps = (FUNCTIONS / "gorax_record_steps.sql").read_text()
    assert "e.completed_at IS NULL" in ends  # which is what live means, in words that no index tempts
    assert words(steps, r"s\.status IN") == [set(StepState) - TERMINAL_STEPS]
