"""The pool: children are shared, bounded, replaced when they break or wear out, and never left behind."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from gorax_engine.nodes.api import Classification, StepError
from gorax_engine.nodes.sandbox import child, process
from gorax_engine.nodes.sandbox.faults import ScriptFailed
from gorax_engine.nodes.sandbox.pool import GRACE, MIB, Sandbox, SandboxOptions, Script
from gorax_engine.nodes.sandbox.process import Child, ChildDied

pytestmark = pytest.mark.anyio

ONE = SandboxOptions(processes=1)
# A search in a text asks nobody whether its time is up, so that only the parent can end it.
UNSTOPPABLE = "return 'a'.repeat(3e5).indexOf('a'.repeat(1e5) + 'b')"
SPIN = "for (;;);"


async def run(sandbox: Sandbox, body: str, seconds: float = 10, **context: Any) -> Any:
    return await sandbox.run(Script(body, context, seconds, 128 * MIB))


async def fail(sandbox: Sandbox, body: str, seconds: float = 10) -> StepError:
    with pytest.raises(ScriptFailed) as caught:
        await run(sandbox, body, seconds)
    return caught.value.error


def pids(sandbox: Sandbox) -> set[int]:
    return {each.pid for each in sandbox._children}


def exists(pid: int) -> bool:
    """Whether there is such a process, or its remains."""
    return Path(f"/proc/{pid}").exists()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)


async def busy(sandbox: Sandbox) -> int:
    """Wait until a child has been given a script, and return its pid."""
    await until(lambda: any(each.calls and each not in sandbox._idle for each in sandbox._children))
    return next(each.pid for each in sandbox._children if each.calls)


async def test_no_child_is_started_before_there_is_a_script_and_none_is_left() -> None:
    async with Sandbox() as sandbox:
        assert pids(sandbox) == set()
        assert await run(sandbox, "return 1") == 1
        seen = pids(sandbox)
        assert len(seen) == 1
        assert await run(sandbox, "return 2") == 2
        assert pids(sandbox) == seen
    assert not any(map(exists, seen))


async def test_fifty_at_once_share_four_children() -> None:
    most = 0
    async with Sandbox(SandboxOptions(processes=4)) as sandbox:
        results: dict[int, Any] = {}

        async def one(number: int) -> None:
            nonlocal most
            results[number] = await run(sandbox, "return ctx.input * 2", input=number)
            most = max(most, len(sandbox._children))

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(one, number)
        seen = pids(sandbox)
        assert results == {number: number * 2 for number in range(50)}
        assert most == 4
    assert not any(map(exists, seen))


async def test_a_child_that_is_killed_in_the_middle_fails_its_own_script_alone() -> None:
    async with Sandbox(SandboxOptions(processes=2)) as sandbox:
        errors: list[StepError] = []

        async def victim() -> None:
            errors.append(await fail(sandbox, SPIN))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(victim)
            pid = await busy(sandbox)
            assert await run(sandbox, "return 'unhurt'") == "unhurt"
            os.kill(pid, signal.SIGKILL)
        assert [(error.code, error.classification) for error in errors] == [
            ("script_crashed", Classification.TRANSIENT)
        ]
        assert await run(sandbox, "return 1") == 1
        await until(lambda: not exists(pid))


async def test_a_warm_child_that_died_is_replaced_unnoticed() -> None:
    async with Sandbox(ONE) as sandbox:
        for _ in range(3):
            await run(sandbox, "return 1")
            (pid,) = pids(sandbox)
            os.kill(pid, signal.SIGKILL)
            assert await run(sandbox, "return 2") == 2
            assert pid not in {each.pid for each in sandbox._idle}


async def test_a_script_that_its_engine_can_t_stop_is_killed_after_its_time() -> None:
    async with Sandbox(ONE) as sandbox:
        began = time.monotonic()
        error = await fail(sandbox, UNSTOPPABLE, seconds=0.3)
        assert 0.3 <= time.monotonic() - began < 0.3 + GRACE + 1
        assert (error.code, error.message) == ("script_timeout", "The script took longer than 0.3 s.")
        assert await run(sandbox, "return 1") == 1


async def test_the_child_of_a_cancelled_step_is_killed() -> None:
    async with Sandbox(ONE) as sandbox:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, sandbox, SPIN)
            pid = await busy(sandbox)
            tasks.cancel_scope.cancel()
        await until(lambda: not exists(pid))
        assert await run(sandbox, "return 1") == 1


async def test_cancelling_while_a_child_starts_leaves_nothing() -> None:
    async with Sandbox(ONE) as sandbox:
        for delay in (0, 0.001, 0.01, 0.02):
            with anyio.move_on_after(delay):
                await run(sandbox, SPIN)
        assert await run(sandbox, "return 1") == 1
        await until(lambda: len(sandbox._children) == 1)
    with suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)


async def test_leaving_the_pool_kills_what_still_runs() -> None:
    errors: list[StepError] = []

    async def spin(sandbox: Sandbox) -> None:
        errors.append(await fail(sandbox, SPIN))

    async with anyio.create_task_group() as tasks:
        async with Sandbox(ONE) as sandbox:
            tasks.start_soon(spin, sandbox)
            pid = await busy(sandbox)
        assert not exists(pid)
    assert [error.code for error in errors] == ["script_crashed"]


async def test_an_error_passes_through_the_pool_as_it_is() -> None:
    async def break_off() -> None:
        async with Sandbox(ONE) as sandbox:
            await run(sandbox, "return 1")
            raise KeyError

    with pytest.raises(KeyError):
        await break_off()


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (SandboxOptions(processes=1, max_calls=1), "return 1"),
        (SandboxOptions(processes=1, max_busy=0.0), "return 1"),
        (SandboxOptions(processes=1, max_growth=-1), "return 1"),
    ],
)
async def test_a_worn_child_is_replaced(options: SandboxOptions, body: str) -> None:
    async with Sandbox(options) as sandbox:
        await run(sandbox, body)
        assert sandbox._idle == []
        assert sandbox._children == set()
        assert await run(sandbox, "return 1") == 1


async def test_a_child_without_work_ends_and_the_next_script_gets_another() -> None:
    async with Sandbox(SandboxOptions(processes=2, idle=0.05)) as sandbox:
        for _ in range(2):
            await run(sandbox, "return 1")
            (pid,) = pids(sandbox)
            await until(lambda pid=pid: not exists(pid))  # type: ignore[misc]  # a default binds the loop's value
        await until(lambda: not sandbox._reaping)
        assert sandbox._idle == []


async def test_a_child_at_work_is_not_idle() -> None:
    async with Sandbox(SandboxOptions(processes=2, idle=0.02)) as sandbox:
        await run(sandbox, "return 1")
        assert await run(sandbox, "const until = Date.now() + 200; while (Date.now() < until); return 1") == 1


async def test_too_many_that_wait_are_turned_away_at_once() -> None:
    async with Sandbox(SandboxOptions(processes=1, max_waiting=1)) as sandbox, anyio.create_task_group() as tasks:
        tasks.start_soon(run, sandbox, SPIN)
        await busy(sandbox)
        tasks.start_soon(run, sandbox, SPIN)
        await until(lambda: sandbox._waiting == 1)
        error = await fail(sandbox, "return 1")
        assert (error.code, error.classification) == ("sandbox_unavailable", Classification.TRANSIENT)
        assert error.message == "The script did not run: 1 others wait for a process already."
        tasks.cancel_scope.cancel()


async def test_nobody_waits_for_a_child_for_ever() -> None:
    async with Sandbox(SandboxOptions(processes=1, max_wait=0.05)) as sandbox, anyio.create_task_group() as tasks:
        tasks.start_soon(run, sandbox, SPIN)
        await busy(sandbox)
        error = await fail(sandbox, "return 1")
        assert error.code == "sandbox_unavailable"
        assert error.message == "The script did not run: no process was free for 0.05 s."
        tasks.cancel_scope.cancel()


async def test_those_that_wait_are_served_in_order() -> None:
    async with Sandbox(ONE) as sandbox, anyio.create_task_group() as tasks:
        served: list[int] = []

        async def one(number: int) -> None:
            served.append(await run(sandbox, "return ctx.input", input=number))

        with anyio.CancelScope() as first:
            async with anyio.create_task_group() as spinning:
                spinning.start_soon(run, sandbox, SPIN)
                await busy(sandbox)
                for number in range(8):
                    tasks.start_soon(one, number)
                    await until(lambda number=number: sandbox._waiting == number + 1)  # type: ignore[misc]  # as above
                first.cancel()
    assert served == list(range(8))


async def test_a_child_that_can_t_be_started_is_an_error_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox(ONE) as sandbox:
        monkeypatch.setattr(process, "_PROGRAM", "raise SystemExit(1)")
        assert (await fail(sandbox, "return 1")).code == "sandbox_unavailable"
        monkeypatch.setattr(sys, "executable", "/nowhere")
        assert (await fail(sandbox, "return 1")).code == "sandbox_unavailable"
        monkeypatch.undo()
        assert await run(sandbox, "return 1") == 1


@pytest.mark.parametrize(
    "reply",
    [
        "b''",
        "b'v'",
        "REPLY.pack(b'v', 1 << 31)",
        "REPLY.pack(b'v', 1) + b'1' + b'more'",
        "REPLY.pack(b'f', 1) + b'1'",
        "REPLY.pack(b'f', 2) + b'{}'",
        """REPLY.pack(b'f', 50) + b'{"kind":"?","name":"","message":"","stack":""}'.ljust(50)""",
        """REPLY.pack(b'?', 1) + b'1'""",
    ],
)
async def test_a_child_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch, reply: str) -> None:
    program = f"""import sys, os; sys.path[:0] = sys.argv[2:]
from gorax_engine.nodes.sandbox.child import *
os.write(1, REPLY.pack(READY, 0)); os.read(0, 1 << 16); os.write(1, {reply})"""
    monkeypatch.setattr(process, "_PROGRAM", program)
    async with Sandbox(ONE) as sandbox:
        assert (await fail(sandbox, "return 1")).code == "script_crashed"


async def test_a_child_ends_when_its_input_does() -> None:
    running = await Child.start(32 * MIB)
    pid = running.pid
    await running._in.aclose()
    with anyio.fail_after(5):
        assert await running._process.wait() == 0
    with pytest.raises(ChildDied):
        await running.ask(child.REQUEST.pack(0, 0, 1.0, 1, 1), 1)
    await running.close()
    assert not exists(pid)
