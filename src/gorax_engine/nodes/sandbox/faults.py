"""What can go wrong with a script, as the errors that users meet: stable codes and sentences."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from gorax_engine.nodes.api import Classification, Json, StepError

MAX_MESSAGE: Final = 2_000
"""Characters of a script's own message that are kept."""

# The body stands from the third line of the function that the engine makes of it; `prelude.js` calls that.
_FRAME: Final = re.compile(r"\(<input>:([0-9]{1,9})")
_SYNTAX: Final = re.compile(r"at <input>:([0-9]{1,9})")
_CALLER: Final = "at $script ("
_LINES_BEFORE: Final = 2


class ScriptFailed(Exception):
    """The script gave no result; `error` says why."""

    def __init__(self, error: StepError) -> None:
        super().__init__(error.message)
        self.error = error


class Fault(msgspec.Struct, frozen=True):
    """What a child says of a script that failed. Nothing of it is to be trusted."""

    kind: str
    name: str
    message: str
    stack: str


def explain(fault: Fault, *, seconds: float, memory: int, most: int) -> StepError:
    """Return the error of a fault, for a script that had so much time, memory and room for its result."""
    message = _clean(fault.message)
    match fault.kind:
        case "timeout":
            return timed_out(seconds)
        case "memory":
            return StepError(
                "script_memory",
                f"The script ran out of its {memory >> 20} MiB of memory (or threw null).",
            )
        case "stack":
            return StepError("script_stack", "The script called itself too deeply.", details=_position(fault))
        case "output":
            return StepError("script_output_too_large", f"The script returned more than {most >> 20} MiB of JSON.")
        case "result":
            return StepError("script_result", f"{message}, which JSON can't hold.")
        case "unsettled":
            return StepError("script_result", "The script returned a promise that nothing will ever settle.")
        case "microtask":
            return StepError("script_error", "A microtask of the script threw an error.")
        case "syntax" | "error":
            details = _position(fault)
            where = f" in line {details['line']}" if "line" in details else ""
            name = _clean(fault.name)
            what = f"{name}: {message}" if name and message else name or message
            verb = "can't be read" if fault.kind == "syntax" else "threw"
            return StepError("script_error", f"The script {verb}{where}: {what}", details=details)
        case _:
            return crashed()


def timed_out(seconds: float) -> StepError:
    """Return the error of a script that took longer than this."""
    return StepError("script_timeout", f"The script took longer than {seconds:g} s.")


def crashed() -> StepError:
    """Return the error of a script whose process died, or said what no sound process would say."""
    return StepError(
        "script_crashed",
        "The process that ran the script died; it may have been killed for want of memory.",
        Classification.TRANSIENT,
    )


def too_large(most: int) -> StepError:
    """Return the error of a script that was to be given more than `most` bytes."""
    return StepError("script_input_too_large", f"`context` would have more than {most >> 20} MiB of JSON.")


def not_json(reason: str) -> StepError:
    """Return the error of a result that is no JSON for the engine."""
    return StepError("script_result", f"The script returned what can't be stored: {reason}")


def unavailable(reason: str) -> StepError:
    """Return the error of a script that never ran."""
    return StepError("sandbox_unavailable", f"The script did not run: {reason}", Classification.TRANSIENT)


def _position(fault: Fault) -> Mapping[str, Json]:
    found = (_SYNTAX if fault.kind == "syntax" else _FRAME).search(fault.stack.partition(_CALLER)[0])
    line = int(found[1]) - _LINES_BEFORE if found else 0
    return {"line": line} if line > 0 else {}


def _clean(text: str) -> str:
    """What Postgres can't hold, and what is beyond reason, goes."""
    text = text[:MAX_MESSAGE].replace("\0", "\ufffd")
    return text.encode("utf-8", "replace").decode()
