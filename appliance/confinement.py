"""Shuts the calling process in for good: it may compute and use the descriptors it holds, and nothing else.

Afterwards it opens no file, starts no process, signals nobody and makes no memory executable; one that decodes has no
sockets but its own, one that serves may take and use connections, and neither makes one to anywhere. Calls outside the
list fail with EPERM, so that a library's lazy import becomes an ordinary error and not a dead worker.
Source: seccomp(2), bpf(4) (classic filters), prctl(2), setrlimit(2); numbers from asm/unistd_64.h and
asm-generic/unistd.h.
"""

import ctypes
import errno
import os
import platform
import resource
import socket
import struct
from typing import Final, NamedTuple

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_PR_SET_DUMPABLE: Final = 4
_SECCOMP_MODE_FILTER: Final = 2
_PROT_EXEC: Final = 4
_MSG_FASTOPEN: Final = 0x20000000
"""With it, sending on a closed TCP socket connects it to anywhere (tcp(7))."""
_FIONBIO, _FIOCLEX = 0x5421, 0x5451
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_REFUSE: Final = 0x00050000 | errno.EPERM
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT, _ARGUMENT_BYTES = 0, 4, 16, 8
"""Offsets in bytes of `struct seccomp_data`; the low half of an argument comes first on both machines below."""


class _Unless(NamedTuple):
    """A call that is allowed unless an argument has any of these bits."""

    call: int
    argument: int
    bits: int


class _Only(NamedTuple):
    """A call that is allowed only when an argument is one of these."""

    call: int
    argument: int
    values: tuple[int, ...]


class _Calls(NamedTuple):
    free: tuple[int, ...]
    judged: tuple[_Unless | _Only, ...]


class _Machine(NamedTuple):
    audit_architecture: int
    computing: _Calls
    serving: _Calls
    """What a process that serves connections needs besides."""


_OPTIONS: Final = (socket.SO_LINGER, socket.TCP_NODELAY)
"""All that the front sets on a connection."""
_MACHINES: Final = {
    # read write close fstat lseek munmap brk rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap madvise exit
    # sigaltstack gettid futex restart_syscall clock_gettime exit_group getrandom; mmap mprotect
    # accept accept4 getsockname getpeername recvfrom recvmsg getsockopt shutdown socketpair epoll_ctl epoll_wait
    # epoll_pwait poll ppoll writev getpid; sendto sendmsg setsockopt ioctl
    "x86_64": _Machine(
        0xC000003E,
        _Calls(
            (0, 1, 3, 5, 8, 11, 12, 13, 14, 15, 24, 25, 28, 60, 131, 186, 202, 219, 228, 231, 318),
            (_Unless(9, 2, _PROT_EXEC), _Unless(10, 2, _PROT_EXEC)),
        ),
        _Calls(
            (43, 288, 51, 52, 45, 47, 55, 48, 53, 233, 232, 281, 7, 271, 20, 39),
            (
                *(_Unless(44, 3, _MSG_FASTOPEN), _Unless(46, 2, _MSG_FASTOPEN)),
                *(_Only(54, 2, _OPTIONS), _Only(16, 1, (_FIONBIO, _FIOCLEX))),
            ),
        ),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        _Calls(
            (63, 64, 57, 80, 62, 215, 214, 134, 135, 139, 124, 216, 233, 93, 132, 178, 98, 128, 113, 94, 278),
            (_Unless(222, 2, _PROT_EXEC), _Unless(226, 2, _PROT_EXEC)),
        ),
        _Calls(
            (202, 242, 204, 205, 207, 212, 209, 210, 199, 21, 22, 73, 66, 172),
            (
                *(_Unless(206, 3, _MSG_FASTOPEN), _Unless(211, 2, _MSG_FASTOPEN)),
                *(_Only(208, 2, _OPTIONS), _Only(29, 1, (_FIONBIO, _FIOCLEX))),
            ),
        ),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine(*, memory_bytes: int, cpu_s: int) -> bool:
    """Shut this process in to compute; there is no way back.

    Args:
        memory_bytes: Largest address space.
        cpu_s: Seconds of processor time until the kernel ends it.

    Returns:
        Whether system calls are filtered too. False on a processor whose call numbers are not known here: then the
        limits on memory, time, files and processes hold, and nothing more.

    Raises:
        OSError: The kernel refused.
    """
    # Nothing new can be opened: the lowest free number is already over the limit.
    _limit({resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_CPU: cpu_s, resource.RLIMIT_NOFILE: 0})
    return _filter_calls(is_serving=False)


def confine_server(*, memory_bytes: int, descriptors: int) -> bool:
    """Shut this process in to serve the sockets that it holds and the connections that come in through them.

    It takes connections, sends and receives, and passes on ends of socket pairs; it makes no other socket, and neither
    connects nor names one.

    Args:
        memory_bytes: Largest address space.
        descriptors: Most descriptors at a time.

    Returns:
        Whether system calls are filtered too, as for `confine`.

    Raises:
        OSError: The kernel refused.
    """
    _limit({resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_NOFILE: descriptors})
    return _filter_calls(is_serving=True)


def _limit(limits: dict[int, int]) -> None:
    nothing = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_NPROC: 0}
    for limit, value in {**limits, **nothing}.items():
        resource.setrlimit(limit, (value, value))


def _filter_calls(*, is_serving: bool) -> bool:
    library = ctypes.CDLL(None, use_errno=True)
    _prctl(library, _PR_SET_DUMPABLE, 0)
    _prctl(library, _PR_SET_NO_NEW_PRIVS, 1)
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    instructions = _filter(machine, [machine.computing, *([machine.serving] if is_serving else [])])
    program = _Program(len(instructions) // 8, instructions)
    _prctl(library, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))
    return True


def _filter(machine: _Machine, groups: list[_Calls]) -> bytes:
    """Assemble the filter: another architecture's calls kill, listed ones pass, the rest get EPERM."""
    code = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, machine.audit_architecture, if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    for number in (number for group in groups for number in group.free):
        code += [_instruction(_JUMP_EQUAL, number, if_false=1), _instruction(_RETURN, _ALLOW)]
    for rule in (rule for group in groups for rule in group.judged):
        judgement = _judgement(rule)
        code += [_instruction(_JUMP_EQUAL, rule.call, if_false=len(judgement)), *judgement]
    return b"".join([*code, _instruction(_RETURN, _REFUSE)])


def _judgement(rule: _Unless | _Only) -> list[bytes]:
    code = [_instruction(_LOAD, _ARGUMENTS_AT + _ARGUMENT_BYTES * rule.argument)]
    refuse, allow = _instruction(_RETURN, _REFUSE), _instruction(_RETURN, _ALLOW)
    if isinstance(rule, _Unless):
        return [*code, _instruction(_JUMP_ANY_BIT, rule.bits, if_false=1), refuse, allow]
    for value in rule.values:
        code += [_instruction(_JUMP_EQUAL, value, if_false=1), allow]
    return [*code, refuse]


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """One `struct sock_filter`: u16 code, u8 and u8 jumps, u32 value."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _prctl(library: ctypes.CDLL, option: int, *arguments: object) -> None:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    if library.prctl(option, *(ctypes.c_ulong(a) if isinstance(a, int) else a for a in padded)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
