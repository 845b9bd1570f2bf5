"""The walk of a graph: pure functions over a plan, a state, events and commands."""

from gorax_engine.core.walk.advance import advance, initial, proceed
from gorax_engine.core.walk.recovery import Recovered, StepRecord, recover
from gorax_engine.core.walk.state import NodeState, WalkState, scope_of

__all__ = ["NodeState", "Recovered", "StepRecord", "WalkState", "advance", "initial", "proceed", "recover", "scope_of"]
