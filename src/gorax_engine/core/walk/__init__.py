"""The walk of a graph: pure functions over a plan, a state, events and commands."""

from gorax_engine.core.walk.advance import initial, proceed
from gorax_engine.core.walk.recovery import Recovered, StepRecord, recover
from gorax_engine.core.walk.state import NodeState, WalkState, scope_of
from gorax_engine.core.walk.takeover import take_over

__all__ = [
    "NodeState",
    "Recovered",
    "StepRecord",
    "WalkState",
    "initial",
    "proceed",
    "recover",
    "scope_of",
    "take_over",
]
