"""The node type `code`: a function in JavaScript, run in a process that can do nothing but compute."""

import re
from collections.abc import Mapping
from typing import Final

from gorax_engine.core.durations import parse_duration
from gorax_engine.nodes.api import (
    NO_RETRY,
    SECOND,
    Completed,
    Failed,
    Json,
    Micros,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
)
from gorax_engine.nodes.sandbox.faults import ScriptFailed
from gorax_engine.nodes.sandbox.pool import MIB, Sandbox, Script

DEFAULT_TIMEOUT: Final = 30
MAX_TIMEOUT: Final[Micros] = 60 * SECOND
DEFAULT_MEMORY: Final = 64 * MIB
MIN_MEMORY: Final = 2 * MIB
MAX_SCRIPT: Final = 1 << 20

_SIZE: Final = re.compile(r"([0-9]{1,12})\s*(B|KB|MB|GB|KiB|MiB|GiB)?", re.IGNORECASE)
_UNITS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_ROOTS: Final = ("trigger", "steps", "env", "vars")


class Code:
    """Runs scripts in the shared sandbox."""

    spec: Final = NodeSpec(
        name="code",
        kind=NodeKind.TASK,
        aliases=("action:code", "action:script", "script"),
        title="Code",
        description="Runs JavaScript in a sandbox; the output is what it returns.",
        schema={
            "type": "object",
            "properties": {
                "script": {
                    "type": "string",
                    "x-gorax": "literal",
                    "minLength": 1,
                    "maxLength": MAX_SCRIPT,
                    "description": "The body of an async function: `return context.input.price * 2`.",
                },
                "input": {"description": "What the script finds in `context.input`."},
                "timeout": {
                    "type": ["string", "number"],
                    "format": "gorax-duration",
                    "minimum": 0,
                    "default": DEFAULT_TIMEOUT,
                    "description": "For the script, at most 60 seconds.",
                },
                "memory_limit": {
                    "type": ["string", "integer"],
                    "minimum": MIN_MEMORY,
                    "default": "64MB",
                    "description": "For the script: bytes, or text such as `64MB`; at most what the operator allows.",
                },
            },
            "required": ["script"],
            "additionalProperties": False,
        },
        retry=NO_RETRY,
        has_effects=False,
        sees_roots=True,
    )

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        try:
            timeout = min(parse_duration(config.get("timeout", DEFAULT_TIMEOUT)), MAX_TIMEOUT)
            memory = parse_size(config.get("memory_limit", DEFAULT_MEMORY))
        except ValueError as error:
            return Failed(StepError("type_error", str(error)))
        script = Script(config["script"], _context(config, context), timeout / SECOND, memory)
        try:
            return Completed(await self._sandbox.run(script))
        except ScriptFailed as failure:
            return Failed(failure.error)


def parse_size(value: Json) -> int:
    """Return the bytes that `value` names: a number, or text such as "64MB". Raises ValueError."""
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    size = int(match[1]) * _UNITS[(match[2] or "")[:1].lower()] if match else 0
    if size < MIN_MEMORY:
        raise ValueError(f'`memory_limit` must be bytes or text such as "64MB", and at least {MIN_MEMORY >> 20} MB.')
    return size


def _context(config: Mapping[str, Json], context: NodeContext) -> Mapping[str, Json]:
    """Return what the script sees: the roots of expressions, but for secrets, and its input."""
    roots = {name: value for name, value in context.roots.items() if name != "credentials"}
    empty: dict[str, Json] = {name: {} for name in _ROOTS}
    return {**empty, "trigger": context.trigger, **roots, "input": config.get("input")}
