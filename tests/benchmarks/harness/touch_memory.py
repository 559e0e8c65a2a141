"""`python -m harness.touch_memory BYTES`: write to that much memory and end.

The host of a virtual machine takes back memory that nothing uses, and pays it out again at 1.4 s a GB; a box has its
own. Without this, whoever starts first after much was freed pays for all of it: our start took 5.2 to 7.2 s so, and
3.5 to 4.0 s after touching, four of each in turn (2026-11-23).
"""

import mmap
import sys
from typing import Final

_STEP_BYTES: Final = 64 << 20


def main() -> None:
    """Touch every page once; all of it goes back when this process ends."""
    left = int(sys.argv[1])
    page = b"\1" * mmap.PAGESIZE
    kept = []
    while left > 0:
        kept.append(mmap.mmap(-1, min(_STEP_BYTES, left), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        for _ in range(len(kept[-1]) // mmap.PAGESIZE):
            kept[-1].write(page)
        left -= _STEP_BYTES


if __name__ == "__main__":
    main()
