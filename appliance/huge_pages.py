"""Weights in huge pages: glibc is told when a process starts, and asks the kernel for them for all large memory.

The engine's unit says the same in its own words; why, and what it gains, is in `systemd/DESIGN.md`.
Source: glibc manual, "Memory Allocation Tunables".
"""

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
"""What a process that holds the model is started with."""


def start_anew() -> None:
    """Replace this process by the same command with that environment; does nothing where tunables are set already.

    For a command that measures what the service will do: allocations cannot be changed once the process runs.
    """
    if any(name in os.environ for name in ENVIRONMENT):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **ENVIRONMENT})  # noqa: S606 - ourselves, as we were called
