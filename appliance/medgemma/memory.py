"""Memory that this process holds and no longer needs, given back to the kernel.

Two kinds. Pages of the bundle's files that were only read while it was opened: ONNX Runtime maps the weights and packs
most of them anew into memory of its own; scales stay mapped though no kernel reads them again. They stay in the page
cache and come back by themselves if anything does. And heap that libraries have freed, which glibc keeps: 182 MB after
reading Gemma's tokenizer, which later allocations of a running engine would use again.
Source: madvise(2), MADV_DONTNEED on a private mapping of a file; proc_pid_maps(5); malloc_trim(3).
"""

import ctypes
import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import numpy as np

logger = logging.getLogger(__name__)

_MADV_DONTNEED: Final = 4
_ENTRY_BYTES: Final = 8
_PRESENT, _SWAPPED, _FILE_PAGE = (np.uint64(1 << bit) for bit in (63, 62, 61))
"""Flags of a page in /proc/self/pagemap. Source: kernel documentation, admin-guide/mm/pagemap.rst."""


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
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            for line in lines:
                addresses, _, _, _, _, *path = line.split(maxsplit=5)
                if not path or not Path(path[0]).is_relative_to(folder):
                    continue
                start, end = (int(address, 16) for address in addresses.split("-"))
                if not _is_written(pagemap, start, end):
                    yield start, end - start
    except OSError as error:
        logger.debug("no pages given back: %s", error.strerror)


def _is_written(pagemap: IO[bytes], start: int, end: int) -> bool:
    """Whether a page of a mapping was written to: it is anonymous memory by now, and would lose what was written."""
    pagemap.seek(start // mmap.PAGESIZE * _ENTRY_BYTES)
    entries = np.frombuffer(pagemap.read((end - start) // mmap.PAGESIZE * _ENTRY_BYTES), dtype=np.uint64)
    of_file = (entries & _PRESENT == 0) | (entries & _FILE_PAGE != 0)
    return not bool(np.all(of_file & (entries & _SWAPPED == 0)))
