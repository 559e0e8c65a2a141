"""Shuts the calling process in for good: it may compute and use the descriptors it holds, and nothing else.

Afterwards it opens no file, makes no socket, starts no process, signals nobody and makes no memory executable. Calls
outside the list fail with EPERM, so that a library's lazy import becomes an ordinary error and not a dead worker.
Source: seccomp(2), bpf(4) (classic filters), prctl(2), setrlimit(2); numbers from asm/unistd_64.h and
asm-generic/unistd.h.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
from typing import Final, NamedTuple

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_PR_SET_DUMPABLE: Final = 4
_SECCOMP_MODE_FILTER: Final = 2
_PROT_EXEC: Final = 4
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_REFUSE: Final = 0x00050000 | errno.EPERM
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _THIRD_ARGUMENT_AT = 0, 4, 32
"""Offsets in bytes of `struct seccomp_data`; the low half of an argument comes first on both machines below."""


class _Machine(NamedTuple):
    audit_architecture: int
    calls: tuple[int, ...]
    mapping_calls: tuple[int, ...]
    """mmap and mprotect: allowed unless they ask for executable memory."""


_MACHINES: Final = {
    # read write close fstat lseek munmap brk rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap madvise exit
    # sigaltstack gettid futex restart_syscall clock_gettime exit_group getrandom
    "x86_64": _Machine(
        0xC000003E, (0, 1, 3, 5, 8, 11, 12, 13, 14, 15, 24, 25, 28, 60, 131, 186, 202, 219, 228, 231, 318), (9, 10)
    ),
    "aarch64": _Machine(
        0xC00000B7,
        (63, 64, 57, 80, 62, 215, 214, 134, 135, 139, 124, 216, 233, 93, 132, 178, 98, 128, 113, 94, 278),
        (222, 226),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine(*, memory_bytes: int, cpu_s: int) -> bool:
    """Shut this process in; there is no way back.

    Args:
        memory_bytes: Largest address space.
        cpu_s: Seconds of processor time until the kernel ends it.

    Returns:
        Whether system calls are filtered too. False on a processor whose call numbers are not known here: then the
        limits on memory, time, files and processes hold, and nothing more.

    Raises:
        OSError: The kernel refused.
    """
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
        # Nothing new can be opened: the lowest free number is already over the limit.
        resource.RLIMIT_NOFILE: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    library = ctypes.CDLL(None, use_errno=True)
    _prctl(library, _PR_SET_DUMPABLE, 0)
    _prctl(library, _PR_SET_NO_NEW_PRIVS, 1)
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    instructions = _filter(machine)
    program = _Program(len(instructions) // 8, instructions)
    _prctl(library, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))
    return True


def _filter(machine: _Machine) -> bytes:
    """Assemble the filter: another architecture's calls kill, listed ones pass, the rest get EPERM."""
    refuse = _instruction(_RETURN, _REFUSE)
    code = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, machine.audit_architecture, if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    for number in machine.calls:
        code += [_instruction(_JUMP_EQUAL, number, if_false=1), _instruction(_RETURN, _ALLOW)]
    for number in machine.mapping_calls:
        code += [
            _instruction(_JUMP_EQUAL, number, if_false=4),
            _instruction(_LOAD, _THIRD_ARGUMENT_AT),
            _instruction(_JUMP_ANY_BIT, _PROT_EXEC, if_false=1),
            refuse,
            _instruction(_RETURN, _ALLOW),
        ]
    return b"".join([*code, refuse])


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """One `struct sock_filter`: u16 code, u8 and u8 jumps, u32 value."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _prctl(library: ctypes.CDLL, option: int, *arguments: object) -> None:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    if library.prctl(option, *(ctypes.c_ulong(a) if isinstance(a, int) else a for a in padded)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
