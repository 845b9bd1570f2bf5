"""Failures that more than one part tells of: the same code and the same sentence, whoever tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.model import StepError
from gorax_engine.core.policies import classify

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.core.plan import PlanNode


def step_timed_out(node: PlanNode) -> StepError:
    """Return the failure of a step, or of a scope, that takes too long."""
    what = "step" if node.scope is None else node.type
    return StepError("timeout", f"The {what} {node.id} did not end within its timeout.", classify("timeout"))


def run_timed_out() -> StepError:
    """Return the failure of a run that takes too long."""
    return StepError("timeout", "The run did not end within its timeout.")


def unhandled(node: PlanNode, label: str, output: Json) -> StepError:
    """Return the failure of a step whose outcome `label`, which came with `output`, has no edge."""
    details = output if isinstance(output, dict) else {}
    response = details.get("response")
    reason = response.get("reason") if isinstance(response, dict) else None
    why = f": {reason}" if isinstance(reason, str) and reason else "."
    return StepError(
        node.unhandled[label],
        f"The step {node.id} came to `{label}`, and no edge is there for it{why}",
        details=details,
    )


def is_true(value: Json, what: str = "A condition") -> bool:
    """Return the value of `what`, a condition. Raises ExpressionError if it is neither true nor false."""
    if value is True or value is False:
        return value
    raise ExpressionError("type_error", f"{what} must give true or false.")
