"""Memory that this process holds and no longer needs, given back to the kernel.

Two kinds. Pages of the bundle's files that were only read while it was opened: ONNX Runtime maps the weights and packs
most of them anew into memory of its own; scales stay mapped though no kernel reads them again. They stay in the page
cache and come back by themselves if anything does. And heap that libraries have freed, which glibc keeps: reading
Gemma's tokenizer leaves 182 MB of it.
Source: madvise(2), MADV_DONTNEED on a private mapping of a file; proc_pid_smaps(5); malloc_trim(3).
"""

import ctypes
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_MADV_DONTNEED: Final = 4
_MAPPING: Final = re.compile(
    r"^(?P<addresses>[0-9a-f]+-[0-9a-f]+) \S+ \S+ \S+ \d+ +(?P<path>/[^\n]*)\n(?P<facts>(?:[A-Z][^\n]*\n)+)",
    re.MULTILINE,
)


def give_back_mapped_pages(folder: Path) -> int:
    """Give back the pages of every file below a folder that this process maps without having changed them.

    Returns:
        Bytes of address space that were given back; 0 where the system has no /proc.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    total = 0
    for start, size in _mappings(folder.resolve()):
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_DONTNEED) == 0:
            total += size
        else:
            logger.debug("pages kept: %s", os.strerror(ctypes.get_errno()))
    return total


def give_back_freed_heap() -> None:
    """Give back what libraries have freed; nothing where the C library is another one than glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _mappings(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield start and size of each mapping of a file below a folder that is as the file is."""
    try:
        text = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for mapping in _MAPPING.finditer(text):
        # A page that was written to would lose what was written: it is anonymous memory by now.
        if Path(mapping["path"]).is_relative_to(folder) and "\nAnonymous:             0 kB\n" in mapping["facts"]:
            start, end = (int(address, 16) for address in mapping["addresses"].split("-"))
            yield start, end - start
