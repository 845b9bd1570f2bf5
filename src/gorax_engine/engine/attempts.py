"""One attempt of a step: render its config, let the node do its work, and settle what became of it as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import msgspec

from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.failures import is_true, step_timed_out
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import (
    SECOND,
    ChildWait,
    Completed,
    EventWait,
    Failed,
    StepError,
    Suspended,
    TaskWait,
)
from gorax_engine.core.policies import classify
from gorax_engine.engine.recorder import encode_bounded
from gorax_engine.errors import GoraxError, Unavailable
from gorax_engine.telemetry import get_logger

if TYPE_CHECKING:
    from gorax_engine.core.commands import StartStep
    from gorax_engine.core.expressions import Scope
    from gorax_engine.core.model import Json, Outcome
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.engine.run import Run
    from gorax_engine.vault.secrets import Revealed

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempted:
    """What became of an attempt: None if the node's `when` is false. `given` is JSON of its config, for its row."""

    outcome: Outcome | None
    given: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An attempt that may act: its rendered config, what is recorded of it, and the secrets in it."""

    config: Mapping[str, Json]
    given: str
    revealed: Revealed | None


def evaluate(run: Run, node: PlanNode, scope: Scope, command: StartStep) -> Attempted:
    """Evaluate a node that doesn't wait."""
    given = ""
    try:
        if node.when is not None and command.attempt == 1 and not is_true(node.when(scope), "`when`"):
            return Attempted(None)
        config = node.config.render(scope)
        given = encode_bounded(node.config.record(config)) if config else ""
        outcome = run.engine.registry.pure(node.type).evaluate(config, run.context(node, command))
    except ExpressionError as error:
        outcome = Failed(StepError(error.code, error.message))
    except Unencodable as error:
        outcome = Failed(StepError("type_error", f"The step's input can't be stored: {error}."))
    except Exception as error:  # noqa: BLE001 - a fault of a node fails its step, not the run
        outcome = _crashed(run, node, error, error)
    return Attempted(outcome, given)


async def prepare(run: Run, node: PlanNode, scope: Scope, command: StartStep) -> Prepared | Attempted:
    """Render a task's config, with the secrets that it names; or say at once what became of the attempt."""
    revealed: Revealed | None = None
    try:
        if node.when is not None and command.attempt == 1 and not is_true(node.when(scope), "`when`"):
            return Attempted(None)
        if node.credentials:
            revealed = await _reveal(run, node)
            scope = scope.child({"credentials": revealed.values})
        config = node.config.render(scope)
        recorded = node.config.record(config)
        given = encode_bounded(recorded if revealed is None else revealed.mask(recorded))
    except ExpressionError as error:
        message = error.message if revealed is None else revealed.mask_text(error.message)
        return Attempted(Failed(StepError(error.code, message)))
    except Unencodable as error:
        return Attempted(Failed(StepError("type_error", f"The step's input can't be stored: {error}.")))
    except Unavailable as error:
        return Attempted(Failed(StepError(error.code, error.message, classify("connection_failed"))))
    except GoraxError as error:
        return Attempted(Failed(StepError(error.code, error.message)))
    return Prepared(config, given, revealed)


async def _reveal(run: Run, node: PlanNode) -> Revealed:
    secrets = run.engine.secrets
    if secrets is None:
        message = "No vault is configured here, so no credential can be used: set `vault.key_file`."
        raise Unavailable(message, code="vault_unavailable")
    claim = run.claim
    return await secrets.reveal(claim.tenant_id, node.credentials, execution_id=claim.execution_id, node_id=node.id)


async def act_guarded(run: Run, node: PlanNode, prepared: Prepared, command: StartStep) -> Outcome:
    """Run the node's own code, unless the circuit breaker around it is open."""
    if node.breaker is None:
        return await act(run, node, prepared, command)
    name, policy = node.breaker
    breaker = run.engine.breakers.get(run.claim.tenant_id, name, policy)
    if not breaker.admit(run.engine.clock.now()):
        return circuit_open(name)
    try:
        outcome = await act(run, node, prepared, command)
    except BaseException:
        breaker.abandoned()
        raise
    if isinstance(outcome, Failed):
        breaker.failed(run.engine.clock.now())
    else:
        breaker.succeeded()
    return outcome


def circuit_open(name: str) -> Failed:
    """Return what becomes of an attempt that a circuit breaker doesn't let through."""
    message = f"The circuit breaker {name} is open: what it guards failed too often of late."
    return Failed(StepError("circuit_open", message))


async def act(run: Run, node: PlanNode, prepared: Prepared, command: StartStep) -> Outcome:
    """Run the node's own code. The one place where an exception becomes an outcome; secrets end here."""
    task, context = run.engine.registry.task(node.type), run.context(node, command)
    try:
        if node.timeout is None:
            outcome = await task.run(prepared.config, context)
        else:
            outcome = Failed(step_timed_out(node))
            with anyio.move_on_after(node.timeout / SECOND):
                outcome = await task.run(prepared.config, context)
    except ExpressionError as error:
        outcome = Failed(StepError(error.code, error.message))
    except Unencodable as error:
        outcome = Failed(StepError("type_error", f"The step's input can't be stored: {error}."))
    except Exception as error:  # noqa: BLE001 - the one place where a fault of a node becomes an outcome
        # With secrets at hand the traceback may show them.
        outcome = _crashed(run, node, error, error if prepared.revealed is None else None)
    if prepared.revealed is None:
        return outcome
    try:
        return _masked(outcome, prepared.revealed)
    except Exception as error:  # noqa: BLE001 - nobody has checked the types of what a plug-in made
        return _crashed(run, node, error, None)


def _crashed(run: Run, node: PlanNode, error: Exception, trace: Exception | None) -> Failed:
    _log.error("node_crashed", node_type=node.type, node_id=node.id, execution_id=run.id, exc_info=trace)
    return Failed(StepError("node_crashed", f"The node type {node.type} failed: {type(error).__name__}."))


def _masked(outcome: Outcome, revealed: Revealed) -> Outcome:
    match outcome:
        case Completed(output=output, outcome=label, stop=stop):
            return Completed(revealed.mask(output), label, stop)
        case Failed(error=error):
            message, details = revealed.mask_text(error.message), revealed.mask(dict(error.details))
            return Failed(replace(error, message=message, details=details))
        case Suspended(due_at=due, output=output, wait=wait):
            return Suspended(due, revealed.mask(output), _masked_wait(wait, revealed))


def _masked_wait(
    wait: TaskWait | EventWait | ChildWait | None, revealed: Revealed
) -> TaskWait | EventWait | ChildWait | None:
    match wait:
        case TaskWait(content=content):
            return TaskWait(revealed.mask(dict(content)))
        case EventWait(name=name, correlation_key=key):
            return EventWait(revealed.mask_text(name), None if key is None else revealed.mask_text(key))
        case ChildWait(input=given):
            return msgspec.structs.replace(wait, input=revealed.mask(given))
        case None:
            return None
