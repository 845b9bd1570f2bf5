"""Cases that say what a workflow does: run in virtual time, with no database and no network, and judged."""

from gorax_engine.workflows.testing.cases import Case, Suite
from gorax_engine.workflows.testing.judging import Mismatch, judge, shown_duration
from gorax_engine.workflows.testing.reading import read_suite, shape_faults
from gorax_engine.workflows.testing.simulator import Simulated, simulate
from gorax_engine.workflows.testing.stage import Surroundings
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
    "shape_faults",
    "shown_duration",
    "simulate",
]
