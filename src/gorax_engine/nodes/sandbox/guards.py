"""What a child gives up before it sees a script: files, sockets, processes, signals, more memory, more privileges.

Runs in the child, and imports the standard library only. Each guard is tried by itself; those that this system doesn't
have are named to the parent. The system call filter is the strongest: of all calls of the kernel it leaves those that a
computation needs, so that even code that has broken out of the engine can open, connect, start or signal nothing.
"""

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Callable
from typing import Final

CPU_SECONDS: Final = 900
"""What a child may use in its life; the parent retires it long before."""
STACK_BYTES: Final = 16 << 20
RESERVE: Final = 192 << 20
"""Address space beside the heap of a script: for frames, copies of results and what the interpreter takes itself."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9
_EPERM: Final = 1

# Of linux/seccomp.h, linux/bpf_common.h and linux/audit.h.
_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | _EPERM
_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_AT_NUMBER: Final = 0
_AT_ARCHITECTURE: Final = 4
_AT_THIRD_ARGUMENT: Final = 32
_PROT_EXEC: Final = 4

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# read write close munmap brk rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap madvise exit gettimeofday
# getrusage futex restart_syscall clock_gettime exit_group getrandom; mmap mprotect, which may not make code of memory.
_NUMBERS: Final = {
    "x86_64": (0, 1, 3, 11, 12, 13, 14, 15, 24, 25, 28, 60, 96, 98, 202, 219, 228, 231, 318, 9, 10),
    "aarch64": (63, 64, 57, 215, 214, 134, 135, 139, 124, 216, 233, 93, 169, 165, 98, 128, 113, 94, 278, 222, 226),
}


def give_up(heap: int) -> list[str]:
    """Apply every guard that this system has, for scripts of at most `heap` bytes; return the names of the others."""
    guards: list[tuple[str, Callable[[], None]]] = [
        ("limits", lambda: _limit(heap)),
        ("parent_death_signal", lambda: _prctl(_PR_SET_PDEATHSIG, _SIGKILL)),
        ("not_dumpable", lambda: _prctl(_PR_SET_DUMPABLE, 0)),
        ("no_new_privileges", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1)),
        ("system_call_filter", _filter_system_calls),
    ]
    missing = []
    for name, apply in guards:
        try:
            apply()
        except (OSError, ValueError, AttributeError, KeyError):
            missing.append(name)
    return missing


def _limit(heap: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - importing pathlib would cost each child 2 MB
        size = int(statm.read().split()[0]) * resource.getpagesize()
    space = size + heap + RESERVE
    for what, most in (
        (resource.RLIMIT_STACK, STACK_BYTES),
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _prctl(option: int, argument: int, pointer: object = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, ctypes.c_ulong(argument), pointer or zero, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter_system_calls() -> None:
    machine = platform.machine()
    code = assemble(_ARCHITECTURES[machine], _NUMBERS[machine])
    program = _Program(len(code) // 8, code)
    _prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program))


def assemble(architecture: int, numbers: tuple[int, ...]) -> bytes:
    """Return the filter as a BPF program: other architectures and calls are refused with EPERM.

    `numbers` are those of the calls; the last two are allowed if their third argument doesn't ask for execution.
    """
    plain, mapping = numbers[:-2], numbers[-2:]
    # After the tests of numbers come, in this order: refuse, allow, and the test of the third argument.
    tests = len(numbers)
    program = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 0, 1 + tests, architecture),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    program += [(_JUMP_IF_EQUAL, tests - index, 0, number) for index, number in enumerate(plain)]
    program += [(_JUMP_IF_EQUAL, 4 - index, 0, number) for index, number in enumerate(mapping, 1)]
    program += [
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _AT_THIRD_ARGUMENT),
        (_JUMP_IF_ANY_BIT, 0, 1, _PROT_EXEC),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
