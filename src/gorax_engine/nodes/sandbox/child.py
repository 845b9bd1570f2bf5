"""The program of a child: reads scripts from its standard input, runs each in a fresh context, writes what came of it.

It imports the standard library, the engine and `guards` only, so that a child is small and starts soon. A frame is a
fixed head and a payload; both sides bound its size. Whatever a child writes is judged by the parent as coming from an
enemy.
"""

import os
import sys
import time
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from gorax_engine.nodes.sandbox import guards

REQUEST: Final = Struct("!IIdIQ")
"""Bytes of the script and of its context, its time in seconds, the most bytes of its result, its memory in bytes.

Both follow. The context is lines of JSON: first a list of names, then the value of each.
"""
REPLY: Final = Struct("!cI")
"""Kind, and bytes of the payload, which follows."""
READY: Final = b"r"
"""Payload: the names of the guards that are missing, separated by spaces."""
VALUE: Final = b"v"
"""Payload: the result as JSON."""
FAULT: Final = b"f"
"""Payload: JSON {kind, name, message, stack}."""

JS_STACK: Final = 4 << 20
"""About 2,000 calls deep."""
SPARE_MEMORY: Final = 4 << 20

# What `poll` of prelude.js gives back besides JSON.
_PENDING: Final = 0
_TOO_LARGE: Final = 1
_FAILED: Final = 2

_STDIN: Final = 0
_STDOUT: Final = 1


class _Expired(Exception):
    """The time of the script is used up."""


def main() -> None:
    """Serve until the input ends. Arguments: the most bytes of heap that a script may ask for."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    import _quickjs as engine  # type: ignore[import-not-found]  # it has no types, and only children have it

    prelude, explain = _source("prelude.js"), f"({_source('explain.js')})"
    prepared = _prepare(engine, prelude)
    missing = guards.give_up(int(sys.argv[1]))
    _write(READY, " ".join(missing).encode())
    while head := _read(REQUEST.size):
        script_size, context_size, seconds, most, memory = REQUEST.unpack(head)
        arguments = [_read(script_size).decode(), *_read(context_size).decode().split("\n")]
        kind, payload = _run(engine, prepared, explain, arguments, seconds, most, memory)
        _write(kind, payload)
        # Dropped before the next is made, so that two are never held; and both while the parent is busy elsewhere.
        del prepared, arguments, payload
        prepared = _prepare(engine, prelude)


def _source(name: str) -> str:
    folder = os.path.dirname(__file__)  # noqa: PTH120 - as in guards, no pathlib
    with open(f"{folder}/{name}", encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def _prepare(engine: Any, prelude: str) -> tuple[Any, Any]:
    context = engine.Context()
    context.set_max_stack_size(JS_STACK)
    return context, context.eval(prelude)


def _run(
    engine: Any, prepared: tuple[Any, Any], explain: str, arguments: list[str], seconds: float, most: int, memory: int
) -> tuple[bytes, bytes]:
    """Return the kind and payload of the reply."""
    context, start = prepared
    until = time.process_time() + seconds

    def call(function: Callable[..., Any], *given: object) -> Any:
        # The engine's clock counts from each call on; a chain of promises is many.
        left = until - time.process_time()
        if left <= 0:
            raise _Expired
        context.set_time_limit(left)
        return function(*given)

    context.set_memory_limit(memory)
    try:
        poll = call(start, *arguments)
        while (result := call(poll, most)) == _PENDING:
            if not call(context.execute_pending_job):
                return _fault("unsettled")
        kind = VALUE
        if result == _FAILED:
            # A script that failed with its memory full may yet say why.
            context.set_memory_limit(memory + SPARE_MEMORY)
            kind, result = FAULT, call(poll, most, call(context.eval, explain))
    except _Expired:
        return _fault("timeout")
    except engine.StackOverflow:
        return _fault("stack")
    except (engine.JSException, MemoryError) as error:
        return _fault(_kind(error))
    if result == _TOO_LARGE:
        return _fault("output")
    payload: bytes = result.encode("utf-8", "replace")
    return (kind, payload) if kind == FAULT or len(payload) <= most else _fault("output")


def _kind(error: Exception) -> str:
    """Return what an exception means that left the engine: out of memory, out of time, or thrown by a microtask."""
    message = str(error)
    if isinstance(error, MemoryError) or message.startswith(("InternalError: out of memory", "null")):
        return "memory"
    return "timeout" if message.startswith("InternalError: interrupted") else "microtask"


def _fault(kind: str) -> tuple[bytes, bytes]:
    return FAULT, b'{"kind":"%b","name":"","message":"","stack":""}' % kind.encode()


def _read(size: int) -> bytes:
    """Return so many bytes of the input, or none if it has ended."""
    parts = []
    while size:
        part = os.read(_STDIN, min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(kind: bytes, payload: bytes) -> None:
    frame = memoryview(REPLY.pack(kind, len(payload)) + payload)
    while frame:
        frame = frame[os.write(_STDOUT, frame) :]
