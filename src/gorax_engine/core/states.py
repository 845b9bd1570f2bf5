"""The state machines of executions and steps, as tables: every legal move stands here, all others raise.

The words are those of the schema document. `docs/state_machine.md` and the check constraints in the database are
tested against these tables. Rules for changing this file: a terminal state has no way out; a new state needs a
migration of the check constraint and a line in the docs.
"""

from enum import StrEnum
from typing import Final


class ExecutionState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


EXECUTION_TRANSITIONS: Final[dict[ExecutionState, frozenset[ExecutionState]]] = {
    ExecutionState.PENDING: frozenset({ExecutionState.RUNNING, ExecutionState.FAILED, ExecutionState.CANCELLED}),
    ExecutionState.RUNNING: frozenset({ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED}),
    ExecutionState.COMPLETED: frozenset(),
    ExecutionState.FAILED: frozenset(),
    ExecutionState.CANCELLED: frozenset(),
}

STEP_TRANSITIONS: Final[dict[StepState, frozenset[StepState]]] = {
    StepState.PENDING: frozenset({StepState.RUNNING, StepState.COMPLETED, StepState.FAILED, StepState.SKIPPED}),
    StepState.RUNNING: frozenset({StepState.COMPLETED, StepState.FAILED}),
    StepState.COMPLETED: frozenset(),
    StepState.FAILED: frozenset(),
    StepState.SKIPPED: frozenset(),
}

TERMINAL_EXECUTIONS: Final = frozenset(state for state, ways in EXECUTION_TRANSITIONS.items() if not ways)
TERMINAL_STEPS: Final = frozenset(state for state, ways in STEP_TRANSITIONS.items() if not ways)


class IllegalTransition(Exception):
    """A move that the tables above don't have: a bug in the engine, never a user's fault."""


def check_execution(before: ExecutionState, after: ExecutionState) -> ExecutionState:
    """Return `after` if the move is legal, else raise IllegalTransition."""
    if after not in EXECUTION_TRANSITIONS[before]:
        raise IllegalTransition(f"an execution can't go from {before} to {after}")
    return after


def check_step(before: StepState, after: StepState) -> StepState:
    """Return `after` if the move is legal, else raise IllegalTransition."""
    if after not in STEP_TRANSITIONS[before]:
        raise IllegalTransition(f"a step can't go from {before} to {after}")
    return after
