"""What code that has broken out of the engine could do in a child: nothing. Python itself plays the intruder."""

import json
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gorax_engine.nodes.sandbox import guards
from gorax_engine.nodes.sandbox.process import _import_roots

SOURCE = Path(guards.__file__).parents[3]

INTRUDER = """
import sys
sys.path[:0] = sys.argv[1:]
import json, mmap, os, resource, signal, socket, subprocess, threading, ctypes
from gorax_engine.nodes.sandbox import guards
missing = guards.give_up(32 << 20)
got = {}
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, act):
    try:
        act()
        got[name] = "done"
    except BaseException as error:
        got[name] = type(error).__name__
def system_call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
attempt("read a file", lambda: os.open("/etc/passwd", os.O_RDONLY))
attempt("write a file", lambda: os.open("/tmp/intruder", os.O_CREAT | os.O_WRONLY))
attempt("list a folder", lambda: os.listdir("/"))
attempt("connect", lambda: socket.socket())
attempt("unix socket", lambda: socket.socketpair())
attempt("fork", os.fork)
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("thread", lambda: threading.Thread(target=print).start())
attempt("signal the parent", lambda: os.kill(os.getppid(), 0))
attempt("executable memory", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
attempt("much memory", lambda: bytearray(1 << 30))
attempt("raise a limit", lambda: resource.setrlimit(resource.RLIMIT_CPU, (1, 1)))
attempt("trace", lambda: system_call(101, 0, 0, 0, 0))
attempt("user namespace", lambda: system_call(272, 0x10000000))
attempt("io_uring", lambda: system_call(425, 1, 0))
attempt("x32", lambda: system_call(0x40000000 + 39))
attempt("memory", lambda: bytearray(1 << 20))
attempt("randomness", lambda: os.urandom(8))
os.write(1, json.dumps([missing, got, dict(os.environ)]).encode())
"""


@pytest.fixture(scope="module")
def intrusion() -> tuple[list[str], dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", INTRUDER, str(SOURCE)], env={}, capture_output=True, check=True
    )
    missing, got, environment = json.loads(done.stdout)
    assert set(environment) <= {"LC_CTYPE"}
    return missing, got


def test_this_system_has_every_guard(intrusion: tuple[list[str], dict[str, str]]) -> None:
    assert intrusion[0] == []


def test_an_intruder_can_do_nothing_but_compute(intrusion: tuple[list[str], dict[str, str]]) -> None:
    got = intrusion[1]
    allowed = {name for name, result in got.items() if result == "done"}
    assert allowed == {"memory", "randomness"}
    assert got.pop("much memory") == "MemoryError"
    assert got.pop("thread") == "RuntimeError"
    assert got.pop("raise a limit") == "ValueError"
    assert {result for name, result in got.items() if name not in allowed} <= {"PermissionError", "OSError"}


def test_a_guard_that_a_system_lacks_is_named_and_the_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing real is given up here: the test process is to live on.
    applied: list[object] = []

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(guards, "_limit", applied.append)
    monkeypatch.setattr(guards, "_prctl", lambda *_: applied.append(1))
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert guards.give_up(5) == ["system_call_filter"]
    assert applied == [5, 1, 1, 1]
    monkeypatch.setattr(guards, "_limit", refuse)
    assert guards.give_up(5) == ["limits", "system_call_filter"]


@pytest.mark.parametrize("machine", sorted(guards._NUMBERS))
def test_the_filter_decides_as_it_says(machine: str) -> None:
    architecture, numbers = guards._ARCHITECTURES[machine], guards._NUMBERS[machine]
    code = guards.assemble(architecture, numbers)
    allowed, refused = guards._ALLOW, guards._REFUSE
    for number in range(512):
        for protection in (0, 3, 4, 7):
            expected = number in numbers[:-2] or (number in numbers[-2:] and not protection & 4)
            assert judge(code, architecture, number, protection) == (allowed if expected else refused)
    assert judge(code, architecture ^ 1, numbers[0], 0) == refused
    assert judge(code, architecture, numbers[0] | 0x40000000, 0) == refused


def judge(code: bytes, architecture: int, number: int, protection: int) -> int:
    """Run a filter as the kernel does."""
    data = {0: number, 4: architecture, 32: protection}
    program = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    at = accumulator = 0
    while True:
        operation, if_true, if_false, operand = program[at]
        at += 1
        if operation == guards._LOAD:
            accumulator = data[operand]
        elif operation == guards._RETURN:
            assert isinstance(operand, int)
            return operand
        else:
            true = accumulator == operand if operation == guards._JUMP_IF_EQUAL else accumulator & operand
            at += if_true if true else if_false


def test_a_child_imports_the_standard_library_and_its_engine_only() -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; from gorax_engine.nodes.sandbox import child; import _quickjs;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program, *_import_roots()], env={}, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == ["__main__", "_quickjs", "gorax_engine"]
