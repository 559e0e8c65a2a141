"""Run a command under the system call and memory rules of a unit file, as systemd would, without it as process 1.

    python seccomp.py UNIT COMMAND [ARGUMENT ...]

Source: systemd.exec(5), `SystemCallFilter=` and `SystemCallErrorNumber=`; seccomp_rule_add(3). Only plain lists and
`~` lists are read, which is what our units use. `MemoryDenyWriteExecute=` is PR_SET_MDWE (Linux 6.3), which it asks
for where it can.
"""

import ctypes
import ctypes.util
import errno
import os
import subprocess
import sys
from pathlib import Path

_ALLOW = 0x7FFF0000
_DENY_WITH_ERRNO = 0x00050000
_PR_SET_MDWE = 65
_PR_MDWE_REFUSE_EXEC_GAIN = 1


def allowed_calls(unit: Path) -> frozenset[str]:
    """Resolve the filter lines of a unit in their order into the names of allowed calls."""
    allowed: set[str] = set()
    for line in unit.read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            value = line.removeprefix("SystemCallFilter=")
            names = {call for name in value.removeprefix("~").split() for call in _expanded(name)}
            allowed = allowed - names if value.startswith("~") else allowed | names
    return frozenset(allowed | _expanded("@default"))


def forbid_writable_code() -> bool:
    """Refuse this process memory that was ever writable as code; False where the kernel is too old."""
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0)


def restrict_to(names: frozenset[str]) -> None:
    """Let this process and what it starts use only these system calls; others fail with EPERM."""
    library = ctypes.CDLL(ctypes.util.find_library("seccomp"), use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_DENY_WITH_ERRNO | errno.EPERM))
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # negative: a call of another architecture
            library.seccomp_rule_add(context, _ALLOW, number, 0)
    # libseccomp sets no_new_privs, as NoNewPrivileges=yes does.
    if library.seccomp_load(context) != 0:
        raise OSError(ctypes.get_errno(), "seccomp_load failed")


def _expanded(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    listing = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True)
    entries = [line.strip() for line in listing.stdout.splitlines()[1:]]
    return {call for entry in entries if entry and not entry.startswith("#") for call in _expanded(entry)}


if __name__ == "__main__":
    unit = Path(sys.argv[1])
    if "\nMemoryDenyWriteExecute=yes\n" in unit.read_text():
        forbid_writable_code()
    restrict_to(allowed_calls(unit))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # becoming the command is the point
