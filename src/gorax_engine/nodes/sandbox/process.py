"""One child as the parent sees it: it is started, asked one thing at a time, and killed when it isn't needed."""

import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final, Self

import anyio
import anyio.abc

from gorax_engine.nodes.sandbox import child

START_TIMEOUT: Final = 20.0
"""Seconds: far more than a child needs on a busy machine."""
CLOSE_TIMEOUT: Final = 10.0

_PROGRAM: Final = "import sys; sys.path[:0] = sys.argv[2:]; from gorax_engine.nodes.sandbox.child import main; main()"
_CHUNK: Final = 1 << 20
_PAGE: Final = os.sysconf("SC_PAGESIZE")


class ChildDied(Exception):
    """The child is gone, or doesn't keep to the protocol."""


class Child:
    """A running child.

    `missing` names the guards that its system doesn't have, `grown_from` is the memory that it held when it was new,
    `calls` and `busy` (seconds) count its work; `idle_since` is the pool's.
    """

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._in = process.stdin
        self._out = process.stdout
        self.missing: tuple[str, ...] = ()
        self.calls = 0
        self.busy = 0.0
        self.grown_from = 0
        self.idle_since = 0.0

    @classmethod
    async def start(cls, heap: int) -> Self:
        """Start a child for scripts of at most `heap` bytes. Raises ChildDied and OSError."""
        command = [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, str(heap), *_import_roots()]
        process = await anyio.open_process(
            command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd="/", env={}, start_new_session=True
        )
        self = cls(process)
        try:
            with anyio.fail_after(START_TIMEOUT):
                kind, payload = await self._receive(4096)
            if kind != child.READY:
                raise ChildDied
        except BaseException as error:
            self.kill()
            await self.close()
            if isinstance(error, TimeoutError):
                raise ChildDied from None
            raise
        self.missing = tuple(payload.decode("ascii", "replace").split())
        self.grown_from = self.resident()
        return self

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def resident(self) -> int:
        """Return how many bytes of memory the child holds; 0 where the system doesn't say. Reading it takes 10 µs."""
        try:
            with Path(f"/proc/{self.pid}/statm").open(encoding="ascii") as statm:
                return int(statm.read().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0

    async def ask(self, request: bytes, most: int) -> tuple[bytes, bytes]:
        """Send a request, and return the kind and the payload, of at most `most` bytes, of the reply.

        Raises ChildDied. After that, and after cancellation, the child is of no more use.
        """
        self.calls += 1
        try:
            await self._in.send(request)
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ChildDied from None
        return await self._receive(most)

    def kill(self) -> None:
        """Kill the process, if there still is one."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Wait until the process is gone, and close the pipes to it. Not to be cancelled: it would leave a zombie."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
            await self._process.aclose()

    async def _receive(self, most: int) -> tuple[bytes, bytes]:
        buffer = bytearray()
        await self._fill(buffer, child.REPLY.size)
        kind, size = child.REPLY.unpack_from(buffer)
        if size > most:
            raise ChildDied
        await self._fill(buffer, child.REPLY.size + size)
        if len(buffer) != child.REPLY.size + size:
            raise ChildDied
        return kind, bytes(memoryview(buffer)[child.REPLY.size :])

    async def _fill(self, buffer: bytearray, size: int) -> None:
        while len(buffer) < size:
            try:
                buffer += await self._out.receive(_CHUNK)
            except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise ChildDied from None


def _import_roots() -> list[str]:
    """Return the folders that a child imports from, besides the standard library."""
    engine = find_spec("_quickjs")
    if engine is None or engine.origin is None:
        raise ChildDied
    roots = (str(Path(__file__).parents[3]), str(Path(engine.origin).parent))
    return list(dict.fromkeys(roots))
