"""Cases that say what a workflow does: run in virtual time, with no database and no network, and judged."""

from gorax_engine.workflows.testing.cases import Case, Suite
from gorax_engine.workflows.testing.judging import Mismatch, judge
from gorax_engine.workflows.testing.reading import read_suite
from gorax_engine.workflows.testing.simulator import Simulated, Surroundings, simulate
from gorax_engine.workflows.testing.trace import Attempt, Trace

__all__ = [
    "Attempt",
    "Case",
    "Mismatch",
    "Simulated",
    "Suite",
    "Surroundings",
    "Trace",
    "judge",
    "read_suite",
    "simulate",
]
